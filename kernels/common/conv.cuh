// What the kernels of the dense convolution share: parameters, the taps that meet a position, and
// the epilogue. A forward convolution and its input gradient are one gather over different axes.
#pragma once

#include "common/kernel.cuh"

// Sizes are those of the forward convolution in both directions. Forward reads x and writes y; the
// input gradient reads y's cotangent and writes x's.
template <class T>
struct Conv {
  const T* in;        // [N, H, W, CIN]; input gradient: [N, OH, OW, COUT]
  const T* w;         // [KH, KW, CIN, COUT]
  const T* bias;      // [COUT] or null
  const T* residual;  // [N, OH, OW, COUT] or null
  T* out;             // [N, OH, OW, COUT]; input gradient: [N, H, W, CIN]
  int n, h, width, oh, ow, cin, cout, kh, kw, stride, dilation, pad_y, pad_x;
  int phases;  // grids that blocks write, interleaved: 1; input gradient: stride * stride
  Activation activation;
};

template <class T>
struct ConvWeight {
  const T* x;    // [N, H, W, CIN]
  const T* g;    // [N, OH, OW, COUT]
  float* parts;  // [PARTS, KH, KW, CIN, COUT]
  T* dw;         // [KH, KW, CIN, COUT]
  int n, h, width, oh, ow, cin, cout, kh, kw, stride, dilation, pad_y, pad_x;
  int part_count;
};

// One axis, seen from the side that is written: position t < count is written at first + t * step
// and reads, for i < taps, t * in_step + offset + i * offset_step of in_len under tap k + i * k_step.
struct Axis {
  int in_len, in_step, count, first, step;
  int taps, k, k_step, offset, offset_step;
};

// y[t] = sum_k x[t * stride + k * dilation - pad] w[k].
DEVICE Axis forward_axis(int y, int x, int kernel, int stride, int dilation, int pad) {
  return {x, stride, y, 0, 1, kernel, 0, 1, -pad, dilation};
}

// The positions phase, phase + stride, ... of x: they meet tap k where phase + pad - k * dilation
// divides by the stride, that is in every k_step-th tap.
DEVICE Axis transposed_axis(int y, int x, int kernel, int stride, int dilation, int pad, int phase) {
  Axis a = {y, 1, (x - phase + stride - 1) / stride, phase, stride, 0, 0, 0, 0, 0};
#pragma unroll 1
  for (int k = 0; k < kernel; ++k) {
    int at = phase + pad - k * dilation;
    if (at % stride != 0) continue;
    if (a.taps == 0) a.k = k, a.offset = at / stride;
    if (a.taps == 1) a.k_step = k - a.k, a.offset_step = at / stride - a.offset;
    ++a.taps;
  }
  return a;
}

template <bool TRANSPOSED, class T>
DEVICE Axis row_axis(const Conv<T>& p, int phase) {
  if (TRANSPOSED)
    return transposed_axis(p.oh, p.h, p.kh, p.stride, p.dilation, p.pad_y, phase / p.stride);
  return forward_axis(p.oh, p.h, p.kh, p.stride, p.dilation, p.pad_y);
}

template <bool TRANSPOSED, class T>
DEVICE Axis column_axis(const Conv<T>& p, int phase) {
  if (TRANSPOSED)
    return transposed_axis(p.ow, p.width, p.kw, p.stride, p.dilation, p.pad_x, phase % p.stride);
  return forward_axis(p.ow, p.width, p.kw, p.stride, p.dilation, p.pad_x);
}

// Whether 0 <= i < len.
DEVICE bool inside(int i, int len) { return static_cast<unsigned>(i) < static_cast<unsigned>(len); }

// A position of the written side: what it reads under offset 0, and where it is stored.
struct alignas(16) Position {
  int y, x;   // row and column in the input; far outside for a position that does not exist
  int pixel;  // the same as an index over images, rows and columns
  int out;    // pixel of the output, or -1
};

// The position with number m in (image, row, column) order.
DEVICE Position position(const Axis& rows, const Axis& columns, int images, int out_h, int out_w,
                         unsigned m) {
  Position at = {-(1 << 30), -(1 << 30), 0, -1};
  unsigned count = static_cast<unsigned>(rows.count) * columns.count;
  if (m >= count * images) return at;
  int image = m / count, ty = m % count / columns.count, tx = m % columns.count;
  at.y = ty * rows.in_step;
  at.x = tx * columns.in_step;
  at.pixel = (image * rows.in_len + at.y) * columns.in_len + at.x;
  at.out = (image * out_h + rows.first + ty * rows.step) * out_w + columns.first + tx * columns.step;
  return at;
}

DEVICE int ceil_div(int a, int b) { return (a + b - 1) / b; }
