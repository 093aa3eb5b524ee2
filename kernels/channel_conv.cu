// Convolution over neighbouring channels, zero padded, for channel attention.
// Formulas: src/ops/channel_conv.rs.
// Backward is the transposed convolution of the cotangent, and for the weights x against the cotangent.
#include "common/kernel.cuh"

template <class T>
struct ChannelConv {
  const T* x;  // [N, C]
  const T* w;  // [k]
  T* y;        // [N, C]
  unsigned n, c;
  int k, transposed;
};

template <class T>
struct ChannelConvGrad {
  const T* x;  // [N, C]
  const T* g;  // [N, C], cotangent
  T* dw;       // [k]
  unsigned n, c;
  int k, padding;
};

template <class T>
DEVICE void channel_conv(const ChannelConv<T>& p) {
  for (unsigned i = grid_index(); i < p.n * p.c; i += grid_size()) {
    int c = i % p.c, size = p.c, reach = p.k / 2;
    const T* x = p.x + (i - c);
    float sum = 0.0f;
    for (int j = 0; j < p.k; ++j) {
      int at = p.transposed ? c + reach - j : c + j - reach;
      if (at >= 0 && at < size) sum += load(&p.w[j]) * load(&x[at]);
    }
    store(&p.y[i], sum);
  }
}

// One block for each tap.
template <class T>
DEVICE void channel_conv_weight(const ChannelConvGrad<T>& p) {
  SHARED(float, sums, THREADS);
  int j = blockIdx.x, size = p.c;
  float sum = 0.0f;
  for (unsigned i = threadIdx.x; i < p.n * p.c; i += THREADS) {
    int at = static_cast<int>(i % p.c) + j - p.k / 2;
    if (at >= 0 && at < size) sum += load(&p.g[i]) * load(&p.x[i - i % p.c + at]);
  }
  sums[threadIdx.x] = sum;
  sync_block();
  for (unsigned step = THREADS / 2; step > 0; step /= 2) {
    if (threadIdx.x < step) sums[threadIdx.x] += sums[threadIdx.x + step];
    sync_block();
  }
  if (threadIdx.x == 0) store(&p.dw[j], sums[0]);
}

KERNELS(channel_conv1d_fwd, THREADS, ChannelConv, channel_conv)
KERNELS(channel_conv1d_bwd_weight, THREADS, ChannelConvGrad, channel_conv_weight)
