// A 1 x 1 convolution, bilinear enlargement and a residual in one kernel: the products of the few
// small-picture pixels below a tile stay in shared memory for the interpolation.
// Formula: src/ops/upsample.rs; positions and weights: common/resize.cuh.
// Backward is that of the two parts: no kernel of its own.
#include "common/depthwise.cuh"
#include "common/resize.cuh"

template <class T>
struct Upsample {
  const T* x;         // [N, H, W, C]
  const T* weight;    // [1, 1, C, cout]
  const T* residual;  // [N, ho, wo, cout] or null
  T* y;               // [N, ho, wo, cout]
  int n, h, w, c, cout, ho, wo;
  int tiles_y, tiles_x, unused;
};

// A block computes TILE_H x TILE_W pixels of COUTS output channels. Below them lie at most
// (TILE_H + 1) x (TILE_W + 1) pixels of x, since y is not smaller than x.
constexpr int TILE_H = 8, TILE_W = 16, COUTS = 32;
constexpr int MOST = (TILE_H + 1) * (TILE_W + 1);
// Four more than there are channels: neighbouring pixels begin in different banks.
constexpr int PITCH = COUTS + 4;

// What a block computes: first output pixel and channel, and the pixels of x that it needs.
struct Region {
  int n, y0, x0, o;
  int top, left, rows, cols;
};

template <class T>
DEVICE Region region(const Upsample<T>& p) {
  unsigned columns = (p.cout + COUTS - 1) / COUTS, tile = blockIdx.x / columns;
  unsigned row = tile / p.tiles_x;
  Region r;
  r.n = row / p.tiles_y;
  r.y0 = row % p.tiles_y * TILE_H;
  r.x0 = tile % p.tiles_x * TILE_W;
  r.o = blockIdx.x % columns * COUTS;
  r.top = resize_tap(r.y0, p.h, p.ho).low;
  r.left = resize_tap(r.x0, p.w, p.wo).low;
  r.rows = resize_tap(min(r.y0 + TILE_H, p.ho) - 1, p.h, p.ho).high - r.top + 1;
  r.cols = resize_tap(min(r.x0 + TILE_W, p.wo) - 1, p.w, p.wo).high - r.left + 1;
  return r;
}

// Where pixel i of a region begins in x; those beyond its end are the last one again.
template <class T>
DEVICE unsigned region_pixel(const Upsample<T>& p, const Region& r, int i) {
  i = min(i, r.rows * r.cols - 1);
  int y = r.top + i / r.cols, x = r.left + i % r.cols;
  return (unsigned)((r.n * p.h + y) * p.w + x) * p.c;
}

// products[pixel][channel] with fused multiply-adds: two pixels x four channels in a thread.
template <bool Whole, class T>
DEVICE void multiply(const Upsample<T>& p, const Region& r, float (&products)[MOST][PITCH]) {
  constexpr int LANES = THREADS / (COUTS / 4);
  int o = threadIdx.x % (COUTS / 4) * 4, left = p.cout - r.o - o;
  for (int i = threadIdx.x / (COUTS / 4); i < r.rows * r.cols; i += 2 * LANES) {
    unsigned x[2] = {region_pixel(p, r, i), region_pixel(p, r, i + LANES)};
    float acc[2][4] = {};
    for (int c = 0; c < p.c && left > 0; c += 4) {
      float a[2][4];
      load_channels<Whole>(a[0], &p.x[x[0] + c], p.c - c);
      load_channels<Whole>(a[1], &p.x[x[1] + c], p.c - c);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (!Whole && c + j >= p.c) break;
        float w[4];
        load_channels<Whole>(w, &p.weight[(c + j) * p.cout + r.o + o], left);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          acc[0][e] += a[0][j] * w[e];
          acc[1][e] += a[1][j] * w[e];
        }
      }
    }
    store_vector(&products[i][o], acc[0]);
    if (i + LANES < r.rows * r.cols) store_vector(&products[i + LANES][o], acc[1]);
  }
}

// The same with tensor cores, for C % 16 == 0 and cout % 8 == 0: 16 pixels x 8 channels at a time in
// a warp.
DEVICE void multiply_mma(const Upsample<half>& p, const Region& r, float (&products)[MOST][PITCH]) {
  int lane = threadIdx.x % WARP, pixels = r.rows * r.cols;
  int couts = min(COUTS, p.cout - r.o) / 8, items = (pixels + 15) / 16 * couts;
  for (int item = threadIdx.x / WARP; item < items; item += THREADS / WARP) {
    int i = item / couts * 16 + lane / 4, o = item % couts * 8;
    unsigned x[2] = {region_pixel(p, r, i), region_pixel(p, r, i + 8)};
    const half* w = &p.weight[r.o + o + lane / 4];
    float acc[4] = {};
#pragma unroll 2
    for (int c = lane % 4 * 2; c < p.c; c += 16) {
      unsigned a[4], b[2];
#pragma unroll
      for (int k = 0; k < 4; ++k)
        a[k] = *reinterpret_cast<const unsigned*>(&p.x[x[k % 2] + c + k / 2 * 8]);
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        int row = c + k * 8;
        Vector<half, 2> pair = {{w[row * p.cout], w[(row + 1) * p.cout]}};
        b[k] = *reinterpret_cast<const unsigned*>(&pair);
      }
      mma_m16n8k16(acc, a, b);
    }
    o += lane % 4 * 2;
    for (int k = 0; k < 2; ++k) {
      if (i + k * 8 >= pixels) continue;
      products[i + k * 8][o] = acc[2 * k];
      products[i + k * 8][o + 1] = acc[2 * k + 1];
    }
  }
}

