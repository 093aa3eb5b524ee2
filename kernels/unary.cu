// Functions of one value and their derivatives, element by element.
// Formulas: src/ops/unary.rs, whose table of kinds this follows.
// Backward reads x or y, whichever gives f' directly, and the cotangent.
#include "common/kernel.cuh"

// Numbers of `Kind::code` in src/ops/unary.rs.
enum { LEAKY_RELU, SIGMOID, TANH, EXP, LOG, SQRT, SQUARE, ABS, RECIP, SCALE, OFFSET, CLAMP, SOFT_CLAMP };

template <class T>
struct Unary {
  const T* x;  // [n]
  T* y;        // [n]
  unsigned n;
  int kind;
  float a, b;  // slope; factor; summand; lower and upper bound; end
};

template <class T>
struct UnaryGrad {
  const T* v;  // [n], x or y
  const T* g;  // [n], cotangent
  T* dx;       // [n]
  unsigned n;
  int kind;
  float a, b;
};

DEVICE float forward(int kind, float a, float b, float x) {
  switch (kind) {
    case LEAKY_RELU: return x > 0.0f ? x : a * x;
    case SIGMOID: return sigmoid(x);
    case TANH: return tanhf(x);
    case EXP: return expf(x);
    case LOG: return logf(x);
    case SQRT: return sqrtf(x);
    case SQUARE: return x * x;
    case ABS: return fabsf(x);
    case RECIP: return 1.0f / x;
    case SCALE: return a * x;
    case OFFSET: return x + a;
    case SOFT_CLAMP: {
      if (x < a) return a * expf(x / a - 1.0f);
      return x > 1.0f - a ? 1.0f - a * expf((1.0f - x) / a - 1.0f) : x;
    }
    default: {  // CLAMP; NaN stays
      float low = x < a ? a : x;
      return low > b ? b : low;
    }
  }
}

DEVICE float backward(int kind, float a, float b, float v, float g) {
  switch (kind) {
    case LEAKY_RELU: return v > 0.0f ? g : a * g;
    case SIGMOID: return g * (v * (1.0f - v));
    case TANH: return g * (1.0f - v * v);
    case EXP: return g * v;
    case LOG: return g / v;
    case SQRT: return g / (2.0f * v);
    case SQUARE: return g * (2.0f * v);
    case ABS: return v > 0.0f ? g : v < 0.0f ? -g : 0.0f;
    case RECIP: return -g * (v * v);
    case SCALE: return a * g;
    case OFFSET: return g;
    case SOFT_CLAMP: return g * fminf(fminf(v, 1.0f - v) / a, 1.0f);
    default: return v >= a && v <= b ? g : 0.0f;
  }
}

template <class T>
DEVICE void unary_forward(const Unary<T>& p) {
  constexpr int N = Pack<T>::N;
  unsigned packs = p.n / N;
  for (unsigned i = grid_index(); i < packs; i += grid_size()) {
    Pack<T> v = load_pack(p.x + i * N);
    for (int j = 0; j < N; ++j) store(&v.v[j], forward(p.kind, p.a, p.b, load(&v.v[j])));
    store_pack(p.y + i * N, v);
  }
  for (unsigned i = packs * N + grid_index(); i < p.n; i += grid_size())
    store(&p.y[i], forward(p.kind, p.a, p.b, load(&p.x[i])));
}

template <class T>
DEVICE void unary_backward(const UnaryGrad<T>& p) {
  constexpr int N = Pack<T>::N;
  unsigned packs = p.n / N;
  for (unsigned i = grid_index(); i < packs; i += grid_size()) {
    Pack<T> v = load_pack(p.v + i * N), g = load_pack(p.g + i * N);
    for (int j = 0; j < N; ++j)
      store(&g.v[j], backward(p.kind, p.a, p.b, load(&v.v[j]), load(&g.v[j])));
    store_pack(p.dx + i * N, g);
  }
  for (unsigned i = packs * N + grid_index(); i < p.n; i += grid_size())
    store(&p.dx[i], backward(p.kind, p.a, p.b, load(&p.v[i]), load(&p.g[i])));
}

KERNELS(unary_fwd, THREADS, Unary, unary_forward)
KERNELS(unary_bwd_input, THREADS, UnaryGrad, unary_backward)
