// Right kernels: they must give the same bits in every order, and what a plain loop in Rust gives.
// Together they use each name that kernel.cuh offers.
// Nothing here has a gradient.
#include "common/kernel.cuh"

struct SumParams {
  const float* x;  // [n]
  float* y;        // [blocks]
  int n;
};

KERNEL(block_sum, THREADS, SumParams) {
  SHARED(float, partial, THREADS / WARP);
  float v = 0.0f;
  for (unsigned i = grid_index(); i < unsigned(p.n); i += grid_size()) v += p.x[i];
  v = warp_sum(v);
  if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = v;
  sync_block();
  if (threadIdx.x < WARP) {
    v = warp_sum(threadIdx.x < blockDim.x / WARP ? partial[threadIdx.x] : 0.0f);
    if (threadIdx.x == 0) p.y[blockIdx.x] = v;
  }
}

struct IndexParams {
  int* y;  // [blocks, threads, 3]
};

// Where each thread of a three-dimensional launch stands.
KERNEL(indices, THREADS, IndexParams) {
  int block = int(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
  int thread = int(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
  int* y = p.y + (block * int(blockDim.x * blockDim.y * blockDim.z) + thread) * 3;
  y[0] = block;
  y[1] = thread;
  y[2] = min(int(threadIdx.z), 1) + max(int(blockIdx.z), 1) * 10;
}

struct ShuffleParams {
  float* y;  // [3, threads]
};

KERNEL(shuffles, THREADS, ShuffleParams) {
  float v = float(threadIdx.x);
  p.y[threadIdx.x] = warp_shuffle_xor(v, 5);
  p.y[blockDim.x + threadIdx.x] = warp_shuffle_down(v, 3);
  p.y[2 * blockDim.x + threadIdx.x] = warp_shuffle(v, 35);
}

// Neighbours exchange through shared memory.
KERNEL(swap_in_warp, THREADS, ShuffleParams) {
  SHARED2(float, tile, THREADS / WARP, WARP);
  unsigned warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  tile[warp][lane] = float(threadIdx.x);
  sync_warp();
  p.y[threadIdx.x] = tile[warp][lane ^ 1];
}

struct ProductParams {
  const half* a;  // [16, 16]
  const half* b;  // [16, 8]
  float* d;       // [16, 8], added to
};

KERNEL(product, WARP, ProductParams) {
  int group = int(threadIdx.x) / 4, pair = int(threadIdx.x) % 4 * 2;
  auto two = [](half low, half high) {
    alignas(4) half both[2] = {low, high};
    return *reinterpret_cast<unsigned*>(both);
  };
  unsigned a[4], b[2];
  for (int i = 0; i < 4; i++) {
    const half* from = p.a + (group + i % 2 * 8) * 16 + pair + i / 2 * 8;
    a[i] = two(from[0], from[1]);
  }
  for (int i = 0; i < 2; i++) {
    const half* from = p.b + (pair + i * 8) * 8 + group;
    b[i] = two(from[0], from[8]);
  }
  float d[4];
  for (int i = 0; i < 4; i++) d[i] = p.d[(group + i / 2 * 8) * 8 + pair + i % 2];
  mma_m16n8k16(d, a, b);
  for (int i = 0; i < 4; i++) p.d[(group + i / 2 * 8) * 8 + pair + i % 2] = d[i];
}

template <class T>
struct ConvertParams {
  const T* x;  // [n]
  float* y;    // [n]
  half* z;     // [n]
  int n;
};

template <class T>
DEVICE void convert(const ConvertParams<T>& p) {
  unsigned i = grid_index();
  if (i >= unsigned(p.n)) return;
  p.y[i] = load(p.x + i);
  store(p.z + i, load(p.x + i));
}
KERNELS(convert, THREADS, ConvertParams, convert)

struct PipelineParams {
  const float* x;  // [steps, 256]
  float* y;        // [256]
  int steps;
};

// Sums the steps through two buffers: one is filled while the other is read.
KERNEL(pipeline, 64, PipelineParams) {
  SHARED2(float, tile, 2, 256);
  float sum[4] = {};
  auto fetch = [&](int step) {
    copy_async_16(&tile[step % 2][threadIdx.x * 4], p.x + step * 256 + threadIdx.x * 4, step < p.steps);
    copy_async_commit();
  };
  fetch(0);
  for (int step = 0; step < p.steps; step++) {
    fetch(step + 1);
    copy_async_wait<1>();
    sync_block();
    for (int i = 0; i < 4; i++) sum[i] += tile[step % 2][(threadIdx.x * 4 + i + 100) % 256];
    sync_block();
  }
  for (int i = 0; i < 4; i++) p.y[(threadIdx.x * 4 + i + 100) % 256] = sum[i];
}
