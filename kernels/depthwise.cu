// Depthwise convolution and its adjoints: each channel has its own window.
// Formulas: src/ops/depthwise/mod.rs.
// Backward reads x for the kernel's gradient, w for that of x; at stride 1 the latter is a
// convolution of the cotangent with the kernel turned by 180 degrees.
#include "common/depthwise.cuh"

// Of the forward map; the adjoints read and write the same sizes.
struct Sizes {
  int n, h, w, c, ho, wo;
  int kh, kw, stride, dilation, pad_h, pad_w;
};

template <class T>
struct Depthwise {
  const T* x;     // [N, H, W, C]
  const T* w;     // [kh, kw, 1, C]
  const T* bias;  // [C] or null
  T* y;           // [N, ho, wo, C]
  Sizes s;
  int runs, unused;  // in a row, see RUN
};

template <class T>
struct DepthwiseInputGrad {
  const T* g;  // [N, ho, wo, C], cotangent
  const T* w;  // [kh, kw, 1, C]
  T* dx;       // [N, H, W, C]
  Sizes s;
};

template <class T>
struct DepthwiseWeightGrad {
  const T* x;    // [N, H, W, C]; null stands for ones
  const T* g;    // [N, ho, wo, C], cotangent
  float* parts;  // [parts, kh, kw, C]
  T* dw;         // [kh, kw, 1, C]
  Sizes s;
  int runs;   // in a row, see RUN
  int parts_count;
  int lanes;     // threads side by side along C: a power of two, at most a warp
  int per_part;  // runs in a part
};

template <class T>
DEVICE void naive_forward(const Depthwise<T>& p) {
  const Sizes& s = p.s;
  unsigned total = (unsigned)s.n * s.ho * s.wo * s.c;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    int c = i % s.c, ox = i / s.c % s.wo, oy = i / s.c / s.wo % s.ho, n = i / s.c / s.wo / s.ho;
    float sum = p.bias ? load(&p.bias[c]) : 0.0f;
    for (int ky = 0; ky < s.kh; ++ky) {
      int iy = oy * s.stride + ky * s.dilation - s.pad_h;
      if (!inside(iy, s.h)) continue;
      for (int kx = 0; kx < s.kw; ++kx) {
        int ix = ox * s.stride + kx * s.dilation - s.pad_w;
        if (!inside(ix, s.w)) continue;
        sum += load(&p.w[(ky * s.kw + kx) * s.c + c]) *
               load(&p.x[((n * s.h + iy) * s.w + ix) * s.c + c]);
      }
    }
    store(&p.y[i], sum);
  }
}

template <class T>
DEVICE void naive_input_grad(const DepthwiseInputGrad<T>& p) {
  const Sizes& s = p.s;
  unsigned total = (unsigned)s.n * s.h * s.w * s.c;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    int c = i % s.c, ix = i / s.c % s.w, iy = i / s.c / s.w % s.h, n = i / s.c / s.w / s.h;
    float sum = 0.0f;
    for (int ky = 0; ky < s.kh; ++ky) {
      int ty = iy + s.pad_h - ky * s.dilation;
      if (ty < 0 || ty % s.stride != 0 || ty / s.stride >= s.ho) continue;
      for (int kx = 0; kx < s.kw; ++kx) {
        int tx = ix + s.pad_w - kx * s.dilation;
        if (tx < 0 || tx % s.stride != 0 || tx / s.stride >= s.wo) continue;
        int at = (n * s.ho + ty / s.stride) * s.wo + tx / s.stride;
        sum += load(&p.w[(ky * s.kw + kx) * s.c + c]) * load(&p.g[at * s.c + c]);
      }
    }
    store(&p.dx[i], sum);
  }
}

