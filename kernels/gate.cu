// Gates y = u m (+ x), and the sum of products that is their gradient in m.
// Formulas: src/ops/gate.rs; m repeats along one group of axes: u [outer, rep, inner], m [outer, inner].
// Backward is a gate of the cotangent, and gate_reduce of cotangent and u.
#include "common/columns.cuh"

template <class T>
struct Gate {
  const T* u;  // [outer, rep, inner]
  const T* m;  // [outer, inner]
  const T* x;  // [outer, rep, inner] or null
  T* y;        // [outer, rep, inner]
  unsigned n, rep, inner;
  unsigned padding;
};

DEVICE unsigned weight_at(unsigned i, unsigned rep, unsigned inner) {
  return inner == 1 ? i / rep : i / (rep * inner) * inner + i % inner;
}

// Packs that have one weight (inner = 1, packs divide rep) or a pack of them (packs divide inner).
template <class T>
DEVICE void gate(const Gate<T>& p) {
  constexpr int N = Pack<T>::N;
  for (unsigned i = grid_index() * N; i < p.n; i += grid_size() * N) {
    float u[N], m[N], x[N] = {};
    load_floats(p.u + i, u);
    unsigned at = weight_at(i, p.rep, p.inner);
    if (p.inner == 1) {
      m[0] = load(&p.m[at]);
      for (int j = 1; j < N; ++j) m[j] = m[0];
    } else {
      load_floats(p.m + at, m);
    }
    if (p.x) load_floats(p.x + i, x);
    for (int j = 0; j < N; ++j) u[j] = u[j] * m[j] + x[j];
    store_floats(p.y + i, u);
  }
}

// Any shape; the oracle of the other.
template <class T>
DEVICE void gate_naive(const Gate<T>& p) {
  for (unsigned i = grid_index(); i < p.n; i += grid_size()) {
    float y = load(&p.u[i]) * load(&p.m[weight_at(i, p.rep, p.inner)]);
    store(&p.y[i], p.x ? y + load(&p.x[i]) : y);
  }
}

KERNELS(gate_fwd, THREADS, Gate, gate)
KERNELS(gate_naive_fwd, THREADS, Gate, gate_naive)

template <class T>
struct GateReduce {
  const T* a;       // [outer, rep, inner]
  const T* b;       // [outer, rep, inner]
  T* y;             // [outer, inner]
  float* partials;  // [outer, parts, inner]
  Columns s;
  int group;  // lanes of a row
};

// inner = 1, short rows.
template <class T>
DEVICE void reduce_rows(const GateReduce<T>& p) {
  for_rows(p.s.outer, p.group, [&](unsigned row, int lane) {
    float sum = 0.0f;
    constexpr int N = Pack<T>::N;
    if (row < p.s.outer) {
      const T* a = p.a + row * p.s.rep;
      const T* b = p.b + row * p.s.rep;
      if (p.s.rep % N == 0) {
        for (unsigned i = lane * N; i < p.s.rep; i += p.group * N) {
          float u[N], v[N];
          load_floats(a + i, u);
          load_floats(b + i, v);
          for (int j = 0; j < N; ++j) sum += u[j] * v[j];
        }
      } else {
        for (unsigned i = lane; i < p.s.rep; i += p.group) sum += load(&a[i]) * load(&b[i]);
      }
    }
    sum = group_sum(sum, p.group);
    if (lane == 0 && row < p.s.outer) store(&p.y[row], sum);
  });
}

template <int N, class T>
DEVICE void reduce_part(const GateReduce<T>& p, float* sums) {
  sum_part<N>(p.s, p.partials, sums, [&](unsigned at, float(&v)[N]) {
    float b[N];
    load_floats(p.a + at, v);
    load_floats(p.b + at, b);
    for (int j = 0; j < N; ++j) v[j] *= b[j];
  });
}

template <class T>
DEVICE void reduce_columns(const GateReduce<T>& p) {
  constexpr int N = Pack<T>::N;
  SHARED(float, sums, N * THREADS);
  if (p.s.inner % N == 0)
    reduce_part<N>(p, sums);
  else
    reduce_part<1>(p, sums);
}

template <class T>
DEVICE void reduce_finish(const GateReduce<T>& p) {
  SHARED(float, sums, THREADS);
  unsigned blocks = (p.s.inner + WARP - 1) / WARP, o = blockIdx.x / blocks;
  unsigned first = blockIdx.x % blocks * WARP;
  unsigned width = min(p.s.inner - first, static_cast<unsigned>(WARP));
  sum_of_parts(p.s, p.partials, o, first, width, sums);
  if (threadIdx.x < width) store(&p.y[o * p.s.inner + first + threadIdx.x], sums[threadIdx.x]);
}

// One thread for a sum: the oracle of the others.
template <class T>
DEVICE void reduce_naive(const GateReduce<T>& p) {
  for (unsigned i = grid_index(); i < p.s.outer * p.s.inner; i += grid_size()) {
    unsigned first = i / p.s.inner * p.s.rep * p.s.inner + i % p.s.inner;
    float sum = 0.0f;
    for (unsigned r = 0; r < p.s.rep; ++r)
      sum += load(&p.a[first + r * p.s.inner]) * load(&p.b[first + r * p.s.inner]);
    store(&p.y[i], sum);
  }
}

KERNELS(gate_reduce_rows_fwd, THREADS, GateReduce, reduce_rows)
KERNELS(gate_reduce_columns_fwd, THREADS, GateReduce, reduce_columns)
KERNELS(gate_reduce_finish_fwd, THREADS, GateReduce, reduce_finish)
KERNELS(gate_reduce_naive_fwd, THREADS, GateReduce, reduce_naive)
