// Gates y = u m (+ x): attention weights applied to features.
// Formulas: src/ops/gate.rs; m repeats along one group of axes: u [outer, rep, inner], m [outer, inner].
// Backward is a gate of the cotangent, and the sum of its products with u (reduce.cu).
#include "common/rows.cuh"

template <class T>
struct Gate {
  const T* u;  // [outer, rep, inner]
  const T* m;  // [outer, inner]
  const T* x;  // [outer, rep, inner] or null
  T* y;        // [outer, rep, inner]
  unsigned n, rep, inner;
  unsigned padding;
};

// Packs that have one weight (inner = 1, packs divide rep) or a pack of them (packs divide inner).
template <class T>
DEVICE void gate(const Gate<T>& p) {
  constexpr int N = Pack<T>::N;
  for (unsigned i = grid_index() * N; i < p.n; i += grid_size() * N) {
    float u[N], m[N], x[N] = {};
    load_floats(p.u + i, u);
    unsigned at = part_index(i, p.rep, p.inner);
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
    float y = load(&p.u[i]) * load(&p.m[part_index(i, p.rep, p.inner)]);
    store(&p.y[i], p.x ? y + load(&p.x[i]) : y);
  }
}

KERNELS(gate_fwd, THREADS, Gate, gate)
KERNELS(gate_naive_fwd, THREADS, Gate, gate_naive)
