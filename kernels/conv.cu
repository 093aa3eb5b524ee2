// Dense convolution and its input gradient in f32, and in f16 where tensor cores do not apply, with
// bias, activation and residual fused.
// Formula: conv2d in src/ops/conv/mod.rs, as a matrix product whose rows are pixels and whose terms
// are taps and channels; the input gradient is the same product over the taps that meet a pixel.
// Backward needs the kernel here, the input for the weight gradient (conv_grad.cu) and the output
// for the activation's derivative.
#include "common/conv.cuh"

// Channel and tap (column, row) of one term of the product; terms are in the kernel's order.
struct Term {
  int c, x, y;
};

DEVICE Term term_after(Term t, int steps, int channels, int columns) {
  t.c += steps;
  while (t.c >= channels) {
    t.c -= channels;
    if (++t.x == columns) t.x = 0, ++t.y;
  }
  return t;
}

constexpr int DEPTH = 16;  // terms of a stage
constexpr int STAGES = 2;

// A block computes BM pixels by BN channels, a thread TM by TN. Stages of DEPTH terms of both factors
// are copied to shared memory while the stage before is multiplied. Rows of the pixels' tile hold
// four packs of 4 terms, exchanged by the row's bits so that 8 rows reach all banks.
template <class T, bool TRANSPOSED, int BM, int BN, int TM, int TN>
struct Tile {
  static constexpr int BLOCK = (BM / TM) * (BN / TN);
  static constexpr int PACKS = DEPTH / 4;
  static constexpr bool SINGLE = sizeof(T) == 4;

  const Conv<T>& p;
  const Axis &rows, &columns;
  int channels;  // summed over
  int width;     // channels written
  int n0;
  Position* positions;   // [BM]
  float (*a)[DEPTH];     // [STAGES * BM]
  float (*b)[BN];        // [STAGES * DEPTH]

  static DEVICE int swizzle(int row) { return (row >> 1) & 3; }

  DEVICE void load_pixels(int stage, Term first) {
    bool packs = SINGLE && channels % 4 == 0;
    int lanes = packs ? PACKS : DEPTH;
    int lane = threadIdx.x % lanes;
    Term at = term_after(first, packs ? 4 * lane : lane, channels, columns.taps);
    int dy = rows.offset + at.y * rows.offset_step;
    int dx = columns.offset + at.x * columns.offset_step;
    bool live = at.y < rows.taps;
    if (packs) {
#pragma unroll 2
      for (int r = 0; r < BM; r += BLOCK / PACKS) {
        int row = r + threadIdx.x / PACKS;
        Position q = positions[row];
        bool valid = live && inside(q.y + dy, rows.in_len) && inside(q.x + dx, columns.in_len);
        int from = valid ? (q.pixel + dy * columns.in_len + dx) * channels + at.c : 0;
        copy_async_16(&a[stage * BM + row][4 * (lane ^ swizzle(row))], p.in + from, valid);
      }
      return;
    }
#pragma unroll 2
    for (int r = 0; r < BM; r += BLOCK / DEPTH) {
      int row = r + threadIdx.x / DEPTH;
      Position q = positions[row];
      bool valid = live && inside(q.y + dy, rows.in_len) && inside(q.x + dx, columns.in_len);
      int from = (q.pixel + dy * columns.in_len + dx) * channels + at.c;
      a[stage * BM + row][4 * (lane / 4 ^ swizzle(row)) + lane % 4] = valid ? load(p.in + from) : 0.0f;
    }
  }

  // Rows of the kernel as they lie in memory are the terms.
  DEVICE void load_kernel(int stage, int first, int terms) {
    if (SINGLE && width % 4 == 0) {
      constexpr int COPIES = DEPTH * BN / 4;
#pragma unroll
      for (int done = 0; done < COPIES; done += BLOCK) {
        int i = done + threadIdx.x, row = i / (BN / 4), n = i % (BN / 4) * 4;
        bool valid = first + row < terms && n0 + n < width;
        int from = valid ? (first + row) * width + n0 + n : 0;
        if (COPIES % BLOCK == 0 || i < COPIES) copy_async_16(&b[stage * DEPTH + row][n], p.w + from, valid);
      }
      return;
    }
#pragma unroll 2
    for (int done = 0; done < DEPTH * BN; done += BLOCK) {
      int i = done + threadIdx.x, row = i / BN, n = i % BN;
      bool valid = first + row < terms && n0 + n < width;
      b[stage * DEPTH + row][n] = valid ? load(p.w + (first + row) * width + n0 + n) : 0.0f;
    }
  }

