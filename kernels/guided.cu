// Guided filter with a grey guide, and its gradients.
// Formula: src/ops/guided/mod.rs. In f32 var = E[I^2] - E[I]^2 would cancel, so moments are taken about a
// value of the window itself, rows are merged as in Chan, Golub, LeVeque (1983), and a line is kept as
// its value at the window's centre, never as an intercept far away.
// Backward recomputes the moments, in direct sums about the means.
#include "common/window.cuh"

// The line q = value + slope (I - guide at the window's centre) of every window and channel.
template <class T>
struct Guided {
  const T* guide;  // [N, H, W]
  const T* x;      // [N, H, W, C]
  T* y;            // [N, H, W, C]
  float* slope;    // [N, H, W, C]
  float* value;    // [N, H, W, C]
  float* rows;     // moments or sums of rows, scratch of the kernels for wide windows:
                   // two maps [N, H, W, C], then two [N, H, W]
  Window s;
  Tiling lines, apply;
  float eps;
  int padding;
};

// Shared memory of a tile in floats; LINES_POOL and APPLY_POOL in src/ops/guided/mod.rs.
constexpr int LINES_POOL = 4800;
constexpr int APPLY_POOL = 6720;

// Means of guide and x, and sums of the centred products I I and I x.
struct Moments {
  float guide, x, ii, ix;
};

struct Line {
  float slope, value;
};

// Moments of a row of a window; guide(k) and x(k) are its values at columns k. About the centre's
// value the loss by cancellation is bounded: the centre is in the window, so its distance from the
// mean is at most sqrt(count) standard deviations.
template <class G, class X>
DEVICE Moments moments_of_row(Range window, int centre, G guide, X x) {
  float guide0 = guide(centre), x0 = x(centre);
  float si = 0.0f, sx = 0.0f, sii = 0.0f, six = 0.0f;
  for (int k = window.from; k < window.to; ++k) {
    float i = guide(k) - guide0, v = x(k) - x0;
    si += i;
    sx += v;
    sii += i * i;
    six += i * v;
  }
  float share = 1.0f / window.count();
  return {guide0 + si * share, x0 + sx * share, fmaxf(sii - si * si * share, 0.0f), six - si * sx * share};
}

// Moments of the window from those of its rows, all of `columns` pixels.
template <class R>
DEVICE Moments merge_rows(Range window, int centre, int columns, R row) {
  Moments m0 = row(centre);
  float si = 0.0f, sx = 0.0f, sii = 0.0f, six = 0.0f, within_ii = 0.0f, within_ix = 0.0f;
  for (int k = window.from; k < window.to; ++k) {
    Moments m = row(k);
    float i = m.guide - m0.guide, v = m.x - m0.x;
    si += i;
    sx += v;
    sii += i * i;
    six += i * v;
    within_ii += m.ii;
    within_ix += m.ix;
  }
  float share = 1.0f / window.count();
  return {m0.guide + si * share, m0.x + sx * share,
          within_ii + columns * fmaxf(sii - si * si * share, 0.0f),
          within_ix + columns * (six - si * sx * share)};
}

// The line of a window of `count` pixels.
DEVICE Line line_of(const Moments& m, float count, float eps, float guide_at_centre) {
  float slope = m.ix / (m.ii + count * eps);
  return {slope, m.x + slope * (guide_at_centre - m.guide)};
}

// Sums over a row of lines: of slopes, and of values at the guide g of the row's centre.
template <class G, class L>
DEVICE Line sum_row(Range window, float g, G guide, L line) {
  Line sum = {0.0f, 0.0f};
  for (int k = window.from; k < window.to; ++k) {
    Line l = line(k);
    sum.slope += l.slope;
    sum.value += l.value + l.slope * (g - guide(k));
  }
  return sum;
}

// Sum over rows, at the guide g of the window's centre; guide(k) is that of the centre of row k.
template <class G, class L>
DEVICE float sum_rows(Range window, float g, G guide, L row) {
  float sum = 0.0f;
  for (int k = window.from; k < window.to; ++k) {
    Line l = row(k);
    sum += l.value + l.slope * (g - guide(k));
  }
  return sum;
}

