// The mixed operator (Eq. 1 of the paper) and the softmax that weighs it; sums of cotangents.
// Formulas: src/ops/mixed.rs and src/tape/accumulate.rs.
// Backward of the weighted sum are scaled copies and one dot product for each term, in two stages.
#include "common/kernel.cuh"

constexpr unsigned MAX_TERMS = 16;  // of src/ops/mixed.rs

template <class T>
struct Softmax {
  const T* v;  // [rows, k]; backward: the output y
  const T* g;  // [rows, k], cotangent; forward: null
  T* y;        // [rows, k]
  unsigned rows, k;
};

template <class T>
struct WeightedSum {
  const T* x[MAX_TERMS];  // [n]
  const T* w;             // [count], null for plain sums
  T* y;                   // [n]
  unsigned n, count;
  unsigned onto, unused;  // whether y is the first term
};

template <class T>
struct ScaleByElement {
  const T* w;  // [..]
  const T* x;  // [n]
  T* y;        // [n]
  unsigned n, index;
};

template <class T>
struct Dots {
  const T* x[MAX_TERMS];  // [n]
  const T* g;             // [n]
  float* partials;        // [count, parts]
  T* y;                   // [count]
  unsigned n, count, parts, unused;
};

template <class T>
DEVICE void softmax_forward(const Softmax<T>& p) {
  for (unsigned r = grid_index(); r < p.rows; r += grid_size()) {
    const T* v = p.v + (size_t)r * p.k;
    T* y = p.y + (size_t)r * p.k;
    float most = load(&v[0]), sum = 0.0f;
    for (unsigned i = 1; i < p.k; ++i) most = fmaxf(most, load(&v[i]));
    for (unsigned i = 0; i < p.k; ++i) sum += expf(load(&v[i]) - most);
    for (unsigned i = 0; i < p.k; ++i) store(&y[i], expf(load(&v[i]) - most) / sum);
  }
}

// Differences first: where one entry is close to 1, g_k - <g, y> cancels.
template <class T>
DEVICE void softmax_backward(const Softmax<T>& p) {
  for (unsigned r = grid_index(); r < p.rows; r += grid_size()) {
    const T *y = p.v + (size_t)r * p.k, *g = p.g + (size_t)r * p.k;
    for (unsigned i = 0; i < p.k; ++i) {
      float sum = 0.0f;
      for (unsigned j = 0; j < p.k; ++j) sum += load(&y[j]) * (load(&g[i]) - load(&g[j]));
      store(&p.y[(size_t)r * p.k + i], load(&y[i]) * sum);
    }
  }
}

template <class T>
DEVICE void weighted_sum(const WeightedSum<T>& p) {
  constexpr unsigned N = Pack<T>::N;
  unsigned packs = p.n / N;
  for (unsigned i = grid_index(); i < packs; i += grid_size()) {
    float sum[N] = {};
    if (p.onto) {
      Pack<T> y = load_pack(p.y + (size_t)i * N);
      for (unsigned j = 0; j < N; ++j) sum[j] = load(&y.v[j]);
    }
    for (unsigned k = 0; k < p.count; ++k) {
      Pack<T> x = load_pack(p.x[k] + (size_t)i * N);
      float w = p.w ? load(&p.w[k]) : 1.0f;
      for (unsigned j = 0; j < N; ++j) sum[j] += w * load(&x.v[j]);
    }
    Pack<T> y;
    for (unsigned j = 0; j < N; ++j) store(&y.v[j], sum[j]);
    store_pack(p.y + (size_t)i * N, y);
  }
  for (unsigned i = packs * N + grid_index(); i < p.n; i += grid_size()) {
    float sum = p.onto ? load(&p.y[i]) : 0.0f;
    for (unsigned k = 0; k < p.count; ++k) sum += (p.w ? load(&p.w[k]) : 1.0f) * load(&p.x[k][i]);
    store(&p.y[i], sum);
  }
}

template <class T>
DEVICE void scale_by_element(const ScaleByElement<T>& p) {
  float w = load(&p.w[p.index]);
  for (unsigned i = grid_index(); i < p.n; i += grid_size()) store(&p.y[i], w * load(&p.x[i]));
}

// The sum over a block, in every thread.
DEVICE float block_sum(float v) {
  SHARED(float, warps, THREADS / WARP);
  v = warp_sum(v);
  if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = v;
  sync_block();
  float sum = 0.0f;
  for (int w = 0; w < THREADS / WARP; ++w) sum += warps[w];
  return sum;
}

// Block (term, part).
template <class T>
DEVICE void dots_partial(const Dots<T>& p) {
  unsigned k = blockIdx.x / p.parts, part = blockIdx.x % p.parts;
  unsigned per_part = (p.n + p.parts - 1) / p.parts;
  unsigned end = min(p.n, (part + 1) * per_part);
  float sum = 0.0f;
  for (unsigned i = part * per_part + threadIdx.x; i < end; i += THREADS)
    sum += load(&p.x[k][i]) * load(&p.g[i]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) p.partials[blockIdx.x] = sum;
}

// Block (term).
template <class T>
DEVICE void dots_finish(const Dots<T>& p) {
  float sum = 0.0f;
  for (unsigned i = threadIdx.x; i < p.parts; i += THREADS)
    sum += p.partials[blockIdx.x * p.parts + i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) store(&p.y[blockIdx.x], sum);
}

KERNELS(softmax_fwd, THREADS, Softmax, softmax_forward)
KERNELS(softmax_bwd_input, THREADS, Softmax, softmax_backward)
KERNELS(weighted_sum_fwd, THREADS, WeightedSum, weighted_sum)
KERNELS(scale_by_element_fwd, THREADS, ScaleByElement, scale_by_element)
KERNELS(dots_partial, THREADS, Dots, dots_partial)
KERNELS(dots_finish, THREADS, Dots, dots_finish)
