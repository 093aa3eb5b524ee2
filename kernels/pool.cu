// Maximum of 2 x 2 windows with stride 2; at odd sizes the last window is cut.
// Formula: src/ops/pool.rs.
// Backward reads x, y and the cotangent: the first maximum of a window gets it.
#include "common/vector.cuh"

template <class T>
struct Pool {
  const T* x;  // [N, H, W, C]
  T* y;        // [N, ho, wo, C]
  int n, h, w, c, ho, wo;
};

template <class T>
struct PoolGrad {
  const T* x;  // [N, H, W, C]
  const T* y;  // [N, ho, wo, C]
  const T* g;  // [N, ho, wo, C], cotangent
  T* dx;       // [N, H, W, C]
  int n, h, w, c, ho, wo;
};

// Where a window lies: its number in y, and its up to 2 x 2 pixels in x.
struct Window {
  unsigned y, x;  // elements
  int rows, cols;
};

template <class Params>
DEVICE Window window(const Params& p, unsigned i, int v) {
  unsigned packs = p.c / v;
  unsigned c = i % packs * v, pixel = i / packs;
  unsigned ox = pixel % p.wo, row = pixel / p.wo, oy = row % p.ho, n = row / p.ho;
  return {pixel * p.c + c, ((n * p.h + 2 * oy) * p.w + 2 * ox) * p.c + c,
          min(2, p.h - 2 * (int)oy), min(2, p.w - 2 * (int)ox)};
}

template <class T, int V>
DEVICE void pool_windows(const Pool<T>& p) {
  unsigned total = (unsigned)p.n * p.ho * p.wo * (p.c / V);
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    Window at = window(p, i, V);
    float most[V];
    load_vector(most, &p.x[at.x]);
    for (int k = 1; k < 4; ++k) {
      if (k / 2 >= at.rows || k % 2 >= at.cols) continue;
      float x[V];
      load_vector(x, &p.x[at.x + (unsigned)(k / 2 * p.w + k % 2) * p.c]);
      // NaN wins.
      for (int v = 0; v < V; ++v) most[v] = x[v] > most[v] || x[v] != x[v] ? x[v] : most[v];
    }
    store_vector(&p.y[at.y], most);
  }
}

template <class T, int V>
DEVICE void pool_windows_grad(const PoolGrad<T>& p) {
  unsigned total = (unsigned)p.n * p.ho * p.wo * (p.c / V);
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    Window at = window(p, i, V);
    float y[V], g[V];
    load_vector(y, &p.y[at.y]);
    load_vector(g, &p.g[at.y]);
    for (int k = 0; k < 4; ++k) {
      if (k / 2 >= at.rows || k % 2 >= at.cols) continue;
      unsigned pixel = at.x + (unsigned)(k / 2 * p.w + k % 2) * p.c;
      float x[V], dx[V];
      load_vector(x, &p.x[pixel]);
      for (int v = 0; v < V; ++v) {
        dx[v] = x[v] == y[v] ? g[v] : 0.0f;
        if (x[v] == y[v]) g[v] = 0.0f;  // given away
      }
      store_vector(&p.dx[pixel], dx);
    }
  }
}

template <class T>
DEVICE void forward(const Pool<T>& p) { BY_CHANNELS(pool_windows, T, p.c, p) }
template <class T>
DEVICE void backward(const PoolGrad<T>& p) { BY_CHANNELS(pool_windows_grad, T, p.c, p) }

KERNELS(max_pool2d_fwd, THREADS, Pool, forward)
KERNELS(max_pool2d_bwd_input, THREADS, PoolGrad, backward)
