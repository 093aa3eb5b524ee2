// Short rows, such as the channels of a pixel: each belongs to a group of 1 to 32 lanes of a warp.
// The Rust side is src/ops/support/lanes.rs.
#pragma once
#include "kernel.cuh"

// N elements as floats: one load of 16 bytes, or of one element. Pack pointers are aligned to 16.
template <int N, class T>
DEVICE void load_floats(const T* p, float (&v)[N]) {
  if constexpr (N == 1) {
    v[0] = load(p);
  } else {
    static_assert(N == Pack<T>::N, "one load");
    Pack<T> pack = load_pack(p);
    for (int j = 0; j < N; ++j) v[j] = load(&pack.v[j]);
  }
}

template <int N, class T>
DEVICE void store_floats(T* p, const float (&v)[N]) {
  if constexpr (N == 1) {
    store(p, v[0]);
  } else {
    static_assert(N == Pack<T>::N, "one store");
    Pack<T> pack;
    for (int j = 0; j < N; ++j) store(&pack.v[j], v[j]);
    store_pack(p, pack);
  }
}

// Calls f(row, lane) for each of `rows` rows with all lanes of its group; rows beyond the last come
// too, as `rows`, so that every lane of a warp reaches the same shuffles.
template <class F>
DEVICE void for_rows(unsigned rows, int group, F f) {
  unsigned per_block = THREADS / group;
  int lane = threadIdx.x % group;
  for (unsigned first = blockIdx.x * per_block; first < rows; first += gridDim.x * per_block)
    f(min(rows, first + threadIdx.x / group), lane);
}

// Calls f(i, value) for the elements of a row of n that a lane has, in ascending order.
template <class T, class F>
DEVICE void for_elements(const T* row, int n, int lane, int group, F f) {
  constexpr int N = Pack<T>::N;
  if (n % N == 0) {
    for (int i = lane * N; i < n; i += group * N) {
      float v[N];
      load_floats(row + i, v);
      for (int j = 0; j < N; ++j) f(i + j, v[j]);
    }
  } else {
    for (int i = lane; i < n; i += group) f(i, load(&row[i]));
  }
}

// Sum over the lanes of a group, the same bits in each.
DEVICE float group_sum(float v, int group) {
  for (int mask = group / 2; mask > 0; mask /= 2) v += warp_shuffle_xor(v, mask);
  return v;
}

DEVICE float group_max(float v, int group) {
  for (int mask = group / 2; mask > 0; mask /= 2) {
    float other = warp_shuffle_xor(v, mask);
    v = other > v ? other : v;
  }
  return v;
}
