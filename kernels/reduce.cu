// Sums over one group of axes, of values or of products, and their adjoint, broadcasting:
// a [outer, rep, inner] -> y [outer, inner] and back. Formulas: src/ops/reduce.rs and src/ops/gate.rs.
// Backward of each is made of the other; long sums run in two stages in an order that shapes alone fix.
#include "common/columns.cuh"

template <class T>
struct Broadcast {
  const T* x;  // [outer, 1, inner]
  T* y;        // [outer, rep, inner]
  unsigned n, rep, inner;
  float scale;
};

template <class T>
struct Sum {
  const T* a;       // [outer, rep, inner]
  const T* b;       // [outer, rep, inner], or null for 1
  T* y;             // [outer, inner]
  float* partials;  // [outer, parts, inner]
  Columns s;
  int group;  // lanes of a row
  float scale;
  int unused;
};

// N neighbouring terms.
template <int N, class T>
DEVICE void load_terms(const Sum<T>& p, unsigned at, float (&v)[N]) {
  load_floats(p.a + at, v);
  if (!p.b) return;
  float b[N];
  load_floats(p.b + at, b);
  for (int j = 0; j < N; ++j) v[j] *= b[j];
}

// inner = 1, short rows.
template <int N, class T>
DEVICE void sum_row(const Sum<T>& p) {
  for_rows(p.s.outer, p.group, [&](unsigned row, int lane) {
    float sum = 0.0f;
    if (row < p.s.outer) {
      for (unsigned i = lane * N; i < p.s.rep; i += p.group * N) {
        float v[N];
        load_terms(p, row * p.s.rep + i, v);
        for (int j = 0; j < N; ++j) sum += v[j];
      }
    }
    sum = group_sum(sum, p.group);
    if (lane == 0 && row < p.s.outer) store(&p.y[row], sum * p.scale);
  });
}

template <class T>
DEVICE void sum_rows(const Sum<T>& p) {
  constexpr int N = Pack<T>::N;
  if (p.s.rep % N == 0)
    sum_row<N>(p);
  else
    sum_row<1>(p);
}

template <class T>
DEVICE void sum_columns(const Sum<T>& p) {
  constexpr int N = Pack<T>::N;
  SHARED(float, sums, N * THREADS);
  if (p.s.inner % N == 0)
    sum_part<N>(p.s, p.partials, sums, [&](unsigned at, float(&v)[N]) { load_terms(p, at, v); });
  else
    sum_part<1>(p.s, p.partials, sums, [&](unsigned at, float(&v)[1]) { load_terms(p, at, v); });
}

template <class T>
DEVICE void sum_finish(const Sum<T>& p) {
  SHARED(float, sums, THREADS);
  unsigned blocks = (p.s.inner + WARP - 1) / WARP, o = blockIdx.x / blocks;
  unsigned first = blockIdx.x % blocks * WARP;
  unsigned width = min(p.s.inner - first, static_cast<unsigned>(WARP));
  sum_of_parts(p.s, p.partials, o, first, width, sums);
  if (threadIdx.x < width)
    store(&p.y[o * p.s.inner + first + threadIdx.x], sums[threadIdx.x] * p.scale);
}

// One thread for a sum: the oracle of the others.
template <class T>
DEVICE void sum_naive(const Sum<T>& p) {
  for (unsigned i = grid_index(); i < p.s.outer * p.s.inner; i += grid_size()) {
    unsigned first = i / p.s.inner * p.s.rep * p.s.inner + i % p.s.inner;
    float sum = 0.0f;
    for (unsigned r = 0; r < p.s.rep; ++r) {
      float v[1];
      load_terms(p, first + r * p.s.inner, v);
      sum += v[0];
    }
    store(&p.y[i], sum * p.scale);
  }
}

template <class T>
DEVICE void broadcast(const Broadcast<T>& p) {
  for (unsigned i = grid_index(); i < p.n; i += grid_size()) {
    store(&p.y[i], load(&p.x[part_index(i, p.rep, p.inner)]) * p.scale);
  }
}

KERNELS(sum_rows_fwd, THREADS, Sum, sum_rows)
KERNELS(sum_columns_fwd, THREADS, Sum, sum_columns)
KERNELS(sum_finish_fwd, THREADS, Sum, sum_finish)
KERNELS(sum_naive_fwd, THREADS, Sum, sum_naive)
KERNELS(broadcast_fwd, THREADS, Broadcast, broadcast)