// Guide of a tile and its surroundings, [height, width], from all threads.
template <class T>
DEVICE void load_guide(const Guided<T>& p, const Tile& t, float* guide) {
  for (int i = threadIdx.x; i < t.height * t.width; i += THREADS) {
    int row = i / t.width, column = i - row * t.width;
    if (!t.rows.has(row) || !t.columns.has(column)) continue;
    guide[i] = load(&p.guide[pixel_at(p.s, t.n, t.y + row - p.s.rh, t.x + column - p.s.rw)]);
  }
}

// Lines of the windows around the pixels of a tile.
template <class T>
DEVICE void lines(const Guided<T>& p) {
  SHARED(float, pool, LINES_POOL);
  const Window& s = p.s;
  const Tile t = tile_of_block(s, p.lines);
  const Walk walk = walk_over(t.channels);
  const int c = t.channels, surroundings = t.height * t.width, strip = t.height << t.shift;
  float* guide = pool;                          // [height, width]
  float* row_guide = guide + surroundings;      // [height, side]
  float* row_ii = row_guide + strip;            // [height, side]
  float* x = row_ii + strip + walk.channel;     // [height, width, channels]
  float* row_x = x + surroundings * c;          // [height, side, channels]
  float* row_ix = row_x + strip * c;            // [height, side, channels]
  load_guide(p, t, guide);
  for (int i = walk.first; i < surroundings; i += walk.step) {
    int row = i / t.width, column = i - row * t.width;
    if (!t.rows.has(row) || !t.columns.has(column)) continue;
    int pixel = pixel_at(s, t.n, t.y + row - s.rh, t.x + column - s.rw);
    x[i * c] = load(&p.x[pixel * s.c + t.c + walk.channel]);
  }
  sync_block();
  for (int i = walk.first; i < strip; i += walk.step) {
    int row = i >> t.shift, column = i & (t.side - 1);
    if (!t.rows.has(row) || t.x + column >= s.w) continue;
    const float* g = guide + row * t.width;
    const float* v = x + row * t.width * c;
    Moments m = moments_of_row(
        window_of(column, s.rw, t.columns), column + s.rw, [=](int k) { return g[k]; },
        [=](int k) { return v[k * c]; });
    row_x[i * c] = m.x;
    row_ix[i * c] = m.ix;
    if (walk.channel == 0) {
      row_guide[i] = m.guide;
      row_ii[i] = m.ii;
    }
  }
  sync_block();
  for (int i = walk.first; i < t.side << t.shift; i += walk.step) {
    int row = i >> t.shift, column = i & (t.side - 1);
    if (t.y + row >= s.h || t.x + column >= s.w) continue;
    Range rows = window_of(row, s.rh, t.rows), columns = window_of(column, s.rw, t.columns);
    Moments m = merge_rows(rows, row + s.rh, columns.count(), [=](int k) {
      int j = (k << t.shift) + column;
      return Moments{row_guide[j], row_x[j * c], row_ii[j], row_ix[j * c]};
    });
    float centre = guide[(row + s.rh) * t.width + column + s.rw];
    Line l = line_of(m, static_cast<float>(rows.count()) * columns.count(), p.eps, centre);
    int at = pixel_at(s, t.n, t.y + row, t.x + column) * s.c + t.c + walk.channel;
    p.slope[at] = l.slope;
    p.value[at] = l.value;
  }
}

