// The inner loop of depthwise convolutions of stride 1: a thread computes RUN outputs of a row that
// are `dilation` columns apart, so that any two neighbours among them share all but two of their
// sources, whatever the dilation.
#pragma once
#include "vector.cuh"

constexpr int RUN = 4;

// First column of run `i` of a row.
DEVICE int run_start(int i, int dilation) {
  return i / dilation * (RUN * dilation) + i % dilation;
}

DEVICE bool inside(int i, int size) { return 0 <= i && i < size; }

// V channels of which `left` exist; with Whole all do, and `p` is aligned to V.
template <bool Whole, int V, class T>
DEVICE void load_channels(float (&to)[V], const T* p, int left) {
  if (Whole) {
    load_vector(to, p);
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] = i < left ? load(p + i) : 0.0f;
  }
}

// What a thread reads: V channels of one picture.
template <class T>
struct Source {
  const T* x;  // [h, w, channels], from the first of the V
  const T* w;  // [K, K, 1, channels], likewise
  int h, width, channels, left;
  int dilation;
  float slope;  // of a leaky ReLU on x, 1 for none
};

// acc[j] += sum over p, q of w[p, q] * g(x[y + p d, x + (q + j) d]), zero outside the picture; with
// Turned, w[K - 1 - p, K - 1 - q] stands for w[p, q].
template <int K, bool Whole, bool Turned, int V, class T>
DEVICE void add_windows(float (&acc)[RUN][V], const Source<T>& s, int y, int x) {
#pragma unroll 1
  for (int ky = 0; ky < K; ++ky) {
    int iy = y + ky * s.dilation;
    if (!inside(iy, s.h)) continue;
    float w[K][V];
#pragma unroll
    for (int kx = 0; kx < K; ++kx) {
      int tap = ky * K + kx;
      load_channels<Whole>(w[kx], &s.w[(Turned ? K * K - 1 - tap : tap) * s.channels], s.left);
    }
    const T* row = s.x + (size_t)iy * s.width * s.channels;
#pragma unroll
    for (int j = 0; j < RUN + K - 1; ++j) {
      int ix = x + j * s.dilation;
      if (!inside(ix, s.width)) continue;
      float v[V];
      load_channels<Whole>(v, &row[ix * s.channels], s.left);
#pragma unroll
      for (int e = 0; e < V; ++e) v[e] = v[e] > 0.0f ? v[e] : v[e] * s.slope;
#pragma unroll
      for (int kx = 0; kx < K; ++kx) {
        if (j - kx < 0 || j - kx >= RUN) continue;
#pragma unroll
        for (int e = 0; e < V; ++e) acc[j - kx][e] += w[kx][e] * v[e];
      }
    }
  }
}
