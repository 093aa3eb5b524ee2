// Dense convolution in f16 on tensor cores, with bias, activation and residual fused.
// Formula: conv2d in src/ops/conv/mod.rs, as a matrix product of the kernel (output channels by terms)
// and pixels, whose terms are taps and channels; what a block reads of the input is copied once for
// all taps.
// Inference only: backward in f16 uses conv.cu and conv_grad.cu.
#include "common/conv.cuh"

constexpr int WARPS = 4, BLOCK = WARPS * WARP;
constexpr int COLUMNS = 16;    // of a block's tile of pixels; a fragment has half of them
constexpr int CHANNELS = 32;   // of a chunk
constexpr int CAPACITY = 400;  // pixels of a patch: PATCH in src/ops/conv/cuda.rs
constexpr int STAGES = 3;      // of slices of the kernel: one tap, one chunk

// The order of a product's terms and of its rows is free. So lane (g, t) = (lane / 4, lane % 4) takes
// channels 8 t to 8 t + 7 of a chunk, one load for each pixel, and output channels 2 CT g to
// 2 CT g + 2 CT - 1 of a slice: it ends with neighbouring channels of a pixel.
template <int CT>
struct Slice {
  static constexpr int WIDTH = 16 * CT;
  // 16 spare elements after 8 rows: lanes with different t reach different banks.
  static constexpr int SIZE = CHANNELS * WIDTH + CHANNELS / 8 * 16;

  static DEVICE int at(int channel, int n) { return channel * WIDTH + channel / 8 * 16 + n; }
};

// 2, 4 or 8 elements, aligned as a whole.
template <int N>
struct alignas(2 * N) Run {
  half v[N];
};

// Two elements as a register of a fragment holds them.
DEVICE unsigned pair(half low, half high) {
  half both[2] = {low, high};
  unsigned bits;
  memcpy(&bits, both, sizeof bits);
  return bits;
}

// The part of the input under a block's tile, zeros outside the picture. Columns that share their
// remainder by the stride lie together: then a tap's pixels are neighbours for any stride.
struct Patch {
  int height, pitch, plane, stride;

  DEVICE Patch(const Conv<half>& p, int rows) {
    stride = p.stride;
    height = (rows - 1) * stride + (p.kh - 1) * p.dilation + 1;
    plane = ceil_div((COLUMNS - 1) * stride + (p.kw - 1) * p.dilation + 1, stride);
    pitch = plane * stride;
  }

  DEVICE int pixels() const { return height * pitch; }
};

