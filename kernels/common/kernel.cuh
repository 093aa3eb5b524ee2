// What every kernel builds on: entry points, element types, shared memory, warps, tensor cores.
// nvcc compiles this for the GPU; tests compile the same files with a host compiler against
// emulator.h, which offers the same names. PTX appears here and nowhere else.
#pragma once

#ifdef HAFUSE_EMULATED
#include "emulator.h"
#else
#include <cuda_fp16.h>
#include <math.h>

#define DEVICE __device__ __forceinline__

// Defines the entry point `name`: one struct of parameters by value, at most `threads` threads in a
// block. `name_params` lets the host check the struct's size before it launches.
#define KERNEL(name, threads, ...)                                                  \
  extern "C" __device__ unsigned int name##_params = sizeof(__VA_ARGS__);           \
  extern "C" __global__ void __launch_bounds__(threads) name(const __VA_ARGS__ p)

// Static shared memory: SHARED(float, tile, 256); or rows: SHARED2(float, tile, 8, 33) tile[r][c].
#define SHARED(T, name, count) __shared__ __align__(16) T name[count]
#define SHARED2(T, name, rows, cols) __shared__ __align__(16) T name[rows][cols]

// All threads of the block must reach the same call.
#define sync_block() __syncthreads()
#define sync_warp() __syncwarp()

DEVICE float warp_shuffle_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
DEVICE float warp_shuffle_down(float v, int delta) { return __shfl_down_sync(0xffffffffu, v, delta); }
DEVICE float warp_shuffle(float v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }

// D += A B with A 16 x 16, B 16 x 8 in f16 and D 16 x 8 in f32, spread over a warp as PTX ISA
// "mma.m16n8k16" says. Needs sm_80.
DEVICE void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif __CUDA_ARCH__ >= 750
  // Two steps of k = 8: a[0], a[1] and b[0] hold the first half of k, a[2], a[3] and b[1] the second.
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#else
  // Older cards have no such instruction; the host never launches tensor-core kernels there.
  __trap();
#endif
}

// Starts a copy of 16 bytes from global to shared memory (both aligned to 16); where `valid` is
// false, `global` is not read and zeros are written. Complete after the wait for its group.
DEVICE void copy_async_16(void* shared, const void* global, bool valid) {
#if __CUDA_ARCH__ >= 800
  unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
#else
  *static_cast<uint4*>(shared) = valid ? *static_cast<const uint4*>(global) : make_uint4(0, 0, 0, 0);
#endif
}

// Closes the group of copies that this thread has started.
DEVICE void copy_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most `Pending` groups of this thread are unfinished; a sync_block must follow
// before other threads read.
template <int Pending>
DEVICE void copy_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

DEVICE float half_to_float(half v) { return __half2float(v); }
DEVICE half float_to_half(float v) { return __float2half_rn(v); }
#endif  // HAFUSE_EMULATED

// Defines `name_f32` and `name_f16` that run body<float> and body<half> on Params<T>.
#define KERNELS(name, threads, Params, body)                         \
  KERNEL(name##_f32, threads, Params<float>) { body<float>(p); }     \
  KERNEL(name##_f16, threads, Params<half>) { body<half>(p); }

// Threads of a block unless a kernel says otherwise; device::launch::THREADS in Rust.
constexpr int THREADS = 256;
constexpr int WARP = 32;

// Elements are stored as T (float or half) and computed with as float.
DEVICE float load(const float* p) { return *p; }
DEVICE float load(const half* p) { return half_to_float(*p); }
DEVICE void store(float* p, float v) { *p = v; }
DEVICE void store(half* p, float v) { *p = float_to_half(v); }

// 16 bytes of elements, for vector loads and stores; pointers must be aligned to 16.
template <class T>
struct alignas(16) Pack {
  static constexpr int N = 16 / sizeof(T);
  T v[N];
};

template <class T>
DEVICE Pack<T> load_pack(const T* p) { return *reinterpret_cast<const Pack<T>*>(p); }
template <class T>
DEVICE void store_pack(T* p, const Pack<T>& v) { *reinterpret_cast<Pack<T>*>(p) = v; }

// This thread's index over the whole grid, and the number of threads.
DEVICE unsigned grid_index() { return blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE unsigned grid_size() { return gridDim.x * blockDim.x; }

// Where element `i` of [outer, rep, inner] finds its value in an operand [outer, 1, inner].
DEVICE unsigned part_index(unsigned i, unsigned rep, unsigned inner) {
  if (rep == 1) return i;
  return inner == 1 ? i / rep : i / (rep * inner) * inner + i % inner;
}

// Sum over the 32 lanes of a warp, the same bits in every lane. Every lane must take part.
DEVICE float warp_sum(float v) {
  for (int mask = WARP / 2; mask > 0; mask /= 2) v += warp_shuffle_xor(v, mask);
  return v;
}

// Activations of ops::Activation: kind 0 none, 1 leaky ReLU with `slope`, 2 sigmoid.
struct Activation {
  int kind;
  float slope;
};

DEVICE float sigmoid(float z) {
  float e = expf(-fabsf(z));  // at most 1
  return (z < 0.0f ? e : 1.0f) / (1.0f + e);
}

DEVICE float activate(Activation f, float z) {
  if (f.kind == 1) return z > 0.0f ? z : z * f.slope;
  if (f.kind == 2) return sigmoid(z);
  return z;
}

// f'(z) from y = f(z).
DEVICE float activation_derivative(Activation f, float y) {
  if (f.kind == 1) return y > 0.0f ? 1.0f : f.slope;
  if (f.kind == 2) return y * (1.0f - y);
  return 1.0f;
}