template <class T>
DEVICE void naive_weight_grad(const DepthwiseWeightGrad<T>& p) {
  const Sizes& s = p.s;
  unsigned total = (unsigned)s.kh * s.kw * s.c;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    int c = i % s.c, kx = i / s.c % s.kw, ky = i / s.c / s.kw;
    float sum = 0.0f;
    for (int r = 0; r < s.n * s.ho; ++r) {
      int n = r / s.ho, iy = r % s.ho * s.stride + ky * s.dilation - s.pad_h;
      if (!inside(iy, s.h)) continue;
      float row = 0.0f;  // keeps rounding small
      for (int ox = 0; ox < s.wo; ++ox) {
        int ix = ox * s.stride + kx * s.dilation - s.pad_w;
        if (!inside(ix, s.w)) continue;
        float x = p.x ? load(&p.x[((n * s.h + iy) * s.w + ix) * s.c + c]) : 1.0f;
        row += load(&p.g[(r * s.wo + ox) * s.c + c]) * x;
      }
      sum += row;
    }
    store(&p.dw[i], sum);
  }
}

// Stride 1, K x K, V channels in a thread.
template <int K, bool Turned, class T, int V>
DEVICE void run_forward(const Depthwise<T>& p) {
  const Sizes& s = p.s;
  unsigned packs = s.c / V;
  unsigned total = (unsigned)s.n * s.ho * p.runs * packs;
  for (unsigned i = grid_index(); i < total; i += grid_size()) {
    int c = i % packs * V;
    unsigned r = i / packs;
    int x = run_start(r % p.runs, s.dilation);
    int row = r / p.runs, y = row % s.ho, n = row / s.ho;
    float acc[RUN][V];
#pragma unroll
    for (int e = 0; e < V; ++e) {
      float bias = p.bias ? load(&p.bias[c + e]) : 0.0f;
#pragma unroll
      for (int j = 0; j < RUN; ++j) acc[j][e] = bias;
    }
    Source<T> from = {p.x + (size_t)n * s.h * s.w * s.c + c, p.w + c,        s.h, s.w, s.c, V,
                      s.dilation,                            1.0f};
    add_windows<K, true, Turned>(acc, from, y - s.pad_h, x - s.pad_w);
    T* to = p.y + (size_t)row * s.wo * s.c + c;
#pragma unroll
    for (int j = 0; j < RUN; ++j) {
      int at = x + j * s.dilation;
      if (at < s.wo) store_vector(&to[at * s.c], acc[j]);
    }
  }
}

// Bodies for one side of the kernel, forward and turned.
#define SIDE(k)                                                                       \
  template <class T, int V>                                                           \
  DEVICE void plain_##k(const Depthwise<T>& p) { run_forward<k, false, T, V>(p); }    \
  template <class T, int V>                                                           \
  DEVICE void turned_##k(const Depthwise<T>& p) { run_forward<k, true, T, V>(p); }    \
  template <class T>                                                                  \
  DEVICE void forward_##k(const Depthwise<T>& p) { BY_CHANNELS(plain_##k, T, p.s.c, p) } \
  template <class T>                                                                  \
  DEVICE void input_grad_##k(const Depthwise<T>& p) { BY_CHANNELS(turned_##k, T, p.s.c, p) }
SIDE(3)
SIDE(5)