// Mean of the lines of all windows that a pixel of a tile is in, at its guide.
template <class T>
DEVICE void apply(const Guided<T>& p) {
  SHARED(float, pool, APPLY_POOL);
  const Window& s = p.s;
  const Tile t = tile_of_block(s, p.apply);
  const Walk walk = walk_over(t.channels);
  const int c = t.channels, surroundings = t.height * t.width, strip = t.height << t.shift;
  float* guide = pool;                                 // [height, width]
  float* slope = guide + surroundings + walk.channel;  // [height, width, channels]
  float* value = slope + surroundings * c;             // [height, width, channels]
  float* row_slope = value + surroundings * c;         // [height, side, channels]
  float* row_value = row_slope + strip * c;            // [height, side, channels]
  load_guide(p, t, guide);
  for (int i = walk.first; i < surroundings; i += walk.step) {
    int row = i / t.width, column = i - row * t.width;
    if (!t.rows.has(row) || !t.columns.has(column)) continue;
    int pixel = pixel_at(s, t.n, t.y + row - s.rh, t.x + column - s.rw);
    slope[i * c] = p.slope[pixel * s.c + t.c + walk.channel];
    value[i * c] = p.value[pixel * s.c + t.c + walk.channel];
  }
  sync_block();
  for (int i = walk.first; i < strip; i += walk.step) {
    int row = i >> t.shift, column = i & (t.side - 1);
    if (!t.rows.has(row) || t.x + column >= s.w) continue;
    int first = row * t.width;
    Line sum = sum_row(
        window_of(column, s.rw, t.columns), guide[first + column + s.rw],
        [=](int k) { return guide[first + k]; },
        [=](int k) { return Line{slope[(first + k) * c], value[(first + k) * c]}; });
    row_slope[i * c] = sum.slope;
    row_value[i * c] = sum.value;
  }
  sync_block();
  for (int i = walk.first; i < t.side << t.shift; i += walk.step) {
    int row = i >> t.shift, column = i & (t.side - 1);
    if (t.y + row >= s.h || t.x + column >= s.w) continue;
    Range rows = window_of(row, s.rh, t.rows);
    const float* g = guide + column + s.rw;
    float sum = sum_rows(
        rows, g[(row + s.rh) * t.width], [=](int k) { return g[k * t.width]; },
        [=](int k) {
          int j = ((k << t.shift) + column) * c;
          return Line{row_slope[j], row_value[j]};
        });
    float count = static_cast<float>(rows.count()) * window_of(column, s.rw, t.columns).count();
    store(&p.y[pixel_at(s, t.n, t.y + row, t.x + column) * s.c + t.c + walk.channel], sum / count);
  }
}

// The same for windows that are too wide for a tile, in four steps through global memory.

// Maps of scratch for each pixel and channel, and for each pixel.
struct Maps {
  float *x0, *x1, *pixel0, *pixel1;
};

template <class T>
DEVICE Maps maps_of(const Guided<T>& p) {
  int pixels = p.s.n * p.s.h * p.s.w, n = pixels * p.s.c;
  return {p.rows, p.rows + n, p.rows + 2 * n, p.rows + 2 * n + pixels};
}

template <class T>
DEVICE unsigned elements(const T& p) {
  return static_cast<unsigned>(p.s.n) * p.s.h * p.s.w * p.s.c;
}

template <class T>
DEVICE void row_moments(const Guided<T>& p) {
  const Window& s = p.s;
  const Maps maps = maps_of(p);
  for (unsigned i = grid_index(); i < elements(p); i += grid_size()) {
    Place at = place_of(s, i);
    int first = pixel_at(s, at.n, at.y, 0);
    Moments m = moments_of_row(
        around(at.x, s.rw, s.w), at.x, [=](int k) { return load(&p.guide[first + k]); },
        [=](int k) { return load(&p.x[(first + k) * s.c + at.c]); });
    maps.x0[i] = m.x;
    maps.x1[i] = m.ix;
    if (at.c == 0) {
      maps.pixel0[first + at.x] = m.guide;
      maps.pixel1[first + at.x] = m.ii;
    }
  }
}

template <class T>
DEVICE void wide_lines(const Guided<T>& p) {
  const Window& s = p.s;
  const Maps maps = maps_of(p);
  for (unsigned i = grid_index(); i < elements(p); i += grid_size()) {
    Place at = place_of(s, i);
    Range rows = around(at.y, s.rh, s.h), columns = around(at.x, s.rw, s.w);
    Moments m = merge_rows(rows, at.y, columns.count(), [=](int k) {
      int j = pixel_at(s, at.n, k, at.x);
      return Moments{maps.pixel0[j], maps.x0[j * s.c + at.c], maps.pixel1[j], maps.x1[j * s.c + at.c]};
    });
    float centre = load(&p.guide[pixel_at(s, at.n, at.y, at.x)]);
    Line l = line_of(m, window_size(s, at.y, at.x), p.eps, centre);
    p.slope[i] = l.slope;
    p.value[i] = l.value;
  }
}

template <class T>
DEVICE void row_lines(const Guided<T>& p) {
  const Window& s = p.s;
  const Maps maps = maps_of(p);
  for (unsigned i = grid_index(); i < elements(p); i += grid_size()) {
    Place at = place_of(s, i);
    int first = pixel_at(s, at.n, at.y, 0);
    Line sum = sum_row(
        around(at.x, s.rw, s.w), load(&p.guide[first + at.x]),
        [=](int k) { return load(&p.guide[first + k]); },
        [=](int k) {
          int j = (first + k) * s.c + at.c;
          return Line{p.slope[j], p.value[j]};
        });
    maps.x0[i] = sum.slope;
    maps.x1[i] = sum.value;
  }
}

