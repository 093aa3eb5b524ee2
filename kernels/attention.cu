// Attention with its gate and residual: y = u sigmoid(z) + x, with z from the channels of each pixel
// (spatial attention) or from the mean of each channel (channel attention).
// Formulas: src/ops/attention; after Woo et al. (CBAM, 2018) and Wang et al. (ECA-Net, 2020).
// Backward records statistics, convolution and gate again and needs none of these kernels.
#include "common/columns.cuh"

template <class T>
struct Spatial {
  const T* u;       // [N, H, W, C]
  const T* weight;  // [k, k, 2, 1]
  const T* bias;    // [1]
  const T* x;       // [N, H, W, C]
  T* y;             // [N, H, W, C]
  float* stats;     // [N, H, W, 2], maximum and mean over channels
  int n, h, w, c;
  int k;
  int group;          // lanes of a pixel
  int rows, columns;  // of tiles in a picture
};

constexpr int SIDE = 16;   // a tile has a thread for each pixel
constexpr int MAX_K = 7;
constexpr int EDGE = SIDE + MAX_K - 1;

template <class T>
DEVICE void spatial_stats(const Spatial<T>& p) {
  unsigned pixels = static_cast<unsigned>(p.n) * p.h * p.w;
  for_rows(pixels, p.group, [&](unsigned pixel, int lane) {
    float high = -INFINITY, sum = 0.0f;
    if (pixel < pixels)
      for_elements(p.u + pixel * p.c, p.c, lane, p.group, [&](int, float v) {
        high = v > high ? v : high;
        sum += v;
      });
    high = group_max(high, p.group);
    sum = group_sum(sum, p.group);
    if (lane != 0 || pixel >= pixels) return;
    p.stats[2 * pixel] = high;
    p.stats[2 * pixel + 1] = sum / p.c;
  });
}

// y = u map + x for a tile that begins at (y0, x0), N elements at a time.
template <int N, class T>
DEVICE void gate_tile(const Spatial<T>& p, int n, int y0, int x0, const float* map) {
  int height = min(SIDE, p.h - y0), row_packs = min(SIDE, p.w - x0) * p.c / N;
  for (int i = threadIdx.x; i < height * row_packs; i += THREADS) {
    int row = i / row_packs, at = (i - row * row_packs) * N;
    float m = map[row * SIDE + at / p.c];
    int offset = ((n * p.h + y0 + row) * p.w + x0) * p.c + at;
    float u[N], x[N];
    load_floats(p.u + offset, u);
    load_floats(p.x + offset, x);
    for (int j = 0; j < N; ++j) u[j] = u[j] * m + x[j];
    store_floats(p.y + offset, u);
  }
}

template <class T>
DEVICE void spatial_gate(const Spatial<T>& p) {
  SHARED2(float, high, EDGE, EDGE);
  SHARED2(float, mean, EDGE, EDGE);
  SHARED(float, weight, 2 * MAX_K * MAX_K);
  SHARED(float, map, THREADS);
  int b = blockIdx.x;
  int x0 = b % p.columns * SIDE, y0 = b / p.columns % p.rows * SIDE, n = b / p.columns / p.rows;
  int reach = p.k / 2, edge = SIDE + 2 * reach;
  for (int i = threadIdx.x; i < 2 * p.k * p.k; i += THREADS) weight[i] = load(&p.weight[i]);
  for (int i = threadIdx.x; i < edge * edge; i += THREADS) {
    int row = i / edge, column = i - row * edge;
    int y = y0 + row - reach, x = x0 + column - reach;
    bool inside = y >= 0 && y < p.h && x >= 0 && x < p.w;
    int at = 2 * ((n * p.h + y) * p.w + x);
    high[row][column] = inside ? p.stats[at] : 0.0f;
    mean[row][column] = inside ? p.stats[at + 1] : 0.0f;
  }
  sync_block();
  int ty = threadIdx.x / SIDE, tx = threadIdx.x % SIDE;
  float z = load(p.bias);
  for (int ky = 0; ky < p.k; ++ky) {
    for (int kx = 0; kx < p.k; ++kx) {
      int tap = 2 * (ky * p.k + kx);
      z += high[ty + ky][tx + kx] * weight[tap] + mean[ty + ky][tx + kx] * weight[tap + 1];
    }
  }
  map[threadIdx.x] = sigmoid(z);
  sync_block();
  constexpr int N = Pack<T>::N;
  if (p.c % N == 0)
    gate_tile<N>(p, n, y0, x0, map);
  else
    gate_tile<1>(p, n, y0, x0, map);
}

// One thread for an output, from u alone: the oracle of the others.
template <class T>
DEVICE void spatial_naive(const Spatial<T>& p) {
  unsigned size = static_cast<unsigned>(p.n) * p.h * p.w * p.c;
  for (unsigned i = grid_index(); i < size; i += grid_size()) {
    int pixel = i / p.c, x0 = pixel % p.w, y0 = pixel / p.w % p.h, n = pixel / p.w / p.h;
    float z = load(p.bias);
    for (int ky = 0; ky < p.k; ++ky) {
      for (int kx = 0; kx < p.k; ++kx) {
        int y = y0 + ky - p.k / 2, x = x0 + kx - p.k / 2;
        if (y < 0 || y >= p.h || x < 0 || x >= p.w) continue;
        const T* u = p.u + ((n * p.h + y) * p.w + x) * p.c;
        float high = -INFINITY, sum = 0.0f;
        for (int c = 0; c < p.c; ++c) {
          float v = load(&u[c]);
          if (v > high) high = v;
          sum += v;
        }
        const T* w = p.weight + 2 * (ky * p.k + kx);
        z += high * load(&w[0]) + sum / p.c * load(&w[1]);
      }
    }
    store(&p.y[i], load(&p.u[i]) * sigmoid(z) + load(&p.x[i]));
  }
}

