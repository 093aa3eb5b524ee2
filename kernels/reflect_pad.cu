// Padding with a mirror image that does not repeat the edge.
// Formula: src/ops/reflect_pad.rs.
// Backward adds up, for each pixel, the positions that show it; nothing is kept.
#include "common/vector.cuh"

template <class T>
struct ReflectPad {
  const T* x;  // [N, H, W, C]
  T* y;        // [N, H + 2 pad, W + 2 pad, C]
  int n, h, w, c, pad, unused;
};

template <class T>
struct ReflectPadGrad {
  const T* g;  // [N, H + 2 pad, W + 2 pad, C], cotangent
  T* dx;       // [N, H, W, C]
  int n, h, w, c, pad, unused;
};

// The input position shown at padded position `i`.
DEVICE int mirrored(int i, int pad, int size) {
  i = i < pad ? pad - i : i - pad;
  return i < size ? i : 2 * (size - 1) - i;
}

// The k-th padded position that shows pixel `i`: itself, then its mirror images; -1 if there is none.
DEVICE int image(int k, int i, int pad, int size) {
  int far = size - 1 - i;
  if (k == 0) return i + pad;
  if (k == 1) return 1 <= i && i <= pad ? pad - i : -1;
  return 1 <= far && far <= pad ? i + pad + 2 * far : -1;
}

template <class T, int V>
DEVICE void pad_pixels(const ReflectPad<T>& p) {
  int ho = p.h + 2 * p.pad, wo = p.w + 2 * p.pad;
  unsigned packs = p.c / V, total = (unsigned)p.n * ho * wo * packs;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    unsigned c = i % packs * V, pixel = i / packs;
    int ox = pixel % wo, oy = pixel / wo % ho, n = pixel / wo / ho;
    int iy = mirrored(oy, p.pad, p.h), ix = mirrored(ox, p.pad, p.w);
    const T* from = &p.x[(unsigned)((n * p.h + iy) * p.w + ix) * p.c + c];
    *reinterpret_cast<Vector<T, V>*>(&p.y[pixel * p.c + c]) =
        *reinterpret_cast<const Vector<T, V>*>(from);
  }
}

template <class T, int V>
DEVICE void pad_pixels_grad(const ReflectPadGrad<T>& p) {
  int ho = p.h + 2 * p.pad, wo = p.w + 2 * p.pad;
  unsigned packs = p.c / V, total = (unsigned)p.n * p.h * p.w * packs;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    unsigned c = i % packs * V, pixel = i / packs;
    int ix = pixel % p.w, iy = pixel / p.w % p.h, n = pixel / p.w / p.h;
    float sum[V] = {};
    for (int a = 0; a < 3; ++a) {
      int y = image(a, iy, p.pad, p.h);
      for (int b = 0; b < 3 && y >= 0; ++b) {
        int x = image(b, ix, p.pad, p.w);
        if (x < 0) continue;
        float g[V];
        load_vector(g, &p.g[(unsigned)((n * ho + y) * wo + x) * p.c + c]);
        for (int v = 0; v < V; ++v) sum[v] += g[v];
      }
    }
    store_vector(&p.dx[pixel * p.c + c], sum);
  }
}

template <class T>
DEVICE void forward(const ReflectPad<T>& p) { BY_CHANNELS(pad_pixels, T, p.c, p) }
template <class T>
DEVICE void backward(const ReflectPadGrad<T>& p) { BY_CHANNELS(pad_pixels_grad, T, p.c, p) }

KERNELS(reflect_pad_fwd, THREADS, ReflectPad, forward)
KERNELS(reflect_pad_bwd_input, THREADS, ReflectPadGrad, backward)