// A block computes 4 MT rows of 16 pixels by 16 CT channels, a warp MT rows.
template <int MT, int CT>
DEVICE void conv_mma(const Conv<half>& p) {
  using S = Slice<CT>;
  SHARED(half, memory, CAPACITY * CHANNELS);
  SHARED(half, slices, STAGES * S::SIZE);
  constexpr int ROWS = MT * WARPS;
  int tid = threadIdx.x, warp = tid / WARP, g = tid % WARP / 4, t = tid % 4;
  int across = ceil_div(p.cout, S::WIDTH), columns = ceil_div(p.ow, COLUMNS), rows = ceil_div(p.oh, ROWS);
  int n0 = blockIdx.x % across * S::WIDTH;
  int x0 = blockIdx.x / across % columns * COLUMNS, y0 = blockIdx.x / across / columns % rows * ROWS;
  int image = blockIdx.x / across / columns / rows;
  Patch patch(p, ROWS);
  int chunks = ceil_div(p.cin, CHANNELS), taps = p.kh * p.kw;
  bool two = 2 * patch.pixels() <= CAPACITY;  // patches fit: the next one is copied ahead

  auto load_patch = [&](int chunk) {
    half* to = memory + (two ? chunk % 2 * patch.pixels() * CHANNELS : 0) + tid % 4 * 8;
    int c = chunk * CHANNELS + tid % 4 * 8, i = tid / 4, y = i / patch.pitch, at = i % patch.pitch;
#pragma unroll 1
    for (; i < patch.pixels(); i += BLOCK / 4) {
      int x = at, first = 0;
      for (; x >= patch.plane; x -= patch.plane) ++first;
      int in_y = y0 * p.stride - p.pad_y + y, in_x = (x0 + x) * p.stride + first - p.pad_x;
      bool valid = c < p.cin && inside(in_y, p.h) && inside(in_x, p.width);
      int from = valid ? ((image * p.h + in_y) * p.width + in_x) * p.cin + c : 0;
      copy_async_16(to + i * CHANNELS, p.in + from, valid);
      for (at += BLOCK / 4; at >= patch.pitch; at -= patch.pitch) ++y;
    }
  };
  auto load_slice = [&](int stage, int chunk, int tap) {
    half* to = slices + stage * S::SIZE;
    int c0 = chunk * CHANNELS, left = p.cout - n0;
    const half* from = p.w + (tap * p.cin + c0) * p.cout + n0;
    if (p.cout % 8 == 0) {
      constexpr int COPIES = CHANNELS * S::WIDTH / 8;
#pragma unroll
      for (int first = 0; first < COPIES; first += BLOCK) {
        int i = first + tid, c = i / (2 * CT), n = i % (2 * CT) * 8;
        bool valid = c0 + c < p.cin && n < left;
        if (COPIES % BLOCK == 0 || i < COPIES)
          copy_async_16(to + S::at(c, n), valid ? from + c * p.cout + n : p.w, valid);
      }
      return;
    }
#pragma unroll 1
    for (int first = 0; first < CHANNELS * S::WIDTH; first += BLOCK) {
      int i = first + tid, c = i / S::WIDTH, n = i % S::WIDTH;
      bool valid = c0 + c < p.cin && n < left;
      to[S::at(c, n)] = valid ? from[c * p.cout + n] : float_to_half(0.0f);
    }
  };

  float sum[MT][2][CT][4] = {};  // [row][half of the columns][16 channels]
  auto multiply = [&](int stage, int chunk, int shift) {
    const half* slice = slices + stage * S::SIZE + S::at(8 * t, 2 * CT * g);
    unsigned a[2][CT][4];  // two products of 16 terms
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      Run<2 * CT> w[4];
#pragma unroll
      for (int c = 0; c < 4; ++c)
        w[c] = *reinterpret_cast<const Run<2 * CT>*>(slice + (4 * k + c) * S::WIDTH);
#pragma unroll
      for (int n = 0; n < 2 * CT; ++n) {
        a[k][n / 2][n % 2] = pair(w[0].v[n], w[1].v[n]);
        a[k][n / 2][n % 2 + 2] = pair(w[2].v[n], w[3].v[n]);
      }
    }
    int buffer = two ? chunk % 2 * patch.pixels() : 0;
    const half* from = memory + (buffer + shift + warp * MT * p.stride * patch.pitch + g) * CHANNELS + 8 * t;
#pragma unroll
    for (int i = 0; i < MT; ++i)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        Pack<half> x = load_pack(from + (i * p.stride * patch.pitch + 8 * j) * CHANNELS);
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          unsigned b[2] = {pair(x.v[4 * k], x.v[4 * k + 1]), pair(x.v[4 * k + 2], x.v[4 * k + 3])};
#pragma unroll
          for (int n = 0; n < CT; ++n) mma_m16n8k16(sum[i][j][n], a[k][n], b);
        }
      }
  };

  // In a round every thread copies a slice, closes a group of copies, and multiplies the slice that was
  // copied STAGES - 1 rounds before. Its tap begins at row `dy` of the patch and column `first` + x * stride.
  int next_chunk = 0, next_tap = 0;
  int chunk = 0, tap = 0, column = 0, dy = 0, first = 0, x = 0;