  // Terms are the kernel's columns, and only the taps of this phase count.
  DEVICE void load_transposed_kernel(int stage, Term first) {
    int n = threadIdx.x % BN;
    bool packs = SINGLE && channels % 4 == 0;
    for (int done = 0; done < PACKS; done += BLOCK / BN) {
      int pack = done + threadIdx.x / BN;
      if (pack >= PACKS) break;
      Term at = term_after(first, 4 * pack, channels, columns.taps);
      for (int j = 0; j < 4; ++j) {
        float* to = &b[stage * DEPTH + 4 * pack + j][n];
        bool valid = at.y < rows.taps && n0 + n < width;
        int tap = (rows.k + at.y * rows.k_step) * p.kw + columns.k + at.x * columns.k_step;
        const T* from = p.w + (tap * width + n0 + n) * channels + at.c;
        if (packs) {
          Pack<T> v = {};
          if (valid) v = load_pack(from);
          for (int i = 0; i < 4; ++i) to[i * BN] = load(&v.v[i]);
          break;
        }
        *to = valid ? load(from) : 0.0f;
        at = term_after(at, 1, channels, columns.taps);
      }
    }
  }

  DEVICE void load_stage(int s, Term first) {
    int stage = s % STAGES;
    load_pixels(stage, first);
    if (TRANSPOSED) load_transposed_kernel(stage, first);
    else load_kernel(stage, s * DEPTH, p.kh * p.kw * channels);
  }

  // Adds a stage to the thread's pixels m + i * BM / TM and channels n + 16 * (j / 4) + j % 4.
  DEVICE void multiply(int s, int m, int n, float (&sum)[TM][TN]) {
    int at_a = s % STAGES * BM + m, at_b = s % STAGES * DEPTH;
#pragma unroll 1
    for (int pack = 0; pack < PACKS; ++pack) {
      Pack<float> x[TM];
#pragma unroll
      for (int i = 0; i < TM; ++i)
        x[i] = load_pack(&a[at_a + i * (BM / TM)][4 * (pack ^ swizzle(m))]);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        Pack<float> w[TN / 4];
#pragma unroll
        for (int j = 0; j < TN / 4; ++j) w[j] = load_pack(&b[at_b + 4 * pack + k][n + 16 * j]);
#pragma unroll
        for (int i = 0; i < TM; ++i)
#pragma unroll
          for (int j = 0; j < TN; ++j) sum[i][j] += x[i].v[k] * w[j / 4].v[j % 4];
      }
    }
  }

  // Stores channels n0 + n to n0 + n + 3 of pixel `out`.
  DEVICE void finish(int out, int n, const Pack<float>& sum) {
    n += n0;
    if (out < 0 || n >= width) return;
    int at = out * width + n;
    bool packs = SINGLE && width % 4 == 0;
    Pack<T> y = {}, add = {};
    if (!TRANSPOSED && p.residual && packs) add = load_pack(p.residual + at);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float v = sum.v[j];
      bool exists = packs || n + j < width;
      if (!TRANSPOSED) {
        if (p.bias && exists) v += load(p.bias + n + j);
        v = activate(p.activation, v);
        if (p.residual && exists) v += packs ? load(&add.v[j]) : load(p.residual + at + j);
      }
      store(&y.v[j], v);
      if (!packs && exists) p.out[at + j] = y.v[j];
    }
    if (packs) store_pack(p.out + at, y);
  }
};

