// Square windows cut at the borders, and how blocks tile pictures under them.
// The Rust side is src/ops/support/window.rs.
#pragma once
#include "kernel.cuh"

// Pictures [n, h, w, c] and how far a window reaches, at most h - 1 rows and w - 1 columns.
struct Window {
  int n, h, w, c;
  int rh, rw;
};

struct Range {
  int from, to;
  DEVICE int count() const { return to - from; }
  DEVICE bool has(int i) const { return i >= from && i < to; }
};

// Positions within r of i.
DEVICE Range around(int i, int r, int size) { return {i > r ? i - r : 0, r < size - i ? i + r + 1 : size}; }

struct Place {
  int n, y, x, c;
};

// Place of element i of [n, h, w, c].
DEVICE Place place_of(const Window& s, unsigned i) {
  Place at;
  unsigned pixel = i / s.c;
  at.c = i - pixel * s.c;
  unsigned row = pixel / s.w;
  at.x = pixel - row * s.w;
  at.n = row / s.h;
  at.y = row - at.n * s.h;
  return at;
}

DEVICE int pixel_at(const Window& s, int n, int y, int x) { return (n * s.h + y) * s.w + x; }

// Number of pixels in the window around (y, x).
DEVICE float window_size(const Window& s, int y, int x) {
  return static_cast<float>(around(y, s.rh, s.h).count()) * around(x, s.rw, s.w).count();
}

// A grid of square tiles, each with some channels at a time: one block for each.
struct Tiling {
  int shift;           // a tile has 1 << shift rows and columns
  int channels;        // of a block, at most
  int rows, columns;   // of tiles in a picture
  int channel_blocks;
};

// The tile of this block. Local coordinates begin where the window of its first pixel does.
struct Tile {
  int side, shift;
  int n, y, x;         // first pixel
  int c, channels;     // first channel, and how many
  int height, width;   // of the tile with its surroundings
  Range rows, columns; // local ones inside the picture
};

DEVICE Tile tile_of_block(const Window& s, const Tiling& t) {
  Tile tile;
  tile.shift = t.shift;
  tile.side = 1 << t.shift;
  int b = blockIdx.x;
  tile.c = b % t.channel_blocks * t.channels;
  tile.channels = min(t.channels, s.c - tile.c);
  b /= t.channel_blocks;
  tile.x = b % t.columns << t.shift;
  b /= t.columns;
  tile.y = b % t.rows << t.shift;
  tile.n = b / t.rows;
  tile.height = tile.side + 2 * s.rh;
  tile.width = tile.side + 2 * s.rw;
  tile.rows = {max(0, s.rh - tile.y), min(tile.height, s.h - tile.y + s.rh)};
  tile.columns = {max(0, s.rw - tile.x), min(tile.width, s.w - tile.x + s.rw)};
  return tile;
}

// Local positions of the window, reaching r, of output o of a tile.
DEVICE Range window_of(int o, int r, Range inside) {
  return {max(o, inside.from), min(o + 2 * r + 1, inside.to)};
}

// How the threads of a block share the pixels and channels of a tile: neighbours have neighbouring
// channels. Pixels are first, first + step, ...
struct Walk {
  int channel, first, step;
};

DEVICE Walk walk_over(int channels) {
  int step = THREADS / channels, first = threadIdx.x / channels;
  // Threads left over have no pixel.
  return {static_cast<int>(threadIdx.x) % channels, first < step ? first : 1 << 30, step};
}
