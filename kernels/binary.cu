// Arithmetic of two operands, one of which may repeat along one group of axes.
// Formulas: src/ops/binary.rs; the full operand is [outer, rep, inner], the other [outer, 1, inner].
// Backward is made of the same kernel and of reduce.cu.
#include "common/kernel.cuh"

// Numbers of `Kind::code` in src/ops/binary.rs.
enum { ADD, SUB, MUL, DIV };

template <class T>
struct Binary {
  const T* full;  // [outer, rep, inner]
  const T* part;  // [outer, 1, inner]
  T* y;           // [outer, rep, inner]
  unsigned n, rep, inner;
  int kind;
  int swapped;  // the part is the left operand
  int unused;
};

DEVICE float combine(int kind, float a, float b) {
  switch (kind) {
    case ADD: return a + b;
    case SUB: return a - b;
    case MUL: return a * b;
    default: return a / b;
  }
}

template <class T>
DEVICE float element(const Binary<T>& p, float full, float part) {
  return p.swapped ? combine(p.kind, part, full) : combine(p.kind, full, part);
}

template <class T>
DEVICE void binary_forward(const Binary<T>& p) {
  constexpr unsigned N = Pack<T>::N;
  bool rows = p.rep == 1 || p.inner % N == 0;        // a pack of the part
  bool single = p.inner == 1 && p.rep % N == 0;      // one value of the part for a pack
  unsigned packs = p.n % N == 0 && (rows || single) ? p.n / N : 0;
  for (unsigned i = grid_index(); i < packs; i += grid_size()) {
    Pack<T> v = load_pack(p.full + i * N), part;
    unsigned at = part_index(i * N, p.rep, p.inner);
    if (rows) {
      part = load_pack(p.part + at);
    } else {
      for (unsigned j = 0; j < N; ++j) part.v[j] = p.part[at];
    }
    for (unsigned j = 0; j < N; ++j) store(&v.v[j], element(p, load(&v.v[j]), load(&part.v[j])));
    store_pack(p.y + i * N, v);
  }
  for (unsigned i = packs * N + grid_index(); i < p.n; i += grid_size())
    store(&p.y[i], element(p, load(&p.full[i]), load(&p.part[part_index(i, p.rep, p.inner)])));
}

KERNELS(binary_fwd, THREADS, Binary, binary_forward)