template <class T, bool TRANSPOSED, int BM, int BN, int TM, int TN>
DEVICE void conv_tile(const Conv<T>& p) {
  using Block = Tile<T, TRANSPOSED, BM, BN, TM, TN>;
  SHARED2(float, a, STAGES * BM, DEPTH);
  SHARED2(float, b, STAGES * DEPTH, BN);
  SHARED(Position, positions, BM);
  SHARED(Axis, axes, 2);
  int channels = TRANSPOSED ? p.cout : p.cin, width = TRANSPOSED ? p.cin : p.cout;
  unsigned across = ceil_div(width, BN), tile = blockIdx.x / across / p.phases;
  int phase = blockIdx.x / across % p.phases, n0 = blockIdx.x % across * BN;
  Axis rows = row_axis<TRANSPOSED>(p, phase), columns = column_axis<TRANSPOSED>(p, phase);
  if (TRANSPOSED) {  // leaves registers for sums; forward axes are nearly constant
    if (threadIdx.x == 0) axes[0] = rows, axes[1] = columns;
    sync_block();
  }
  Block t = {p,     TRANSPOSED ? axes[0] : rows, TRANSPOSED ? axes[1] : columns, channels,
             width, n0, positions, a, b};
  int out_h = TRANSPOSED ? p.h : p.oh, out_w = TRANSPOSED ? p.width : p.ow;
  for (unsigned i = threadIdx.x; i < BM; i += Block::BLOCK)
    positions[i] = position(t.rows, t.columns, p.n, out_h, out_w, tile * BM + i);

  // Lanes of a warp form 8 x 4; which bit counts where lets pairs of lanes share their loads.
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  constexpr int ACROSS = BN / (4 * TN);
  int m = warp / ACROSS * 8 + ((lane >> 1 & 1) | (lane >> 2 & 6));
  int n = warp % ACROSS * 4 * TN + 4 * ((lane & 1) | (lane >> 1 & 2));
  float sum[TM][TN] = {};
  int stages = ceil_div(t.rows.taps * t.columns.taps * channels, DEPTH);
  Term next = {0, 0, 0};
  for (int s = -1; s < stages; ++s) {
    copy_async_wait<0>();
    sync_block();
    if (s + 1 < stages) {
      t.load_stage(s + 1, next);
      next = term_after(next, DEPTH, channels, t.columns.taps);
    }
    copy_async_commit();
    if (s >= 0) t.multiply(s, m, n, sum);
  }

  // Sums go through the pixels' tile, as many rows as fit, so that one short loop stores them.
  constexpr int DOWN = BM / TM, FIT = STAGES * DEPTH * TM / BN, AT_ONCE = FIT < TM ? FIT : TM;
  float* staged = a[0];  // [AT_ONCE * DOWN, BN]
#pragma unroll
  for (int first = 0; first < TM; first += AT_ONCE) {
    sync_block();
#pragma unroll
    for (int i = 0; i < AT_ONCE; ++i)
#pragma unroll
      for (int j = 0; j < TN / 4; ++j) {
        Pack<float> v;
#pragma unroll
        for (int k = 0; k < 4; ++k) v.v[k] = sum[first + i][4 * j + k];
        store_pack(&staged[(m + i * DOWN) * BN + n + 16 * j], v);
      }
    sync_block();
#pragma unroll 1
    for (int i = threadIdx.x; i < AT_ONCE * DOWN * BN / 4; i += Block::BLOCK)
      t.finish(positions[first * DOWN + i / (BN / 4)].out, i % (BN / 4) * 4, load_pack(staged + 4 * i));
  }
}

// One or two written channels would leave a tile idle: here 8 lanes share the terms of 4 pixels.
constexpr int NARROW_LANES = 8, NARROW_PIXELS = 4;
constexpr int NARROW_TILE = THREADS / NARROW_LANES * NARROW_PIXELS;
constexpr int NARROW_WEIGHTS = 3200;  // as `NARROW_WEIGHTS` in src/ops/conv/cuda.rs

