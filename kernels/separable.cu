// Separable convolution in one kernel: y = f(b2 + W (b1 + depthwise(g(x)))) + r, where g is a leaky
// ReLU or nothing; the depthwise results of a tile of pixels stay in shared memory for the 1 x 1.
// Formula: src/ops/separable/mod.rs, the (sigma, depthwise, 1 x 1) blocks of the paper.
// Backward reads y and records the depthwise convolution again: no kernel of its own.
#include "common/depthwise.cuh"

template <class T>
struct Separable {
  const T* x;         // [N, H, W, C]
  const T* w1;        // [k, k, 1, C]
  const T* b1;        // [C]
  const T* w2;        // [1, 1, C, cout]
  const T* b2;        // [cout]
  const T* residual;  // [N, H, W, cout] or null
  T* y;               // [N, H, W, cout]
  int n, h, w, c, cout, k, dilation;
  int tiles_y, tiles_x;
  float slope;  // of the leaky ReLU on x, 1 for none
  Activation activation;
};

// A block computes TILE_H x TILE_W pixels and takes CHUNK channels of x at a time, of which a thread
// computes four for one run.
constexpr int TILE_H = 8, TILE_W = 16, TILE = TILE_H * TILE_W;
constexpr int CHUNK = 32;
static_assert(TILE / RUN * (CHUNK / 4) == THREADS, "a run for each thread");

// The picture, first pixel and first output channel of a block.
struct Place {
  int n, y, x, o;
};

template <class T>
DEVICE Place place(const Separable<T>& p, int couts) {
  unsigned columns = (p.cout + couts - 1) / couts, tile = blockIdx.x / columns;
  unsigned row = tile / p.tiles_x;
  return {(int)(row / p.tiles_y), (int)(row % p.tiles_y) * TILE_H, (int)(tile % p.tiles_x) * TILE_W,
          (int)(blockIdx.x % columns) * couts};
}

