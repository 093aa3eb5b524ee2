// Weight gradient of the dense convolution, and the derivative of its activation.
// Formula: dw[u,v,c,o] = sum over n, i, j of x[n, i s + u d - p, j s + v d - p, c] g[n,i,j,o], as a
// matrix product whose terms are pixels: parts of them first, then the sum of the parts in order.
// Backward needs the forward input and the cotangent; the derivative is read from the output.
#include "common/conv.cuh"

constexpr int PIXELS = 16;  // terms of a stage
constexpr int STAGES = 2;
constexpr int BN = 32;

// A warp computes 32 rows (tap and input channel) by BN output channels, a thread 8 by 4; the warps
// of a block share the output channels.
template <class T, int WARPS>
DEVICE void conv_weight(const ConvWeight<T>& p) {
  constexpr int BM = WARPS * WARP, BLOCK = WARPS * WARP;
  constexpr bool SINGLE = sizeof(T) == 4;
  SHARED2(float, a, STAGES * PIXELS, BM);
  SHARED2(float, b, STAGES * PIXELS, BN);
  SHARED(Position, positions, STAGES * PIXELS);
  int tid = threadIdx.x, height = p.kh * p.kw * p.cin;
  int across = ceil_div(p.cout, BN), down = ceil_div(height, BM);
  int n0 = blockIdx.x % across * BN, m0 = blockIdx.x / across % down * BM;
  int part = blockIdx.x / across / down;
  Axis rows = forward_axis(p.oh, p.h, p.kh, p.stride, p.dilation, p.pad_y);
  Axis columns = forward_axis(p.ow, p.width, p.kw, p.stride, p.dilation, p.pad_x);
  int pixels = p.n * p.oh * p.ow;
  int stages = ceil_div(ceil_div(pixels, p.part_count), PIXELS);
  unsigned begin = part * static_cast<unsigned>(stages * PIXELS);

  // The row, or pack of 4, that this thread copies; its tap is the same for all pixels.
  bool packs_a = SINGLE && p.cin % 4 == 0, packs_b = SINGLE && p.cout % 4 == 0;
  int row = packs_a ? 4 * (tid % (BM / 4)) : tid;
  int tap = (m0 + row) / p.cin, c = (m0 + row) % p.cin;
  int dy = tap / p.kw * p.dilation - p.pad_y, dx = tap % p.kw * p.dilation - p.pad_x;
  int shift = (dy * p.width + dx) * p.cin + c;

  auto place = [&](int s) {
    if (tid < PIXELS)
      positions[s % STAGES * PIXELS + tid] =
          position(rows, columns, p.n, p.oh, p.ow, begin + s * PIXELS + tid);
  };
  auto load_stage = [&](int s) {
    int first = s % STAGES * PIXELS;
#pragma unroll 2
    for (int k = packs_a ? tid / (BM / 4) : 0; k < PIXELS; k += packs_a ? 4 : 1) {
      Position q = positions[first + k];
      bool valid = m0 + row < height && inside(q.y + dy, p.h) && inside(q.x + dx, p.width);
      const T* from = p.x + (valid ? q.pixel * p.cin + shift : 0);
      if (packs_a) copy_async_16(&a[first + k][row], from, valid);
      else a[first + k][row] = valid ? load(from) : 0.0f;
    }
    int step = packs_b ? 4 : 1;
#pragma unroll 2
    for (int i = tid * step; i < PIXELS * BN; i += BLOCK * step) {
      int k = i / BN, n = i % BN, pixel = positions[first + k].out;
      bool valid = pixel >= 0 && n0 + n < p.cout;
      const T* from = p.g + (valid ? pixel * p.cout + n0 + n : 0);
      if (packs_b) copy_async_16(&b[first + k][n], from, valid);
      else b[first + k][n] = valid ? load(from) : 0.0f;
    }
  };

  // Lanes form 4 x 8; which bit counts where lets pairs of lanes share their loads.
  int lane = tid % WARP;
  int m = tid / WARP * WARP + 4 * ((lane >> 1 & 1) | (lane >> 2 & 2));
  int n = 4 * ((lane & 1) | (lane >> 1 & 2) | (lane >> 2 & 4));
  float sum[8][4] = {};
  place(0);
  for (int s = -1; s < stages; ++s) {
    copy_async_wait<0>();
    sync_block();
    if (s + 1 < stages) load_stage(s + 1);
    copy_async_commit();
    if (s + 2 < stages) place(s + 2);
    if (s < 0) continue;
#pragma unroll 4
    for (int k = s % STAGES * PIXELS; k < s % STAGES * PIXELS + PIXELS; ++k) {
      Pack<float> x[2] = {load_pack(&a[k][m]), load_pack(&a[k][m + 16])};
      Pack<float> g = load_pack(&b[k][n]);
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[i][j] += x[i / 4].v[i % 4] * g.v[j];
    }
  }

#pragma unroll
  for (int i = 0; i < 8; ++i) {
    int at_m = m0 + m + i / 4 * 16 + i % 4, at_n = n0 + n;
    if (at_m >= height) continue;
    float* to = p.parts + (part * height + at_m) * p.cout + at_n;
    if (p.cout % 4 == 0) {
      if (at_n < p.cout) store_pack(to, {sum[i][0], sum[i][1], sum[i][2], sum[i][3]});
      continue;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (at_n + j < p.cout) to[j] = sum[i][j];
  }
}

// A block sums the parts of 32 weights: each warp some of the parts, then the first warp the rest.
template <class T>
DEVICE void weight_sum(const ConvWeight<T>& p) {
  constexpr int WARPS = THREADS / WARP;
  SHARED2(float, sums, WARPS, WARP);
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int weights = p.kh * p.kw * p.cin * p.cout, i = blockIdx.x * WARP + lane;
  int end = (warp + 1) * p.part_count / WARPS;
  float sum = 0.0f;
  if (i < weights)
    for (int part = warp * p.part_count / WARPS; part < end; ++part)
      sum += p.parts[part * weights + i];
  sums[warp][lane] = sum;
  sync_block();
  if (warp > 0 || i >= weights) return;
  for (int w = 1; w < WARPS; ++w) sum += sums[w][lane];
  store(p.dw + i, sum);
}

#define WEIGHT(name, T, WARPS)                                       \
  KERNEL(conv2d_bwd_weight_##name, WARPS * WARP, ConvWeight<T>) {    \
    conv_weight<T, WARPS>(p);                                        \
  }

WEIGHT(m96_f32, float, 3)
WEIGHT(m32_f32, float, 1)
WEIGHT(m32_f16, half, 1)
KERNELS(conv2d_bwd_weight_sum, THREADS, ConvWeight, weight_sum)

template <class T>
struct ActivationGrad {
  const T* y;         // [n], f(z) + residual
  const T* g;         // [n], cotangent
  const T* residual;  // [n] or null
  T* dz;              // [n]
  unsigned n;
  Activation activation;
  int unused;
};

template <class T>
DEVICE float derive(const ActivationGrad<T>& p, T y, T g, T residual) {
  return load(&g) * activation_derivative(p.activation, load(&y) - load(&residual));
}

template <class T>
DEVICE void activation_grad(const ActivationGrad<T>& p) {
  constexpr int N = Pack<T>::N;
  unsigned packs = p.n / N;
  for (unsigned i = grid_index(); i < packs; i += grid_size()) {
    Pack<T> y = load_pack(p.y + i * N), g = load_pack(p.g + i * N), r = {};
    if (p.residual) r = load_pack(p.residual + i * N);
    for (int j = 0; j < N; ++j) store(&g.v[j], derive(p, y.v[j], g.v[j], r.v[j]));
    store_pack(p.dz + i * N, g);
  }
  for (unsigned i = packs * N + grid_index(); i < p.n; i += grid_size())
    store(&p.dz[i], derive(p, p.y[i], p.g[i], p.residual ? p.residual[i] : T{}));
}

KERNELS(activation_grad, THREADS, ActivationGrad, activation_grad)