template <class T, bool TRANSPOSED, int WIDTH>
DEVICE void conv_narrow(const Conv<T>& p) {
  SHARED(float, weight, NARROW_WEIGHTS);  // [WIDTH, KH * KW, channels]
  SHARED(Position, positions, NARROW_TILE);
  int channels = TRANSPOSED ? p.cout : p.cin, taps = p.kh * p.kw;
  for (int i = threadIdx.x; i < WIDTH * taps * channels; i += THREADS) {
    int n = i / (taps * channels), tap = i / channels % taps, c = i % channels;
    int from = TRANSPOSED ? (tap * WIDTH + n) * channels + c : (tap * channels + c) * WIDTH + n;
    weight[i] = load(p.w + from);
  }
  int phase = blockIdx.x % p.phases;
  Axis rows = row_axis<TRANSPOSED>(p, phase), columns = column_axis<TRANSPOSED>(p, phase);
  int out_h = TRANSPOSED ? p.h : p.oh, out_w = TRANSPOSED ? p.width : p.ow;
  unsigned first = blockIdx.x / p.phases * NARROW_TILE;
  if (threadIdx.x < NARROW_TILE)
    positions[threadIdx.x] = position(rows, columns, p.n, out_h, out_w, first + threadIdx.x);
  const Position* at = positions + threadIdx.x / NARROW_LANES * NARROW_PIXELS;
  int lane = threadIdx.x % NARROW_LANES;
  sync_block();

  constexpr int N = sizeof(T) == 4 ? 4 : 1;  // terms of one load
  bool packs = N == 4 && channels % 4 == 0;
  float sum[NARROW_PIXELS][WIDTH] = {};
  for (int ty = 0; ty < rows.taps; ++ty)
    for (int tx = 0; tx < columns.taps; ++tx) {
      int dy = rows.offset + ty * rows.offset_step, dx = columns.offset + tx * columns.offset_step;
      int tap = (rows.k + ty * rows.k_step) * p.kw + columns.k + tx * columns.k_step;
      int from[NARROW_PIXELS];  // -1 where nothing is
#pragma unroll
      for (int i = 0; i < NARROW_PIXELS; ++i) {
        Position q = at[i];
        bool valid = inside(q.y + dy, rows.in_len) && inside(q.x + dx, columns.in_len);
        from[i] = valid ? (q.pixel + dy * columns.in_len + dx) * channels : -1;
      }
      if (packs) {
        for (int c = 4 * lane; c < channels; c += 4 * NARROW_LANES) {
          Pack<float> w[WIDTH];
#pragma unroll
          for (int n = 0; n < WIDTH; ++n) w[n] = load_pack(&weight[(n * taps + tap) * channels + c]);
#pragma unroll
          for (int i = 0; i < NARROW_PIXELS; ++i) {
            if (from[i] < 0) continue;
            Pack<T> x = load_pack(p.in + from[i] + c);
#pragma unroll
            for (int n = 0; n < WIDTH; ++n)
#pragma unroll
              for (int j = 0; j < N; ++j) sum[i][n] += load(&x.v[j]) * w[n].v[j];
          }
        }
        continue;
      }
      for (int c = lane; c < channels; c += NARROW_LANES)
#pragma unroll
        for (int i = 0; i < NARROW_PIXELS; ++i) {
          if (from[i] < 0) continue;
          float x = load(p.in + from[i] + c);
#pragma unroll
          for (int n = 0; n < WIDTH; ++n) sum[i][n] += x * weight[(n * taps + tap) * channels + c];
        }
    }

  // Lane i * WIDTH + n stores channel n of pixel i.
  float mine = 0.0f;
  int out = -1;
#pragma unroll
  for (int i = 0; i < NARROW_PIXELS; ++i)
#pragma unroll
    for (int n = 0; n < WIDTH; ++n) {
      float v = sum[i][n];
      for (int mask = NARROW_LANES / 2; mask > 0; mask /= 2) v += warp_shuffle_xor(v, mask);
      if (lane != i * WIDTH + n) continue;
      mine = v;
      if (at[i].out >= 0) out = at[i].out * WIDTH + n;
    }
  if (out < 0) return;
  if (!TRANSPOSED) {
    if (p.bias) mine += load(p.bias + out % WIDTH);
    mine = activate(p.activation, mine);
    if (p.residual) mine += load(p.residual + out);
  }
  store(p.out + out, mine);
}

#define TILE(name, T, BM, BN, TM, TN)                                    \
  KERNEL(conv2d_fwd_##name, (BM / TM) * (BN / TN), Conv<T>) {            \
    conv_tile<T, false, BM, BN, TM, TN>(p);                              \
  }                                                                      \
  KERNEL(conv2d_bwd_input_##name, (BM / TM) * (BN / TN), Conv<T>) {      \
    conv_tile<T, true, BM, BN, TM, TN>(p);                               \
  }

TILE(m256n32_f32, float, 256, 32, 8, 8)
TILE(m128n64_f32, float, 128, 64, 8, 8)
TILE(m128n16_f32, float, 128, 16, 4, 4)
TILE(m64n32_f32, float, 64, 32, 4, 4)
TILE(m64n32_f16, half, 64, 32, 4, 4)

template <class T>
DEVICE void narrow1(const Conv<T>& p) { conv_narrow<T, false, 1>(p); }
template <class T>
DEVICE void narrow2(const Conv<T>& p) { conv_narrow<T, false, 2>(p); }
template <class T>
DEVICE void narrow1_transposed(const Conv<T>& p) { conv_narrow<T, true, 1>(p); }
template <class T>
DEVICE void narrow2_transposed(const Conv<T>& p) { conv_narrow<T, true, 2>(p); }

KERNELS(conv2d_fwd_narrow1, THREADS, Conv, narrow1)
KERNELS(conv2d_fwd_narrow2, THREADS, Conv, narrow2)
KERNELS(conv2d_bwd_input_narrow1, THREADS, Conv, narrow1_transposed)
KERNELS(conv2d_bwd_input_narrow2, THREADS, Conv, narrow2_transposed)