// b1 + depthwise(g(x)) for a chunk of channels of the tile, in tile[pixel * pitch + channel].
template <int K, bool Whole, class T, class Shared>
DEVICE void depthwise_chunk(const Separable<T>& p, Place at, int c0, Shared* tile, int pitch) {
  int own = threadIdx.x % (CHUNK / 4) * 4, run = threadIdx.x / (CHUNK / 4);
  int row = run / (TILE_W / RUN), column = run_start(run % (TILE_W / RUN), p.dilation);
  int c = c0 + own, left = p.c - c;
  float acc[RUN][4] = {};
  if (left > 0) {
    float bias[4];
    load_channels<Whole>(bias, &p.b1[c], left);
#pragma unroll
    for (int j = 0; j < RUN; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[j][e] = bias[e];
    Source<T> from = {p.x + (size_t)at.n * p.h * p.w * p.c + c, p.w1 + c,   p.h, p.w, p.c, left,
                      p.dilation,                               p.slope};
    int reach = p.dilation * (K / 2);
    add_windows<K, Whole, false>(acc, from, at.y + row - reach, at.x + column - reach);
  }
#pragma unroll
  for (int j = 0; j < RUN; ++j)
    store_vector(&tile[(row * TILE_W + column + j * p.dilation) * pitch + own], acc[j]);
}

template <int K, class T, class Shared>
DEVICE void depthwise_tile(const Separable<T>& p, Place at, int c0, Shared* tile, int pitch) {
  if (p.c % 4 == 0)
    depthwise_chunk<K, true>(p, at, c0, tile, pitch);
  else
    depthwise_chunk<K, false>(p, at, c0, tile, pitch);
}

// f(sums + b2) + r, stored, for V output channels from o on of one pixel.
template <bool Whole, int V, class T>
DEVICE void finish(const Separable<T>& p, Place at, int pixel, int o, float (&sums)[V]) {
  int y = at.y + pixel / TILE_W, x = at.x + pixel % TILE_W;
  if (y >= p.h || x >= p.w || o >= p.cout) return;
  size_t to = ((size_t)(at.n * p.h + y) * p.w + x) * p.cout + o;
  if (Whole) {
    float b[V], r[V] = {};
    load_vector(b, &p.b2[o]);
    if (p.residual) load_vector(r, &p.residual[to]);
#pragma unroll
    for (int e = 0; e < V; ++e) sums[e] = activate(p.activation, sums[e] + b[e]) + r[e];
    store_vector(&p.y[to], sums);
  } else {
#pragma unroll
    for (int e = 0; e < V; ++e) {
      if (o + e >= p.cout) break;
      float v = activate(p.activation, sums[e] + load(&p.b2[o + e]));
      store(&p.y[to + e], p.residual ? v + load(&p.residual[to + e]) : v);
    }
  }
}

// COUTS output channels of a tile with fused multiply-adds in f32: 4 or 8 pixels x 4 channels in
// the registers of a thread.
template <int K, int COUTS, class T>
DEVICE void separable(const Separable<T>& p) {
  // Four more than a chunk: the rows that a warp reads together begin in different banks.
  constexpr int PITCH = CHUNK + 4;
  constexpr int LANES = THREADS / (COUTS / 4), PIXELS = TILE / LANES;
  SHARED(float, tile, TILE * PITCH);
  SHARED(float, weights, CHUNK * COUTS);
  Place at = place(p, COUTS);
  int o = threadIdx.x % (COUTS / 4) * 4, lane = threadIdx.x / (COUTS / 4);
  bool whole = p.cout % 4 == 0;
  float acc[PIXELS][4] = {};
  for (int c0 = 0; c0 < p.c; c0 += CHUNK) {
    if (c0 > 0) sync_block();
    depthwise_tile<K>(p, at, c0, tile, PITCH);
    for (int i = threadIdx.x; i < CHUNK * COUTS / 4; i += THREADS) {
      int c = c0 + i / (COUTS / 4), first = at.o + i % (COUTS / 4) * 4;
      int left = c < p.c ? p.cout - first : 0;
      const T* from = &p.w2[c * p.cout + first];
      float w[4] = {};
      if (left > 0 && whole) load_channels<true>(w, from, left);
      if (left > 0 && !whole) load_channels<false>(w, from, left);
      store_vector(&weights[i * 4], w);
    }
    sync_block();
    int depth = min(CHUNK, p.c - c0);
#pragma unroll 2
    for (int c = 0; c < depth; c += 4) {
      float w[4][4];
#pragma unroll
      for (int j = 0; j < 4; ++j) load_vector(w[j], &weights[(c + j) * COUTS + o]);
#pragma unroll
      for (int i = 0; i < PIXELS; ++i) {
        float a[4];
        load_vector(a, &tile[(lane + i * LANES) * PITCH + c]);
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) acc[i][e] += a[j] * w[j][e];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < PIXELS; ++i) {
    if (whole)
      finish<true>(p, at, lane + i * LANES, at.o + o, acc[i]);
    else
      finish<false>(p, at, lane + i * LANES, at.o + o, acc[i]);
  }
}

// The same with tensor cores, for C % 16 == 0 and cout % 8 == 0: each warp multiplies one row of the
// tile, 16 pixels, with all COUTS channels.
template <int K, int COUTS>
DEVICE void separable_mma(const Separable<half>& p) {
  // Eight more than a chunk: the eight rows of a fragment lie in different banks.
  constexpr int PITCH = CHUNK + 8, STAGE = 32 + 4;
  static_assert(TILE_H == THREADS / WARP && TILE_W == 16, "a row for each warp");
  static_assert((TILE + COUTS) * PITCH * sizeof(half) <= TILE * STAGE * sizeof(float), "fits");
  // Operands first, then results on their way to whole 16-byte stores.
  SHARED(float, memory, TILE * STAGE);
  half* tile = reinterpret_cast<half*>(memory);
  half* weights = tile + TILE * PITCH;  // [cout][channel]
  Place at = place(p, COUTS);
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  int fragment = lane / 4 * PITCH + lane % 4 * 2;
  float acc[COUTS / 8][4] = {};
  for (int c0 = 0; c0 < p.c; c0 += CHUNK) {
    if (c0 > 0) sync_block();
    depthwise_tile<K>(p, at, c0, tile, PITCH);
    for (int i = threadIdx.x; i < CHUNK * COUTS / 8; i += THREADS) {
      int c = i % CHUNK, o = i / CHUNK * 8;
      Pack<half> w = {};
      if (c0 + c < p.c && at.o + o < p.cout) w = load_pack(&p.w2[(c0 + c) * p.cout + at.o + o]);
      for (int e = 0; e < 8; ++e) weights[(o + e) * PITCH + c] = w.v[e];
    }
    sync_block();
    int depth = min(CHUNK, p.c - c0);
    for (int c = 0; c < depth; c += 16) {
      const unsigned* from =
          reinterpret_cast<const unsigned*>(&tile[warp * TILE_W * PITCH + fragment + c]);
      unsigned a[4] = {from[0], from[4 * PITCH], from[4], from[4 * PITCH + 4]};
#pragma unroll
      for (int j = 0; j < COUTS / 8; ++j) {
        const unsigned* w =
            reinterpret_cast<const unsigned*>(&weights[j * 8 * PITCH + fragment + c]);
        unsigned b[2] = {w[0], w[4]};
        mma_m16n8k16(acc[j], a, b);
      }
    }
  }
  sync_block();
  float* stage = memory + warp * 16 * STAGE;
#pragma unroll
  for (int part = 0; part < COUTS / 32; ++part) {
    if (part > 0) sync_warp();
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float* to = &stage[lane / 4 * STAGE + j * 8 + lane % 4 * 2];
      const float(&d)[4] = acc[part * 4 + j];
      to[0] = d[0], to[1] = d[1], to[8 * STAGE] = d[2], to[8 * STAGE + 1] = d[3];
    }
    sync_warp();
    for (int i = lane; i < 16 * 4; i += WARP) {
      float sums[8];
      for (int e = 0; e < 8; ++e) sums[e] = stage[i / 4 * STAGE + i % 4 * 8 + e];
      finish<true>(p, at, warp * TILE_W + i / 4, at.o + part * 32 + i % 4 * 8, sums);
    }
  }
}

// One output after the other, as the formula says.
template <class T>
DEVICE void naive(const Separable<T>& p) {
  unsigned total = (unsigned)p.n * p.h * p.w * p.cout;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    int o = i % p.cout, pixel = i / p.cout;
    int x = pixel % p.w, y = pixel / p.w % p.h, n = pixel / p.w / p.h;
    float sum = load(&p.b2[o]);
    for (int c = 0; c < p.c; ++c) {
      float mid = load(&p.b1[c]);
      for (int tap = 0; tap < p.k * p.k; ++tap) {
        int iy = y + (tap / p.k - p.k / 2) * p.dilation, ix = x + (tap % p.k - p.k / 2) * p.dilation;
        if (!inside(iy, p.h) || !inside(ix, p.w)) continue;
        float v = load(&p.x[((n * p.h + iy) * p.w + ix) * p.c + c]);
        mid += load(&p.w1[tap * p.c + c]) * (v > 0.0f ? v : v * p.slope);
      }
      sum += mid * load(&p.w2[c * p.cout + o]);
    }
    float out = activate(p.activation, sum);
    store(&p.y[i], p.residual ? out + load(&p.residual[i]) : out);
  }
}

KERNELS(separable_naive_fwd, THREADS, Separable, naive)

// For a side of the kernel and a number of output channels in a block.
#define SEPARABLE(k, couts)                                                                     \
  KERNEL(separable_fwd_k##k##_o##couts##_f32, THREADS, Separable<float>) { separable<k, couts>(p); } \
  KERNEL(separable_fwd_k##k##_o##couts##_f16, THREADS, Separable<half>) { separable<k, couts>(p); }  \
  KERNEL(separable_mma_fwd_k##k##_o##couts##_f16, THREADS, Separable<half>) { separable_mma<k, couts>(p); }

SEPARABLE(3, 32)
SEPARABLE(3, 64)
SEPARABLE(5, 32)
SEPARABLE(5, 64)