// Interpolates and stores four channels of a pixel at a time.
template <bool Whole, class T>
DEVICE void interpolate(const Upsample<T>& p, const Region& r, const float (&products)[MOST][PITCH],
                        const Tap (&taps)[TILE_H + TILE_W]) {
  for (int i = threadIdx.x; i < TILE_H * TILE_W * (COUTS / 4); i += THREADS) {
    int o = i % (COUTS / 4) * 4, pixel = i / (COUTS / 4), left = p.cout - r.o - o;
    int y = r.y0 + pixel / TILE_W, x = r.x0 + pixel % TILE_W;
    if (y >= p.ho || x >= p.wo || left <= 0) continue;
    Tap ty = taps[pixel / TILE_W], tx = taps[TILE_H + pixel % TILE_W];
    int low = (ty.low - r.top) * r.cols - r.left, high = (ty.high - r.top) * r.cols - r.left;
    float corner[4][4];
    load_vector(corner[0], &products[low + tx.low][o]);
    load_vector(corner[1], &products[low + tx.high][o]);
    load_vector(corner[2], &products[high + tx.low][o]);
    load_vector(corner[3], &products[high + tx.high][o]);
    size_t to = ((size_t)(r.n * p.ho + y) * p.wo + x) * p.cout + r.o + o;
    float out[4] = {};
    if (p.residual) load_channels<Whole>(out, &p.residual[to], left);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float top = (1.0f - tx.weight) * corner[0][e] + tx.weight * corner[1][e];
      float bottom = (1.0f - tx.weight) * corner[2][e] + tx.weight * corner[3][e];
      out[e] += (1.0f - ty.weight) * top + ty.weight * bottom;
    }
    if (Whole) {
      store_vector(&p.y[to], out);
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (e < left) store(&p.y[to + e], out[e]);
    }
  }
}

template <bool Mma, class T>
DEVICE void upsample(const Upsample<T>& p) {
  SHARED2(float, products, MOST, PITCH);
  SHARED(Tap, taps, TILE_H + TILE_W);
  Region r = region(p);
  bool whole = p.c % 4 == 0 && p.cout % 4 == 0;
  if (threadIdx.x < TILE_H) {
    taps[threadIdx.x] = resize_tap(min(r.y0 + (int)threadIdx.x, p.ho - 1), p.h, p.ho);
  } else if (threadIdx.x < TILE_H + TILE_W) {
    int x = r.x0 + threadIdx.x - TILE_H;
    taps[threadIdx.x] = resize_tap(min(x, p.wo - 1), p.w, p.wo);
  }
  if constexpr (Mma) {
    multiply_mma(p, r, products);
  } else if (whole) {
    multiply<true>(p, r, products);
  } else {
    multiply<false>(p, r, products);
  }
  sync_block();
  if (whole)
    interpolate<true>(p, r, products, taps);
  else
    interpolate<false>(p, r, products, taps);
}

// One output after the other.
template <class T>
DEVICE void naive(const Upsample<T>& p) {
  unsigned total = (unsigned)p.n * p.ho * p.wo * p.cout;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    int o = i % p.cout, pixel = i / p.cout;
    Tap tx = resize_tap(pixel % p.wo, p.w, p.wo), ty = resize_tap(pixel / p.wo % p.ho, p.h, p.ho);
    int n = pixel / p.wo / p.ho;
    float out = p.residual ? load(&p.residual[i]) : 0.0f;
    for (int k = 0; k < 4; ++k) {
      int y = k / 2 ? ty.high : ty.low, x = k % 2 ? tx.high : tx.low;
      float product = 0.0f;
      for (int c = 0; c < p.c; ++c)
        product += load(&p.x[((n * p.h + y) * p.w + x) * p.c + c]) * load(&p.weight[c * p.cout + o]);
      float row = k / 2 ? ty.weight : 1.0f - ty.weight, col = k % 2 ? tx.weight : 1.0f - tx.weight;
      out += row * col * product;
    }
    store(&p.y[i], out);
  }
}

template <class T>
DEVICE void upsample_ffma(const Upsample<T>& p) { upsample<false>(p); }

KERNELS(upsample_fwd, THREADS, Upsample, upsample_ffma)
KERNELS(upsample_naive_fwd, THREADS, Upsample, naive)
KERNEL(upsample_mma_fwd_f16, THREADS, Upsample<half>) { upsample<true>(p); }
