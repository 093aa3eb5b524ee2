// Planted faults of order: missing and divergent barriers, copies that nobody waits for.
// What a missing barrier does depends on the order of threads, so tests compare the bits of all orders.
// Nothing here has a gradient.
#include "common/kernel.cuh"

struct OrderParams {
  const float* x;  // [blocks * threads]
  float* y;        // [blocks * threads]
};

KERNEL(missing_barrier, THREADS, OrderParams) {
  SHARED(float, tile, THREADS);
  tile[threadIdx.x] = p.x[grid_index()];
  p.y[grid_index()] = tile[blockDim.x - 1 - threadIdx.x];
}

// The second round overwrites what others have not read yet.
KERNEL(missing_second_barrier, THREADS, OrderParams) {
  SHARED(float, tile, THREADS);
  float sum = 0.0f;
  for (int round = 0; round < 2; round++) {
    tile[threadIdx.x] = p.x[grid_index()] + float(round);
    sync_block();
    sum += tile[blockDim.x - 1 - threadIdx.x];
  }
  p.y[grid_index()] = sum;
}

KERNEL(missing_sync_warp, THREADS, OrderParams) {
  SHARED(float, tile, THREADS);
  tile[threadIdx.x] = p.x[grid_index()];
  p.y[grid_index()] = tile[threadIdx.x ^ 1];
}

// The last block to run leaves its mark.
KERNEL(blocks_race, THREADS, OrderParams) { p.y[threadIdx.x] = p.x[grid_index()]; }

KERNEL(divergent_barrier, THREADS, OrderParams) {
  if (threadIdx.x < 40) {
    sync_block();
  } else {
    p.y[grid_index()] = 1.0f;
    sync_block();
  }
}

KERNEL(early_exit, THREADS, OrderParams) {
  if (threadIdx.x == 7) return;
  sync_block();
  p.y[grid_index()] = 1.0f;
}

KERNEL(divergent_shuffle, THREADS, OrderParams) {
  float v = p.x[grid_index()];
  if (threadIdx.x % WARP < 16) v = warp_shuffle_xor(v, 1);
  p.y[grid_index()] = v;
}

KERNEL(mixed_collectives, THREADS, OrderParams) {
  float v = p.x[grid_index()];
  if (threadIdx.x % 2 == 0) v = warp_shuffle_xor(v, 1);
  else sync_warp();
  p.y[grid_index()] = v;
}

KERNEL(missing_wait, 64, OrderParams) {
  SHARED(float, tile, 256);
  copy_async_16(&tile[threadIdx.x * 4], &p.x[threadIdx.x * 4], true);
  copy_async_commit();
  sync_block();
  for (int i = 0; i < 4; i++) p.y[threadIdx.x * 4 + i] = tile[threadIdx.x * 4 + i];
}

// The second copy goes where others still read the first; only its wait is late enough.
KERNEL(early_copy, 64, OrderParams) {
  SHARED(float, tile, 256);
  float sum = 0.0f;
  copy_async_16(&tile[threadIdx.x * 4], &p.x[threadIdx.x * 4], true);
  copy_async_commit();
  copy_async_wait<0>();
  sync_block();
  copy_async_16(&tile[threadIdx.x * 4], &p.x[(threadIdx.x ^ 1) * 4], true);
  copy_async_commit();
  for (int i = 0; i < 4; i++) sum += tile[(threadIdx.x * 4 + i * 64 + i) % 256] * float(1 + i);
  sync_block();
  copy_async_wait<0>();
  p.y[threadIdx.x] = sum + tile[threadIdx.x * 4];
}
