// One axis of bilinear resizing with pixel centres at half-integers and clamped edges, in exact
// integers: output i reads position max(0, ((2 i + 1) in - out) / (2 out)), whose quotient and
// remainder are the lower pixel and the weight of the upper one. As `Axis` in src/ops/resize.rs.
#pragma once
#include "kernel.cuh"

// 64-bit divisions are slow and seldom needed.
DEVICE bool fits_32_bits(int in, int out) { return (long long)in * out < 1 << 28; }

// `(1 - weight) * x[low] + weight * x[high]`.
struct Tap {
  int low, high;
  float weight;
};

template <class Int>
DEVICE Tap resize_tap_in(int i, int in, int out) {
  Int at = (2 * (Int)i + 1) * in - out, unit = 2 * (Int)out;
  if (at <= 0) return {0, in > 1 ? 1 : 0, 0.0f};
  int low = (int)(at / unit);
  if (low + 1 >= in) return {in - 1, in - 1, 0.0f};
  return {low, low + 1, (float)(at - low * unit) / (float)unit};
}

DEVICE Tap resize_tap(int i, int in, int out) {
  return fits_32_bits(in, out) ? resize_tap_in<int>(i, in, out)
                               : resize_tap_in<long long>(i, in, out);
}

// The first output whose lower pixel is `low` or above.
template <class Int>
DEVICE int first_from(int low, int in, int out) {
  Int at = (2 * (Int)low + 1) * out - in, unit = 2 * (Int)in;
  if (low <= 0 || at <= 0) return 0;
  Int o = (at + unit - 1) / unit;
  return o < out ? (int)o : out;
}

// The outputs that read an input pixel: contiguous, with weights that rise and fall.
struct Readers {
  int first, end;
  int offset;  // of output `first` from the pixel, in units of 1 / (2 out)
  bool first_pixel, last_pixel;

  // Weight of an output at `offset` from the pixel; beyond an edge, positions are clamped.
  DEVICE float weight(int offset, float unit) const {
    if (first_pixel && offset < 0) return 1.0f;
    if (last_pixel && offset > 0) return 1.0f;
    return fmaxf(1.0f - fabsf((float)offset) * unit, 0.0f);
  }
};

template <class Int>
DEVICE Readers resize_readers_in(int i, int in, int out) {
  int first = first_from<Int>(i - 1, in, out);
  Int offset = (2 * (Int)first + 1) * in - out - 2 * (Int)out * i;
  return {first, first_from<Int>(i + 1, in, out), (int)offset, i == 0, i == in - 1};
}

DEVICE Readers resize_readers(int i, int in, int out) {
  return fits_32_bits(in, out) ? resize_readers_in<int>(i, in, out)
                               : resize_readers_in<long long>(i, in, out);
}
