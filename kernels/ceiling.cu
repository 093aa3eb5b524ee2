// What this card reaches at most: a copy, multiply-adds in registers, tensor-core products in registers; and its clock.
// Nothing useful is computed; the results only keep the work from being optimised away.
// There is no backward.
#include "common/kernel.cuh"

template <class T>
struct Copy {
  const T* x;  // [n]
  T* y;        // [n]
  unsigned n;  // a multiple of the pack
  unsigned unused;
};

template <class T>
struct Loop {
  T* y;  // [threads of the grid]
  unsigned rounds, unused;
};

template <class T>
DEVICE void copy(const Copy<T>& p) {
  constexpr unsigned N = Pack<T>::N;
  for (unsigned i = grid_index(); i < p.n / N; i += grid_size())
    store_pack(p.y + (size_t)i * N, load_pack(p.x + (size_t)i * N));
}

// 16 independent chains of multiply-adds in each thread; 16 * rounds of them.
template <class T>
DEVICE void multiply_add(const Loop<T>& p) {
  float acc[16];
  for (int j = 0; j < 16; ++j) acc[j] = 0.001f * threadIdx.x + j;
  float a = 0.999f, b = 1e-3f * blockIdx.x;
  for (unsigned r = 0; r < p.rounds; ++r)
    for (int j = 0; j < 16; ++j) acc[j] = fmaf(acc[j], a, b);
  float sum = 0.0f;
  for (int j = 0; j < 16; ++j) sum += acc[j];
  store(&p.y[grid_index()], sum);
}

// 8 independent products of 16 x 8 x 16 in each warp; 8 * rounds of them.
template <class T>
DEVICE void tensor_core(const Loop<T>& p) {
  float acc[8][4] = {};
  unsigned a[4] = {threadIdx.x, threadIdx.x + 1, threadIdx.x + 2, threadIdx.x + 3};
  unsigned b[2] = {threadIdx.x + 4, threadIdx.x + 5};
  for (unsigned r = 0; r < p.rounds; ++r)
#pragma unroll
    for (int j = 0; j < 8; ++j) mma_m16n8k16(acc[j], a, b);
  float sum = 0.0f;
  for (int j = 0; j < 8; ++j)
    for (int k = 0; k < 4; ++k) sum += acc[j][k];
  store(&p.y[grid_index()], sum);
}

// Waits for `rounds` cycles of the multiprocessor's clock and gives those that passed; 0 where nothing counts them.
KERNEL(ceiling_clock_f32, THREADS, Loop<float>) {
  if (threadIdx.x != 0) return;
  long long begun = clock64(), passed = 0;
  // Where the clock stands still, this ends all the same.
  for (unsigned r = 0; r < p.rounds && passed < p.rounds; ++r) passed = clock64() - begun;
  store(p.y, (float)passed);
}

KERNELS(ceiling_copy, THREADS, Copy, copy)
KERNELS(ceiling_multiply_add, THREADS, Loop, multiply_add)
KERNELS(ceiling_tensor_core, THREADS, Loop, tensor_core)
