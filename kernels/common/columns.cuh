// Sums over the rows of matrices [outer, rep, inner] in two stages, in an order that shapes alone fix:
// blocks sum parts of the rows, and whoever needs the result adds the parts.
// The Rust side is src/ops/support/lanes.rs.
#pragma once
#include "rows.cuh"

// How blocks share the sums: block (outer, part, column block).
struct Columns {
  unsigned outer, rep, inner;
  unsigned parts, rows;    // parts of the rows, and how many rows a part has at most
  unsigned width, blocks;  // columns of a block at most, and blocks side by side
};

// Adds the sums of all lanes, which lie `width` threads apart, into those of the first lane.
// `sums` has a row of THREADS for each of the N columns of a thread.
template <int N>
DEVICE void add_lanes(float* sums, int width, int lanes) {
  int lane = threadIdx.x / width, step = 1;
  while (step < lanes) step *= 2;
  sync_block();
  for (step /= 2; step > 0; step /= 2) {
    if (lane < step && lane + step < lanes)
      for (int j = 0; j < N; ++j)
        sums[j * THREADS + threadIdx.x] += sums[j * THREADS + threadIdx.x + step * width];
    sync_block();
  }
}

// partials[outer, part, inner] = sum over the rows of the part of term(offset, float (&)[N]), which
// gives N neighbouring columns; N divides `inner` and `width`. `sums` has N * THREADS floats.
template <int N, class F>
DEVICE void sum_part(const Columns& s, float* partials, float* sums, F term) {
  unsigned b = blockIdx.x;
  unsigned first = b % s.blocks * s.width;
  unsigned width = min(s.width, s.inner - first) / N;
  unsigned part = b / s.blocks % s.parts, o = b / s.blocks / s.parts;
  unsigned lanes = THREADS / width, lane = threadIdx.x / width;
  unsigned column = first + threadIdx.x % width * N;
  unsigned end = min(s.rep, (part + 1) * s.rows);
  float acc[N] = {}, lost[N] = {};
  if (lane < lanes) {
#pragma unroll 2
    for (unsigned r = part * s.rows + lane; r < end; r += lanes) {
      float v[N];
      term((o * s.rep + r) * s.inner + column, v);
      // Compensated (Kahan 1965): a lane of a large picture adds thousands of terms.
      for (int j = 0; j < N; ++j) {
        float y = v[j] - lost[j], sum = acc[j] + y;
        lost[j] = (sum - acc[j]) - y;
        acc[j] = sum;
      }
    }
  }
  for (int j = 0; j < N; ++j) sums[j * THREADS + threadIdx.x] = acc[j];
  add_lanes<N>(sums, width, lanes);
  if (lane == 0) {
    float* to = partials + (o * s.parts + part) * s.inner + column;
    for (int j = 0; j < N; ++j) to[j] = sums[j * THREADS + threadIdx.x];
  }
}

// Sum over parts of `width` columns from `first` on, of group o; column i comes to sums[i], which all
// threads may read. `width` is at most THREADS.
DEVICE void sum_of_parts(const Columns& s, const float* partials, unsigned o, unsigned first,
                         unsigned width, float* sums) {
  unsigned lanes = THREADS / width, lane = threadIdx.x / width;
  const float* from = partials + o * s.parts * s.inner + first + threadIdx.x % width;
  float acc = 0.0f;
  if (lane < lanes) {
#pragma unroll 4
    for (unsigned k = lane; k < s.parts; k += lanes) acc += from[k * s.inner];
  }
  sums[threadIdx.x] = acc;
  add_lanes<1>(sums, width, lanes);
}