// Stage 1 of the kernel's gradient. A block sums one part of the runs for `lanes` channels and, with
// K > 1, all K x K taps (stride 1); with K = 1, one tap of any kernel and stride.
template <int K, class T>
DEVICE void weight_grad_parts(const DepthwiseWeightGrad<T>& p) {
  constexpr int WARPS = THREADS / WARP;
  SHARED(float, sums, WARPS * K * K * WARP);
  const Sizes& s = p.s;
  int columns = (s.c + p.lanes - 1) / p.lanes;
  int part = blockIdx.x / columns % p.parts_count;
  int tap = blockIdx.x / columns / p.parts_count;  // 0 with K > 1
  int ky0 = tap / s.kw, kx0 = tap % s.kw;
  int c = blockIdx.x % columns * p.lanes + threadIdx.x % p.lanes;
  float acc[K * K];
#pragma unroll
  for (int k = 0; k < K * K; ++k) acc[k] = 0.0f;
  int end = min((part + 1) * p.per_part, s.n * s.ho * p.runs);
  int first = part * p.per_part + threadIdx.x / p.lanes;
  if (c < s.c) {
    for (int r = first; r < end; r += THREADS / p.lanes) {
      int ox = run_start(r % p.runs, s.dilation);
      int row = r / p.runs, oy = row % s.ho, n = row / s.ho;
      float g[RUN];
#pragma unroll
      for (int j = 0; j < RUN; ++j) {
        int at = ox + j * s.dilation;
        g[j] = at < s.wo ? load(&p.g[(row * s.wo + at) * s.c + c]) : 0.0f;
      }
#pragma unroll
      for (int ky = 0; ky < K; ++ky) {
        int iy = oy * s.stride + (ky0 + ky) * s.dilation - s.pad_h;
        if (!inside(iy, s.h)) continue;
#pragma unroll
        for (int j = 0; j < RUN + K - 1; ++j) {
          int ix = (ox + j * s.dilation) * s.stride + kx0 * s.dilation - s.pad_w;
          if (!inside(ix, s.w)) continue;
          float x = p.x ? load(&p.x[((n * s.h + iy) * s.w + ix) * s.c + c]) : 1.0f;
#pragma unroll
          for (int kx = 0; kx < K; ++kx) {
            if (j - kx >= 0 && j - kx < RUN) acc[ky * K + kx] += g[j - kx] * x;
          }
        }
      }
    }
  }
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
#pragma unroll
  for (int k = 0; k < K * K; ++k) {
    for (int mask = p.lanes; mask < WARP; mask *= 2) acc[k] += warp_shuffle_xor(acc[k], mask);
    if (lane < p.lanes) sums[(warp * K * K + k) * WARP + lane] = acc[k];
  }
  sync_block();
  for (int i = threadIdx.x; i < K * K * p.lanes; i += THREADS) {
    int k = i / p.lanes, column = i % p.lanes;
    int to = blockIdx.x % columns * p.lanes + column;
    if (to >= s.c) continue;
    float sum = 0.0f;
    for (int w = 0; w < WARPS; ++w) sum += sums[(w * K * K + k) * WARP + column];
    p.parts[((size_t)part * s.kh * s.kw + tap + k) * s.c + to] = sum;
  }
}

template <class T>
DEVICE void weight_grad_1(const DepthwiseWeightGrad<T>& p) { weight_grad_parts<1>(p); }
template <class T>
DEVICE void weight_grad_3(const DepthwiseWeightGrad<T>& p) { weight_grad_parts<3>(p); }
template <class T>
DEVICE void weight_grad_5(const DepthwiseWeightGrad<T>& p) { weight_grad_parts<5>(p); }

// Stage 2: a warp's width of elements, each summed by one thread of every warp.
template <class T>
DEVICE void weight_grad_sum(const DepthwiseWeightGrad<T>& p) {
  constexpr int WARPS = THREADS / WARP;
  SHARED2(float, sums, WARPS, WARP);
  int len = p.s.kh * p.s.kw * p.s.c;
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  int i = blockIdx.x * WARP + lane;
  float sum = 0.0f;
  if (i < len) {
    for (int k = warp; k < p.parts_count; k += WARPS) sum += p.parts[(size_t)k * len + i];
  }
  sums[warp][lane] = sum;
  sync_block();
  if (warp == 0 && i < len) {
    for (int w = 1; w < WARPS; ++w) sum += sums[w][lane];
    store(&p.dw[i], sum);
  }
}

KERNELS(depthwise_naive_fwd, THREADS, Depthwise, naive_forward)
KERNELS(depthwise_fwd_k3, THREADS, Depthwise, forward_3)
KERNELS(depthwise_fwd_k5, THREADS, Depthwise, forward_5)
KERNELS(depthwise_bwd_input_k3, THREADS, Depthwise, input_grad_3)
KERNELS(depthwise_bwd_input_k5, THREADS, Depthwise, input_grad_5)
KERNELS(depthwise_naive_bwd_input, THREADS, DepthwiseInputGrad, naive_input_grad)
KERNELS(depthwise_naive_bwd_weight, THREADS, DepthwiseWeightGrad, naive_weight_grad)
KERNELS(depthwise_bwd_weight, THREADS, DepthwiseWeightGrad, weight_grad_1)
KERNELS(depthwise_bwd_weight_k3, THREADS, DepthwiseWeightGrad, weight_grad_3)
KERNELS(depthwise_bwd_weight_k5, THREADS, DepthwiseWeightGrad, weight_grad_5)
KERNELS(depthwise_bwd_weight_sum, THREADS, DepthwiseWeightGrad, weight_grad_sum)
