// Optimiser steps that update parameters in place, f32 only.
// Formulas: src/ops/optim.rs (SGD with momentum; Adam, Kingma and Ba 2015).
// There is no backward.
#include "common/kernel.cuh"

struct Sgd {
  float* param;     // [n]
  float* momentum;  // [n]
  const float* g;   // [n]
  const float* lr;  // []
  unsigned n;
  float mu, decay;
  unsigned unused;
};

struct Adam {
  float* param;       // [n]
  float* m;           // [n]
  float* v;           // [n]
  const float* g;     // [n]
  const float* lr;    // []
  const float* step;  // [], from 1
  double beta1, beta2;
  unsigned n;
  float eps, decay;
  unsigned unused;
};

KERNEL(sgd_step_f32, THREADS, Sgd) {
  float lr = *p.lr;
  for (unsigned i = grid_index(); i < p.n; i += grid_size()) {
    float b = p.mu * p.momentum[i] + (p.g[i] + p.decay * p.param[i]);
    p.momentum[i] = b;
    p.param[i] -= lr * b;
  }
}

KERNEL(adam_step_f32, THREADS, Adam) {
  SHARED(float, shared, 2);
  // Bias corrections in double, by one thread of each block.
  if (threadIdx.x == 0) {
    double step = *p.step;
    shared[0] = (float)(*p.lr / (1.0 - pow(p.beta1, step)));
    shared[1] = (float)sqrt(1.0 - pow(p.beta2, step));
  }
  sync_block();
  float size = shared[0], root2 = shared[1];
  float rest1 = (float)(1.0 - p.beta1), rest2 = (float)(1.0 - p.beta2), beta2 = (float)p.beta2;
  for (unsigned i = grid_index(); i < p.n; i += grid_size()) {
    float g = p.g[i] + p.decay * p.param[i];
    float m = p.m[i] + rest1 * (g - p.m[i]);
    float v = beta2 * p.v[i] + rest2 * g * g;
    p.m[i] = m;
    p.v[i] = v;
    p.param[i] -= size * (m / (sqrtf(v) / root2 + p.eps));
  }
}