KERNELS(spatial_attention_stats_fwd, THREADS, Spatial, spatial_stats)
KERNELS(spatial_attention_fwd, THREADS, Spatial, spatial_gate)
KERNELS(spatial_attention_naive_fwd, THREADS, Spatial, spatial_naive)

template <class T>
struct Channel {
  const T* u;       // [N, positions, C]
  const T* weight;  // [k]
  const T* x;       // [N, positions, C]
  T* y;             // [N, positions, C]
  float* partials;  // [N, parts, C], sums of u
  Columns s;        // N, positions, C; widths are those of the sums
  unsigned width, blocks;  // channels of a block of the gate, with its taps at most THREADS; blocks
  unsigned rows, chunks;   // positions of such a block, and blocks one after the other
  int k;
};

template <class T>
DEVICE void channel_sums(const Channel<T>& p) {
  constexpr int N = Pack<T>::N;
  SHARED(float, sums, N * THREADS);
  if (p.s.inner % N == 0)
    sum_part<N>(p.s, p.partials, sums, [&](unsigned at, float(&v)[N]) { load_floats(p.u + at, v); });
  else
    sum_part<1>(p.s, p.partials, sums, [&](unsigned at, float(&v)[1]) { load_floats(p.u + at, v); });
}

// y = u map + x for `width` channels from `first` on and positions [from, to) of sample n.
template <int N, class T>
DEVICE void gate_columns(const Channel<T>& p, unsigned n, unsigned first, unsigned width, unsigned from,
                         unsigned to, const float* map) {
  unsigned packs = width / N, lanes = THREADS / packs, lane = threadIdx.x / packs;
  unsigned column = threadIdx.x % packs * N;
  if (lane >= lanes) return;
  float m[N];
  for (int j = 0; j < N; ++j) m[j] = map[column + j];
#pragma unroll 2
  for (unsigned r = from + lane; r < to; r += lanes) {
    unsigned at = (n * p.s.rep + r) * p.s.inner + first + column;
    float u[N], x[N];
    load_floats(p.u + at, u);
    load_floats(p.x + at, x);
    for (int j = 0; j < N; ++j) u[j] = u[j] * m[j] + x[j];
    store_floats(p.y + at, u);
  }
}

// Every block finishes the means of the channels that it needs: cheaper than a launch of its own.
template <class T>
DEVICE void channel_gate(const Channel<T>& p) {
  SHARED(float, sums, THREADS);
  SHARED(float, map, THREADS);
  unsigned b = blockIdx.x;
  unsigned first = b % p.blocks * p.width, width = min(p.width, p.s.inner - first);
  unsigned chunk = b / p.blocks % p.chunks, n = b / p.blocks / p.chunks, reach = p.k / 2;
  unsigned low = first > reach ? first - reach : 0, high = min(p.s.inner, first + width + reach);
  sum_of_parts(p.s, p.partials, n, low, high - low, sums);
  if (threadIdx.x < width) {
    float z = 0.0f;
    for (int j = 0; j < p.k; ++j) {
      int at = static_cast<int>(first + threadIdx.x + j) - static_cast<int>(reach);
      if (at >= 0 && at < static_cast<int>(p.s.inner)) z += load(&p.weight[j]) * sums[at - low];
    }
    map[threadIdx.x] = sigmoid(z / p.s.rep);
  }
  sync_block();
  unsigned from = chunk * p.rows, to = min(p.s.rep, from + p.rows);
  constexpr int N = Pack<T>::N;
  if (p.s.inner % N == 0)
    gate_columns<N>(p, n, first, width, from, to, map);
  else
    gate_columns<1>(p, n, first, width, from, to, map);
}

// One thread for an output, from u alone: the oracle of the others.
template <class T>
DEVICE void channel_naive(const Channel<T>& p) {
  unsigned positions = p.s.rep;
  int channels = p.s.inner;
  for (unsigned i = grid_index(); i < p.s.outer * positions * channels; i += grid_size()) {
    int c = i % channels;
    const T* u = p.u + i / (positions * channels) * positions * channels;
    float z = 0.0f;
    for (int j = 0; j < p.k; ++j) {
      int at = c + j - p.k / 2;
      if (at < 0 || at >= channels) continue;
      float sum = 0.0f;
      for (unsigned r = 0; r < positions; ++r) sum += load(&u[r * channels + at]);
      z += load(&p.weight[j]) * (sum / positions);
    }
    store(&p.y[i], load(&p.u[i]) * sigmoid(z) + load(&p.x[i]));
  }
}

KERNELS(channel_attention_sums_fwd, THREADS, Channel, channel_sums)
KERNELS(channel_attention_fwd, THREADS, Channel, channel_gate)
KERNELS(channel_attention_naive_fwd, THREADS, Channel, channel_naive)
