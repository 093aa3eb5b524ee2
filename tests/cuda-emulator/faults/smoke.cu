#include "common/kernel.cuh"

struct SumParams { const float* x; float* y; int n; };
KERNEL(block_sum, 256, SumParams) {
  SHARED(float, partial, 8);
  float v = 0;
  for (unsigned i = grid_index(); i < unsigned(p.n); i += grid_size()) v += p.x[i];
  v = warp_sum(v);
  if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = v;
  sync_block();
  if (threadIdx.x == 0) {
    float s = 0;
    for (unsigned w = 0; w < blockDim.x / WARP; w++) s += partial[w];
    p.y[blockIdx.x] = s;
  }
}