template <class T>
DEVICE void wide_apply(const Guided<T>& p) {
  const Window& s = p.s;
  const Maps maps = maps_of(p);
  for (unsigned i = grid_index(); i < elements(p); i += grid_size()) {
    Place at = place_of(s, i);
    float sum = sum_rows(
        around(at.y, s.rh, s.h), load(&p.guide[pixel_at(s, at.n, at.y, at.x)]),
        [=](int k) { return load(&p.guide[pixel_at(s, at.n, k, at.x)]); },
        [=](int k) {
          int j = pixel_at(s, at.n, k, at.x) * s.c + at.c;
          return Line{maps.x0[j], maps.x1[j]};
        });
    store(&p.y[i], sum / window_size(s, at.y, at.x));
  }
}

// Every window by itself, in two passes: the oracle of the others, and the way of the gradients.

// Calls f(pixel, y, x) for the window around a place.
template <class F>
DEVICE void for_window(const Window& s, const Place& at, F f) {
  Range rows = around(at.y, s.rh, s.h), columns = around(at.x, s.rw, s.w);
  for (int y = rows.from; y < rows.to; ++y)
    for (int x = columns.from; x < columns.to; ++x) f(pixel_at(s, at.n, y, x), y, x);
}

// Moments of a window; the means are kept as differences from the values at its centre, whose digits
// would otherwise be lost where gradients multiply I - mean I.
template <class T>
DEVICE Moments window_moments(const Window& s, const Place& at, const T* guide, const T* x) {
  int centre = pixel_at(s, at.n, at.y, at.x);
  float guide0 = load(&guide[centre]), x0 = load(&x[centre * s.c + at.c]);
  float si = 0.0f, sx = 0.0f;
  for_window(s, at, [&](int j, int, int) {
    si += load(&guide[j]) - guide0;
    sx += load(&x[j * s.c + at.c]) - x0;
  });
  float share = 1.0f / window_size(s, at.y, at.x);
  Moments m = {si * share, sx * share, 0.0f, 0.0f};
  for_window(s, at, [&](int j, int, int) {
    float i = load(&guide[j]) - guide0 - m.guide;
    m.ii += i * i;
    m.ix += i * (load(&x[j * s.c + at.c]) - x0 - m.x);
  });
  return m;
}

template <class T>
DEVICE void naive_lines(const Guided<T>& p) {
  const Window& s = p.s;
  for (unsigned i = grid_index(); i < elements(p); i += grid_size()) {
    Place at = place_of(s, i);
    Moments m = window_moments(s, at, p.guide, p.x);
    Line l = line_of(m, window_size(s, at.y, at.x), p.eps, 0.0f);
    p.slope[i] = l.slope;
    p.value[i] = load(&p.x[i]) + l.value;
  }
}

template <class T>
DEVICE void naive_apply(const Guided<T>& p) {
  const Window& s = p.s;
  for (unsigned i = grid_index(); i < elements(p); i += grid_size()) {
    Place at = place_of(s, i);
    float g = load(&p.guide[pixel_at(s, at.n, at.y, at.x)]), sum = 0.0f;
    for_window(s, at, [&](int j, int, int) {
      int k = j * s.c + at.c;
      sum += p.value[k] + p.slope[k] * (g - load(&p.guide[j]));
    });
    store(&p.y[i], sum / window_size(s, at.y, at.x));
  }
}

KERNELS(guided_filter_lines_fwd, THREADS, Guided, lines)
KERNELS(guided_filter_apply_fwd, THREADS, Guided, apply)
KERNELS(guided_filter_wide_row_moments_fwd, THREADS, Guided, row_moments)
KERNELS(guided_filter_wide_lines_fwd, THREADS, Guided, wide_lines)
KERNELS(guided_filter_wide_row_lines_fwd, THREADS, Guided, row_lines)
KERNELS(guided_filter_wide_apply_fwd, THREADS, Guided, wide_apply)
KERNELS(guided_filter_naive_lines_fwd, THREADS, Guided, naive_lines)
KERNELS(guided_filter_naive_apply_fwd, THREADS, Guided, naive_apply)

