// Bilinear resizing, with a residual added in the same pass.
// Formula: src/ops/resize.rs; positions and weights: common/resize.cuh.
// Backward gathers, for each input pixel, the outputs that read it; nothing is kept.
#include "common/resize.cuh"
#include "common/vector.cuh"

template <class T>
struct Resize {
  const T* x;         // [N, H, W, C]
  const T* residual;  // [N, ho, wo, C] or null
  T* y;               // [N, ho, wo, C]
  int n, h, w, c, ho, wo;
};

template <class T>
struct ResizeGrad {
  const T* g;  // [N, ho, wo, C], cotangent
  T* dx;       // [N, H, W, C]
  int n, h, w, c, ho, wo;
};

template <class T, int V>
DEVICE void resize_pixels(const Resize<T>& p) {
  unsigned packs = p.c / V, total = (unsigned)p.n * p.ho * p.wo * packs;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    unsigned c = i % packs * V, pixel = i / packs;
    Tap x = resize_tap(pixel % p.wo, p.w, p.wo), y = resize_tap(pixel / p.wo % p.ho, p.h, p.ho);
    int n = pixel / p.wo / p.ho;
    float corner[4][V];
    for (int k = 0; k < 4; ++k) {
      int iy = k / 2 ? y.high : y.low, ix = k % 2 ? x.high : x.low;
      load_vector(corner[k], &p.x[(unsigned)((n * p.h + iy) * p.w + ix) * p.c + c]);
    }
    float out[V] = {};
    if (p.residual) load_vector(out, &p.residual[pixel * p.c + c]);
    for (int v = 0; v < V; ++v) {
      float top = (1.0f - x.weight) * corner[0][v] + x.weight * corner[1][v];
      float bottom = (1.0f - x.weight) * corner[2][v] + x.weight * corner[3][v];
      out[v] += (1.0f - y.weight) * top + y.weight * bottom;
    }
    store_vector(&p.y[pixel * p.c + c], out);
  }
}

template <class T, int V>
DEVICE void resize_pixels_grad(const ResizeGrad<T>& p) {
  unsigned packs = p.c / V, total = (unsigned)p.n * p.h * p.w * packs;
  float unit_y = 0.5f / p.ho, unit_x = 0.5f / p.wo;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    unsigned c = i % packs * V, pixel = i / packs;
    Readers xs = resize_readers(pixel % p.w, p.w, p.wo);
    Readers ys = resize_readers(pixel / p.w % p.h, p.h, p.ho);
    int n = pixel / p.w / p.h;
    float sum[V] = {};
    int dy = ys.offset;
    for (int oy = ys.first; oy < ys.end; ++oy, dy += 2 * p.h) {
      float row[V] = {};
      int dx = xs.offset;
      for (int ox = xs.first; ox < xs.end; ++ox, dx += 2 * p.w) {
        float g[V], weight = xs.weight(dx, unit_x);
        load_vector(g, &p.g[(unsigned)((n * p.ho + oy) * p.wo + ox) * p.c + c]);
        for (int v = 0; v < V; ++v) row[v] += weight * g[v];
      }
      float weight = ys.weight(dy, unit_y);
      for (int v = 0; v < V; ++v) sum[v] += weight * row[v];
    }
    store_vector(&p.dx[pixel * p.c + c], sum);
  }
}

template <class T>
DEVICE void forward(const Resize<T>& p) { BY_CHANNELS(resize_pixels, T, p.c, p) }
template <class T>
DEVICE void backward(const ResizeGrad<T>& p) { BY_CHANNELS(resize_pixels_grad, T, p.c, p) }

KERNELS(resize_bilinear_fwd, THREADS, Resize, forward)
KERNELS(resize_bilinear_bwd_input, THREADS, ResizeGrad, backward)
