// Padding with a mirror image that does not repeat the edge, and a crop.
// Formulas: src/ops/reflect_pad.rs.
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
  if (size == 1) return 0;
  int period = 2 * (size - 1);
  i = abs(i - pad) % period;
  return min(i, period - i);
}

// The padded positions that show a pixel, in two rows of equal steps: forth, forth + period, ... and
// back, back + period, ..., both below `end`.
struct Images {
  int forth, back, period, end;
};

DEVICE Images images_of(int i, int pad, int size) {
  int period = max(2 * (size - 1), 1), end = size + 2 * pad;
  // Pixels at the ends of a period are their own mirror images.
  bool alone = i == 0 || i == size - 1;
  return {(pad + i) % period, alone ? end : (pad + period - i) % period, period, end};
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
    Images rows = images_of(iy, p.pad, p.h), columns = images_of(ix, p.pad, p.w);
    for (int a = 0; a < 2; ++a) {
      for (int y = a ? rows.back : rows.forth; y < rows.end; y += rows.period) {
        for (int b = 0; b < 2; ++b) {
          for (int x = b ? columns.back : columns.forth; x < columns.end; x += columns.period) {
            float g[V];
            load_vector(g, &p.g[(unsigned)((n * ho + y) * wo + x) * p.c + c]);
            for (int v = 0; v < V; ++v) sum[v] += g[v];
          }
        }
      }
    }
    store_vector(&p.dx[pixel * p.c + c], sum);
  }
}

// y [N, H, W, C] out of x [N, H + 2 pad, W + 2 pad, C].
template <class T, int V>
DEVICE void cut_pixels(const ReflectPadGrad<T>& p) {
  int wo = p.w + 2 * p.pad, ho = p.h + 2 * p.pad;
  unsigned packs = p.c / V, total = (unsigned)p.n * p.h * p.w * packs;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    unsigned c = i % packs * V, pixel = i / packs;
    int x = pixel % p.w + p.pad, y = pixel / p.w % p.h + p.pad, n = pixel / p.w / p.h;
    const T* from = &p.g[(unsigned)((n * ho + y) * wo + x) * p.c + c];
    *reinterpret_cast<Vector<T, V>*>(&p.dx[pixel * p.c + c]) =
        *reinterpret_cast<const Vector<T, V>*>(from);
  }
}

// The other way, with zeros around.
template <class T, int V>
DEVICE void surround_pixels(const ReflectPad<T>& p) {
  int ho = p.h + 2 * p.pad, wo = p.w + 2 * p.pad;
  unsigned packs = p.c / V, total = (unsigned)p.n * ho * wo * packs;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    unsigned c = i % packs * V, pixel = i / packs;
    int x = (int)(pixel % wo) - p.pad, y = (int)(pixel / wo % ho) - p.pad, n = pixel / wo / ho;
    float v[V] = {};
    if (x >= 0 && x < p.w && y >= 0 && y < p.h)
      load_vector(v, &p.x[(unsigned)((n * p.h + y) * p.w + x) * p.c + c]);
    store_vector(&p.y[pixel * p.c + c], v);
  }
}

template <class T>
DEVICE void forward(const ReflectPad<T>& p) { BY_CHANNELS(pad_pixels, T, p.c, p) }
template <class T>
DEVICE void backward(const ReflectPadGrad<T>& p) { BY_CHANNELS(pad_pixels_grad, T, p.c, p) }

template <class T>
DEVICE void cut(const ReflectPadGrad<T>& p) { BY_CHANNELS(cut_pixels, T, p.c, p) }
template <class T>
DEVICE void surround(const ReflectPad<T>& p) { BY_CHANNELS(surround_pixels, T, p.c, p) }

KERNELS(reflect_pad_fwd, THREADS, ReflectPad, forward)
KERNELS(reflect_pad_bwd_input, THREADS, ReflectPadGrad, backward)
KERNELS(crop_fwd, THREADS, ReflectPadGrad, cut)
KERNELS(crop_bwd_input, THREADS, ReflectPad, surround)