#pragma unroll 1
  for (int round = 0; round < chunks * taps + STAGES - 1; ++round) {
    bool ready = round >= STAGES - 1;
    if (ready) {
      // A patch is copied `taps` rounds ahead, which may be less than slices are.
      if (tap == 0) copy_async_wait<0>();
      else copy_async_wait<STAGES - 2>();
      sync_block();
    }
    bool begins = ready && tap == 0, late = begins && chunk > 0 && !two;
    int due = late ? chunk : begins && two ? chunk + 1 : round == 0 ? 0 : chunks;
    if (due < chunks) load_patch(due);
    if (next_chunk < chunks) load_slice(round % STAGES, next_chunk, next_tap);
    if (++next_tap == taps) next_tap = 0, ++next_chunk;
    copy_async_commit();
    if (!ready) continue;
    if (late) {
      copy_async_wait<0>();
      sync_block();
    }
    multiply((round + 1) % STAGES, chunk, dy * patch.pitch + first * patch.plane + x);
    for (first += p.dilation; first >= p.stride; first -= p.stride) ++x;
    if (++column == p.kw) column = first = x = 0, dy += p.dilation;
    if (++tap == taps) tap = dy = 0, ++chunk;
  }
  sync_block();

  // The lane has channels n to n + HELD - 1 of pixels 2 t and 2 t + 1 in each half of each row:
  // channel 2 j + h of pixel 2 t + e is sum[..][..][j][2 h + e]. Bias and activation first.
  constexpr int HELD = 2 * CT;
  int n = n0 + HELD * g;
#pragma unroll
  for (int k = 0; k < HELD; ++k) {
    float bias = p.bias && n + k < p.cout ? load(p.bias + n + k) : 0.0f;
#pragma unroll
    for (int i = 0; i < 4 * MT; ++i) {
      float& z = sum[i / 4][i / 2 % 2][k / 2][k % 2 * 2 + i % 2];
      z += bias;
      if (p.activation.kind == 1) z = activate({1, p.activation.slope}, z);
    }
  }
  if (p.activation.kind > 1) {
    // Long code: a loop over the thread's own part of the patch, not a copy for each value.
    float* own = reinterpret_cast<float*>(memory) + tid;
#pragma unroll
    for (int i = 0; i < MT; ++i) {
#pragma unroll
      for (int k = 0; k < 8 * CT; ++k) own[k * BLOCK] = sum[i][k / 4 / CT][k / 4 % CT][k % 4];
#pragma unroll 1
      for (int k = 0; k < 8 * CT; ++k) own[k * BLOCK] = activate(p.activation, own[k * BLOCK]);
#pragma unroll
      for (int k = 0; k < 8 * CT; ++k) sum[i][k / 4 / CT][k / 4 % CT][k % 4] = own[k * BLOCK];
    }
  }
  int left = p.cout - n;
  bool runs = p.cout % 8 == 0;
#pragma unroll
  for (int i = 0; i < 4 * MT; ++i) {
    int out_y = y0 + warp * MT + i / 4, out_x = x0 + i / 2 % 2 * 8 + 2 * t + i % 2;
    if (out_y >= p.oh || out_x >= p.ow || left <= 0) continue;
    int at = ((image * p.oh + out_y) * p.ow + out_x) * p.cout + n;
    Run<HELD> y, add = {};
    if (p.residual && runs) add = *reinterpret_cast<const Run<HELD>*>(p.residual + at);
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
      if (p.residual && !runs && k < left) add.v[k] = p.residual[at + k];
      store(&y.v[k], sum[i / 4][i / 2 % 2][k / 2][k % 2 * 2 + i % 2] + load(&add.v[k]));
      if (!runs && k < left) p.out[at + k] = y.v[k];
    }
    if (runs) *reinterpret_cast<Run<HELD>*>(p.out + at) = y;
  }
}

#define MMA(name, MT, CT) \
  KERNEL(conv2d_fwd_mma_##name##_f16, BLOCK, Conv<half>) { conv_mma<MT, CT>(p); }

MMA(m128n16, 2, 1)
MMA(m256n32, 4, 2)
MMA(m128n64, 2, 4)
MMA(m64n32, 1, 2)
MMA(m64n64, 1, 4)
