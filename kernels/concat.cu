// Joining, slicing and placing of channels: copies between rows of different length.
// Formulas: src/ops/concat.rs; rows are all positions of all pictures.
// Each kernel is another one's gradient.
#include "common/kernel.cuh"

constexpr unsigned MAX_CONCAT = 16;  // of src/ops/concat.rs

template <class T>
struct Concat {
  const T* x[MAX_CONCAT];           // [rows, channels[i]]
  T* y;                             // [rows, total]
  unsigned channels[MAX_CONCAT];
  unsigned count, n, total, unused;
};

template <class T>
struct CopyChannels {
  const T* x;  // [rows, from_total]
  T* y;        // [rows, to_total]
  unsigned n;  // elements of y
  unsigned from_total, to_total;
  int shift;  // y[c] = x[c + shift], 0 where x has no such channel
};

// Copies `N` elements at once; `Piece` is what holds them.
template <class T, class Piece, unsigned N>
DEVICE void concat_pieces(const Concat<T>& p) {
  for (unsigned i = grid_index(); i < p.n / N; i += grid_size()) {
    unsigned row = i * N / p.total, c = i * N % p.total, k = 0;
    while (c >= p.channels[k]) c -= p.channels[k++];
    const T* from = p.x[k] + (size_t)row * p.channels[k] + c;
    *reinterpret_cast<Piece*>(p.y + (size_t)i * N) = *reinterpret_cast<const Piece*>(from);
  }
}

template <class T>
DEVICE void concat_forward(const Concat<T>& p) {
  constexpr unsigned N = Pack<T>::N;
  unsigned odd = 0;
  for (unsigned k = 0; k < p.count; ++k) odd |= p.channels[k] % N;
  if (odd)
    concat_pieces<T, T, 1>(p);
  else
    concat_pieces<T, Pack<T>, N>(p);
}

template <class T>
DEVICE void copy_channels(const CopyChannels<T>& p) {
  for (unsigned i = grid_index(); i < p.n; i += grid_size()) {
    unsigned row = i / p.to_total, c = i % p.to_total + p.shift;  // wraps below 0
    store(&p.y[i], c < p.from_total ? load(&p.x[(size_t)row * p.from_total + c]) : 0.0f);
  }
}

KERNELS(concat_fwd, THREADS, Concat, concat_forward)
KERNELS(copy_channels_fwd, THREADS, CopyChannels, copy_channels)
