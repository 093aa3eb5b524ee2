// Sums over one group of axes, and their adjoint, broadcasting: x [outer, rep, inner] <-> y [outer, inner].
// Formulas: src/ops/reduce.rs. Long sums run in two stages with a fixed order, each thread compensating
// its rounding (Kahan 1965), so that f32 holds for millions of terms.
// Backward is the other of the two kernels.
#include "common/kernel.cuh"

template <class T>
struct Sum {
  const T* x;       // [outer, rep, inner]
  T* y;             // [outer, inner]
  float* partials;  // [outer, parts, inner]
  unsigned outer, rep, inner;
  unsigned parts, width;  // columns of a block: a power of two, at most 32
  float scale;
};

template <class T>
struct Broadcast {
  const T* x;  // [outer, 1, inner]
  T* y;        // [outer, rep, inner]
  unsigned n, rep, inner;
  float scale;
};

struct Kahan {
  float sum, rest;
  DEVICE void add(float v) {
    float y = v - rest, t = sum + y;
    rest = (t - sum) - y;
    sum = t;
  }
};

// One block sums rows of `part` for `width` columns from `first` of group `o`; the result is in the
// threads of the first row of columns.
template <class T>
DEVICE float block_sum(const T* x, unsigned rep, unsigned inner, unsigned part, unsigned parts,
                       unsigned width, unsigned column) {
  SHARED(float, lanes, THREADS);
  unsigned lane = threadIdx.x / width, count = THREADS / width;
  unsigned per_part = (rep + parts - 1) / parts;
  unsigned end = min(rep, (part + 1) * per_part);
  Kahan k = {0.0f, 0.0f};
  if (column < inner)
    for (unsigned r = part * per_part + lane; r < end; r += count)
      k.add(load(&x[(size_t)r * inner + column]));
  lanes[threadIdx.x] = k.sum;
  sync_block();
  for (unsigned half = count / 2; half > 0; half /= 2) {
    if (lane < half) lanes[threadIdx.x] += lanes[threadIdx.x + half * width];
    sync_block();
  }
  return lanes[threadIdx.x % width];
}

// Block (o, part, column tile) of a launch.
struct Place {
  unsigned o, part, column;
};

DEVICE Place place(unsigned parts, unsigned inner, unsigned width) {
  unsigned tiles = (inner + width - 1) / width;
  unsigned b = blockIdx.x;
  Place at = {b / (parts * tiles), b / tiles % parts, b % tiles * width + threadIdx.x % width};
  return at;
}

template <class T>
DEVICE void sum_direct(const Sum<T>& p) {
  Place at = place(1, p.inner, p.width);
  const T* x = p.x + (size_t)at.o * p.rep * p.inner;
  float s = block_sum(x, p.rep, p.inner, 0, 1, p.width, at.column);
  if (threadIdx.x < p.width && at.column < p.inner)
    store(&p.y[at.o * p.inner + at.column], s * p.scale);
}

template <class T>
DEVICE void sum_partial(const Sum<T>& p) {
  Place at = place(p.parts, p.inner, p.width);
  const T* x = p.x + (size_t)at.o * p.rep * p.inner;
  float s = block_sum(x, p.rep, p.inner, at.part, p.parts, p.width, at.column);
  if (threadIdx.x < p.width && at.column < p.inner)
    p.partials[(at.o * p.parts + at.part) * p.inner + at.column] = s;
}

template <class T>
DEVICE void sum_finish(const Sum<T>& p) {
  Place at = place(1, p.inner, p.width);
  const float* x = p.partials + (size_t)at.o * p.parts * p.inner;
  float s = block_sum(x, p.parts, p.inner, 0, 1, p.width, at.column);
  if (threadIdx.x < p.width && at.column < p.inner)
    store(&p.y[at.o * p.inner + at.column], s * p.scale);
}

// inner = 1, short rows: one warp for each.
template <class T>
DEVICE void sum_rows(const Sum<T>& p) {
  unsigned lane = threadIdx.x % WARP;
  unsigned warps = grid_size() / WARP;
  for (unsigned o = grid_index() / WARP; o < p.outer; o += warps) {
    float s = 0.0f;
    for (unsigned r = lane; r < p.rep; r += WARP) s += load(&p.x[(size_t)o * p.rep + r]);
    s = warp_sum(s);
    if (lane == 0) store(&p.y[o], s * p.scale);
  }
}

template <class T>
DEVICE void broadcast(const Broadcast<T>& p) {
  for (unsigned i = grid_index(); i < p.n; i += grid_size()) {
    unsigned at = p.rep == 1 ? i : i / (p.rep * p.inner) * p.inner + i % p.inner;
    store(&p.y[i], load(&p.x[at]) * p.scale);
  }
}

KERNELS(sum_direct, THREADS, Sum, sum_direct)
KERNELS(sum_partial, THREADS, Sum, sum_partial)
KERNELS(sum_finish, THREADS, Sum, sum_finish)
KERNELS(sum_rows, THREADS, Sum, sum_rows)
KERNELS(broadcast_fwd, THREADS, Broadcast, broadcast)
