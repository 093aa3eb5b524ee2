// Mean over a square window cut at the borders, and its adjoint.
// Formula: src/ops/box_filter.rs; sums are direct, one axis after the other.
// Backward is the same sum, divided by the counts before instead of after it; it keeps nothing.
#include "common/window.cuh"

template <class T>
struct Box {
  const T* x;   // [N, H, W, C]
  T* y;         // [N, H, W, C]
  float* sums;  // [N, H, W, C], scratch of the kernels for wide windows
  Window s;
  Tiling t;
  int adjoint;
};

// Shared memory of a tile in floats; `POOL` in src/ops/box_filter.rs.
constexpr int POOL = 6144;

// One tile with its surroundings: sums over columns, then over rows.
template <class T>
DEVICE void box_tile(const Box<T>& p) {
  SHARED(float, pool, POOL);
  const Window& s = p.s;
  const Tile t = tile_of_block(s, p.t);
  const Walk walk = walk_over(t.channels);
  float* x = pool + walk.channel;                          // [height, width, channels]
  float* sums = x + t.height * t.width * t.channels;       // [height, side, channels]
  for (int i = walk.first; i < t.height * t.width; i += walk.step) {
    int row = i / t.width, column = i - row * t.width;
    if (!t.rows.has(row) || !t.columns.has(column)) continue;
    int py = t.y + row - s.rh, px = t.x + column - s.rw;
    float v = load(&p.x[pixel_at(s, t.n, py, px) * s.c + t.c + walk.channel]);
    x[i * t.channels] = p.adjoint ? v / window_size(s, py, px) : v;
  }
  sync_block();
  for (int i = walk.first; i < t.height << t.shift; i += walk.step) {
    int row = i >> t.shift, column = i & (t.side - 1);
    if (!t.rows.has(row) || t.x + column >= s.w) continue;
    Range window = window_of(column, s.rw, t.columns);
    float sum = 0.0f;
    for (int k = window.from; k < window.to; ++k) sum += x[(row * t.width + k) * t.channels];
    sums[i * t.channels] = sum;
  }
  sync_block();
  for (int i = walk.first; i < t.side << t.shift; i += walk.step) {
    int row = i >> t.shift, column = i & (t.side - 1);
    int py = t.y + row, px = t.x + column;
    if (py >= s.h || px >= s.w) continue;
    Range window = window_of(row, s.rh, t.rows);
    float sum = 0.0f;
    for (int k = window.from; k < window.to; ++k) sum += sums[((k << t.shift) + column) * t.channels];
    if (!p.adjoint) sum /= window_size(s, py, px);
    store(&p.y[pixel_at(s, t.n, py, px) * s.c + t.c + walk.channel], sum);
  }
}

// Sums over columns for windows that are too wide for a tile.
template <class T>
DEVICE void box_columns(const Box<T>& p) {
  const Window& s = p.s;
  unsigned n = static_cast<unsigned>(s.n) * s.h * s.w * s.c;
  for (unsigned i = grid_index(); i < n; i += grid_size()) {
    Place at = place_of(s, i);
    Range window = around(at.x, s.rw, s.w);
    const T* row = p.x + pixel_at(s, at.n, at.y, 0) * s.c + at.c;
    float sum = 0.0f;
    for (int k = window.from; k < window.to; ++k) {
      float v = load(&row[k * s.c]);
      sum += p.adjoint ? v / window_size(s, at.y, k) : v;
    }
    p.sums[i] = sum;
  }
}

// Sums of those over rows.
template <class T>
DEVICE void box_rows(const Box<T>& p) {
  const Window& s = p.s;
  unsigned n = static_cast<unsigned>(s.n) * s.h * s.w * s.c;
  for (unsigned i = grid_index(); i < n; i += grid_size()) {
    Place at = place_of(s, i);
    Range window = around(at.y, s.rh, s.h);
    float sum = 0.0f;
    for (int k = window.from; k < window.to; ++k) sum += p.sums[pixel_at(s, at.n, k, at.x) * s.c + at.c];
    store(&p.y[i], p.adjoint ? sum : sum / window_size(s, at.y, at.x));
  }
}

// Every window by itself: the oracle of the others.
template <class T>
DEVICE void box_naive(const Box<T>& p) {
  const Window& s = p.s;
  unsigned n = static_cast<unsigned>(s.n) * s.h * s.w * s.c;
  for (unsigned i = grid_index(); i < n; i += grid_size()) {
    Place at = place_of(s, i);
    Range rows = around(at.y, s.rh, s.h), columns = around(at.x, s.rw, s.w);
    float sum = 0.0f;
    for (int y = rows.from; y < rows.to; ++y) {
      for (int x = columns.from; x < columns.to; ++x) {
        float v = load(&p.x[pixel_at(s, at.n, y, x) * s.c + at.c]);
        sum += p.adjoint ? v / window_size(s, y, x) : v;
      }
    }
    store(&p.y[i], p.adjoint ? sum : sum / window_size(s, at.y, at.x));
  }
}

KERNELS(box_filter_fwd, THREADS, Box, box_tile)
KERNELS(box_filter_columns_fwd, THREADS, Box, box_columns)
KERNELS(box_filter_rows_fwd, THREADS, Box, box_rows)
KERNELS(box_filter_naive_fwd, THREADS, Box, box_naive)
