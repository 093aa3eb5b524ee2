// Dense convolution and its two gradients, one thread for each output: the oracle of the fast kernels.
// Formula: conv2d in src/ops/conv/mod.rs, term by term.
// Backward needs what conv.cu and conv_grad.cu say.
#include "common/conv.cuh"

// Index that `at` would have before a stride: at / stride, or -1 if that is none of 0 to len - 1.
DEVICE int unstride(int at, int stride, int len) {
  return at >= 0 && at % stride == 0 && at / stride < len ? at / stride : -1;
}

template <class T>
DEVICE void forward(const Conv<T>& p) {
  unsigned outputs = static_cast<unsigned>(p.n) * p.oh * p.ow * p.cout;
  for (unsigned i = grid_index(); i < outputs; i += grid_size()) {
    int co = i % p.cout, ox = i / p.cout % p.ow;
    int oy = i / p.cout / p.ow % p.oh, image = i / p.cout / p.ow / p.oh;
    float sum = 0.0f;
    for (int ky = 0; ky < p.kh; ++ky)
      for (int kx = 0; kx < p.kw; ++kx) {
        int y = oy * p.stride + ky * p.dilation - p.pad_y, x = ox * p.stride + kx * p.dilation - p.pad_x;
        if (!inside(y, p.h) || !inside(x, p.width)) continue;
        const T* in = p.in + ((image * p.h + y) * p.width + x) * p.cin;
        const T* w = p.w + (ky * p.kw + kx) * p.cin * p.cout + co;
        for (int c = 0; c < p.cin; ++c) sum += load(in + c) * load(w + c * p.cout);
      }
    if (p.bias) sum += load(p.bias + co);
    sum = activate(p.activation, sum);
    if (p.residual) sum += load(p.residual + i);
    store(p.out + i, sum);
  }
}

template <class T>
DEVICE void input_grad(const Conv<T>& p) {
  unsigned outputs = static_cast<unsigned>(p.n) * p.h * p.width * p.cin;
  for (unsigned i = grid_index(); i < outputs; i += grid_size()) {
    int ci = i % p.cin, x = i / p.cin % p.width;
    int y = i / p.cin / p.width % p.h, image = i / p.cin / p.width / p.h;
    float sum = 0.0f;
    for (int ky = 0; ky < p.kh; ++ky)
      for (int kx = 0; kx < p.kw; ++kx) {
        int oy = unstride(y + p.pad_y - ky * p.dilation, p.stride, p.oh);
        int ox = unstride(x + p.pad_x - kx * p.dilation, p.stride, p.ow);
        if (oy < 0 || ox < 0) continue;
        const T* g = p.in + ((image * p.oh + oy) * p.ow + ox) * p.cout;
        const T* w = p.w + ((ky * p.kw + kx) * p.cin + ci) * p.cout;
        for (int c = 0; c < p.cout; ++c) sum += load(g + c) * load(w + c);
      }
    store(p.out + i, sum);
  }
}

template <class T>
DEVICE void weight_grad(const ConvWeight<T>& p) {
  unsigned weights = static_cast<unsigned>(p.kh) * p.kw * p.cin * p.cout;
  for (unsigned i = grid_index(); i < weights; i += grid_size()) {
    int co = i % p.cout, ci = i / p.cout % p.cin;
    int kx = i / p.cout / p.cin % p.kw, ky = i / p.cout / p.cin / p.kw;
    float sum = 0.0f;
    for (int image = 0; image < p.n; ++image)
      for (int oy = 0; oy < p.oh; ++oy)
        for (int ox = 0; ox < p.ow; ++ox) {
          int y = oy * p.stride + ky * p.dilation - p.pad_y, x = ox * p.stride + kx * p.dilation - p.pad_x;
          if (!inside(y, p.h) || !inside(x, p.width)) continue;
          sum += load(p.x + ((image * p.h + y) * p.width + x) * p.cin + ci) *
                 load(p.g + ((image * p.oh + oy) * p.ow + ox) * p.cout + co);
        }
    store(p.dw + i, sum);
  }
}

KERNELS(conv2d_naive_fwd, THREADS, Conv, forward)
KERNELS(conv2d_naive_bwd_input, THREADS, Conv, input_grad)
KERNELS(conv2d_naive_bwd_weight, THREADS, ConvWeight, weight_grad)