template <class T>
struct GuidedGrad {
  const T* guide;   // [N, H, W]
  const T* x;       // [N, H, W, C]
  const T* g;       // [N, H, W, C], cotangent
  T* dx;            // [N, H, W, C] or null
  T* dguide;        // [N, H, W] or null
  float* slope;     // [N, H, W, C]
  float* mean_x;    // [N, H, W, C], of a window, minus x at its centre
  float* dmean;     // [N, H, W, C], of the mean of x, over the window's size
  float* dcov;      // [N, H, W, C], of the covariance, over the window's size
  float* parts;     // [N, H, W, C], summands of dguide; null for dx
  float* mean_i;    // [N, H, W], of a window, minus the guide at its centre
  Window s;
  float eps;
  int padding;
};

// With h = g / size at each pixel i, for each window: dmean = sum of h, and
// dcov = sum of h (I_i - mean I) / (var + eps).
template <class T>
DEVICE void gradient_of_lines(const GuidedGrad<T>& p) {
  const Window& s = p.s;
  for (unsigned i = grid_index(); i < elements(p); i += grid_size()) {
    Place at = place_of(s, i);
    Moments m = window_moments(s, at, p.guide, p.x);
    float db = 0.0f, da = 0.0f, size = window_size(s, at.y, at.x);
    float centre = load(&p.guide[pixel_at(s, at.n, at.y, at.x)]);
    for_window(s, at, [&](int j, int y, int x) {
      float h = load(&p.g[j * s.c + at.c]) / window_size(s, y, x);
      db += h;
      da += h * (load(&p.guide[j]) - centre - m.guide);
    });
    float spread = m.ii + size * p.eps;
    p.slope[i] = m.ix / spread;
    p.mean_x[i] = m.x;
    p.dmean[i] = db / size;
    p.dcov[i] = da / spread;
    if (at.c == 0) p.mean_i[pixel_at(s, at.n, at.y, at.x)] = m.guide;
  }
}

// dx_j = sum over windows of dmean + dcov (I_j - mean I).
template <class T>
DEVICE void gradient_of_x(const GuidedGrad<T>& p) {
  const Window& s = p.s;
  for (unsigned i = grid_index(); i < elements(p); i += grid_size()) {
    Place at = place_of(s, i);
    float guide = load(&p.guide[pixel_at(s, at.n, at.y, at.x)]), sum = 0.0f;
    for_window(s, at, [&](int j, int, int) {
      int k = j * s.c + at.c;
      sum += p.dmean[k] + p.dcov[k] * (guide - load(&p.guide[j]) - p.mean_i[j]);
    });
    store(&p.dx[i], sum);
  }
}

// What a channel adds to dI_j: the sum over windows of
// a (h_j - dmean) + dcov (x_j - mean x - 2 a (I_j - mean I)).
template <class T>
DEVICE void gradient_of_guide_parts(const GuidedGrad<T>& p) {
  const Window& s = p.s;
  for (unsigned i = grid_index(); i < elements(p); i += grid_size()) {
    Place at = place_of(s, i);
    float guide = load(&p.guide[pixel_at(s, at.n, at.y, at.x)]);
    float h = load(&p.g[i]) / window_size(s, at.y, at.x), x = load(&p.x[i]), sum = 0.0f;
    for_window(s, at, [&](int j, int, int) {
      int k = j * s.c + at.c;
      float a = p.slope[k];
      float from_x = x - load(&p.x[k]) - p.mean_x[k];
      float from_guide = guide - load(&p.guide[j]) - p.mean_i[j];
      sum += a * (h - p.dmean[k]) + p.dcov[k] * (from_x - 2.0f * a * from_guide);
    });
    p.parts[i] = sum;
  }
}

template <class T>
DEVICE void gradient_of_guide(const GuidedGrad<T>& p) {
  unsigned pixels = static_cast<unsigned>(p.s.n) * p.s.h * p.s.w;
  for (unsigned i = grid_index(); i < pixels; i += grid_size()) {
    const float* parts = p.parts + static_cast<size_t>(i) * p.s.c;
    float sum = 0.0f;
    for (int c = 0; c < p.s.c; ++c) sum += parts[c];
    store(&p.dguide[i], sum);
  }
}

KERNELS(guided_filter_bwd_lines, THREADS, GuidedGrad, gradient_of_lines)
KERNELS(guided_filter_bwd_x, THREADS, GuidedGrad, gradient_of_x)
KERNELS(guided_filter_bwd_guide_parts, THREADS, GuidedGrad, gradient_of_guide_parts)
KERNELS(guided_filter_bwd_guide, THREADS, GuidedGrad, gradient_of_guide)
