// Planted faults of memory, each found by the emulator under the name that tests/emulator.rs expects.
// The global ones use `copy`, which is right, with a wrong length or pointer.
// Nothing here has a gradient.
#include "common/kernel.cuh"

struct CopyParams {
  const float* x;  // [n]
  float* y;        // [n]
  int n;
};

KERNEL(copy, THREADS, CopyParams) {
  unsigned i = grid_index();
  if (i < unsigned(p.n)) p.y[i] = p.x[i];
}

// n is an offset here.
KERNEL(write_beside, THREADS, CopyParams) { p.y[p.n] = 1.0f; }

KERNEL(read_pack_beside, THREADS, CopyParams) { store_pack(p.y, load_pack(p.x + p.n)); }

KERNEL(divide, THREADS, CopyParams) { p.y[0] = float(7 / p.n); }

// n is the index of a shared element, of 64.
KERNEL(shared_write, THREADS, CopyParams) {
  SHARED(float, tile, 64);
  tile[p.n] = 1.0f;
  p.y[0] = tile[0];
}

KERNEL(shared_read, THREADS, CopyParams) {
  SHARED(float, tile, 64);
  tile[threadIdx.x % 64] = 1.0f;
  p.y[0] = tile[p.n];
}

// 63 floats: the 64th lies before the guard page.
KERNEL(shared_write_beside, THREADS, CopyParams) {
  SHARED(float, tile, 63);
  tile[p.n] = 1.0f;
  p.y[0] = tile[0];
}

// The first block writes what the second only reads.
KERNEL(shared_unwritten, THREADS, CopyParams) {
  SHARED(float, tile, 64);
  if (blockIdx.x == 0) tile[threadIdx.x] = 1.0f;
  p.y[grid_index()] = tile[threadIdx.x];
}

KERNEL(too_much_shared, THREADS, CopyParams) {
  SHARED(float, first, 8192);
  SHARED2(float, second, 65, 64);
  first[0] = second[0][0] = 1.0f;
  p.y[0] = first[0] + second[0][0];
}

// n is an index into an array of 4; found by AddressSanitizer only.
KERNEL(local_write, THREADS, CopyParams) {
  volatile float local[4] = {};
  local[p.n] = p.x[0];
  p.y[0] = local[0];
}

// More local variables than a thread has room for.
KERNEL(deep_stack, THREADS, CopyParams) {
  volatile float local[1 << 18];
  for (int i = 0; i < (1 << 18); i += 1024) local[i] = p.x[0];
  p.y[0] = local[p.n];
}
