// Mean and standard deviation of whole pictures, and two pictures at contrasts brought closer.
// Formulas: src/ops/levels.rs. Blocks sum parts of a picture, one block of each picture adds them.
// Backward is made of other operators; nothing is kept.
#include "common/kernel.cuh"

template <class T>
struct Levels {
  const T* x;       // [N, size]
  T* y;             // [N, 2]: mean, deviation
  float* partials;  // [N, parts, 2]: sums of x and of x^2
  int n, size, parts, rows;
};

template <class T>
struct Balance {
  const T* a;     // [N, size]
  const T* b;     // [N, size]
  const T* of_a;  // [N, 2]
  const T* of_b;  // [N, 2]
  T* y;           // [N, size, 4]
  int n, size;    // n: pixels of all pictures
  float power, most;
};

struct Sums {
  float x, y;
};

// Sums of both values over the threads of a block, in every thread's return value.
DEVICE Sums block_sums(float u, float v) {
  SHARED(float, us, THREADS / WARP);
  SHARED(float, vs, THREADS / WARP);
  u = warp_sum(u);
  v = warp_sum(v);
  if (threadIdx.x % WARP == 0) {
    us[threadIdx.x / WARP] = u;
    vs[threadIdx.x / WARP] = v;
  }
  sync_block();
  Sums sum = {0.0f, 0.0f};
  for (int i = 0; i < THREADS / WARP; ++i) {
    sum.x += us[i];
    sum.y += vs[i];
  }
  return sum;
}

template <class T>
DEVICE void level_parts(const Levels<T>& p) {
  int part = blockIdx.x % p.parts, n = blockIdx.x / p.parts;
  int end = min(p.size, (part + 1) * p.rows);
  const T* x = p.x + (size_t)n * p.size;
  float sum = 0.0f, squares = 0.0f;
  for (int i = part * p.rows + threadIdx.x; i < end; i += THREADS) {
    float v = load(&x[i]);
    sum += v;
    squares += v * v;
  }
  Sums all = block_sums(sum, squares);
  if (threadIdx.x == 0) {
    p.partials[2 * blockIdx.x] = all.x;
    p.partials[2 * blockIdx.x + 1] = all.y;
  }
}

template <class T>
DEVICE void levels(const Levels<T>& p) {
  const float* from = p.partials + (size_t)2 * blockIdx.x * p.parts;
  float sum = 0.0f, squares = 0.0f;
  for (int i = threadIdx.x; i < p.parts; i += THREADS) {
    sum += from[2 * i];
    squares += from[2 * i + 1];
  }
  Sums all = block_sums(sum, squares);
  if (threadIdx.x == 0) {
    float mean = all.x / p.size, square = all.y / p.size;
    store(&p.y[2 * blockIdx.x], mean);
    // FLAT of src/ops/levels.rs
    store(&p.y[2 * blockIdx.x + 1], sqrtf(fmaxf(square - mean * mean, 0.0f) + 1e-6f));
  }
}

template <class T>
DEVICE void balance(const Balance<T>& p) {
  for (unsigned i = grid_index(); i < (unsigned)p.n; i += grid_size()) {
    unsigned n = i / p.size;
    float a = load(&p.a[i]), b = load(&p.b[i]);
    float ratio = load(&p.of_b[2 * n + 1]) / load(&p.of_a[2 * n + 1]);
    float r = fminf(fmaxf(powf(ratio, p.power), 1.0f / p.most), p.most);
    store(&p.y[4 * i], a);
    store(&p.y[4 * i + 1], b);
    store(&p.y[4 * i + 2], (a - load(&p.of_a[2 * n])) * r);
    store(&p.y[4 * i + 3], (b - load(&p.of_b[2 * n])) / r);
  }
}

KERNELS(levels_parts, THREADS, Levels, level_parts)
KERNELS(levels_fwd, THREADS, Levels, levels)
KERNELS(balance_fwd, THREADS, Balance, balance)
