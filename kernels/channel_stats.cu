// Maximum, mean and range over the channels of each pixel.
// Formulas: src/ops/channel_stats.rs.
// Backward finds the first maximum (and minimum) again from x and gives it the cotangent.
#include "common/rows.cuh"

template <class T>
struct Stats {
  const T* x;  // [pixels, C]
  T* y;        // [pixels, 2]: maximum, mean; or [pixels, 1]: maximum - minimum
  unsigned pixels;
  int channels;
  int group;  // lanes of a pixel
  int range;
};

template <class T>
struct StatsGrad {
  const T* x;  // [pixels, C]
  const T* g;  // [pixels, 2] or [pixels, 1], cotangent
  T* dx;       // [pixels, C]
  unsigned pixels;
  int channels;
  int group;
  int range;
};

DEVICE float infinity() { return INFINITY; }

// The first place of the largest value. NaN is never larger.
struct First {
  float value, at;  // the place is a float, so that shuffles carry it

  DEVICE void see(float v, float i) {
    if (v > value || (v == value && i < at)) {
      value = v;
      at = i;
    }
  }

  DEVICE void over(int group) {
    for (int mask = group / 2; mask > 0; mask /= 2) {
      float v = warp_shuffle_xor(value, mask), i = warp_shuffle_xor(at, mask);
      see(v, i);
    }
  }
};

template <class T>
DEVICE void stats_forward(const Stats<T>& p) {
  for_rows(p.pixels, p.group, [&](unsigned pixel, int lane) {
    float high = -infinity(), low = infinity(), sum = 0.0f;
    if (pixel < p.pixels)
      for_elements(p.x + pixel * p.channels, p.channels, lane, p.group, [&](int, float v) {
        high = v > high ? v : high;
        low = v < low ? v : low;
        sum += v;
      });
    high = group_max(high, p.group);
    low = -group_max(-low, p.group);
    sum = group_sum(sum, p.group);
    if (lane != 0 || pixel >= p.pixels) return;
    if (p.range) {
      store(&p.y[pixel], high - low);
    } else {
      store(&p.y[2 * pixel], high);
      store(&p.y[2 * pixel + 1], sum / p.channels);
    }
  });
}

// Gradient of channel i from those of the maximum (or range) and the mean.
DEVICE float stats_gradient(const First& high, const First& low, int range, int i, float g, float mean) {
  float at_high = i == high.at ? g : 0.0f;
  if (range) return at_high - (i == low.at ? g : 0.0f);
  return mean + at_high;
}

template <class T>
DEVICE void stats_backward(const StatsGrad<T>& p) {
  for_rows(p.pixels, p.group, [&](unsigned pixel, int lane) {
    const float none = static_cast<float>(p.channels);
    First high = {-infinity(), none}, low = {-infinity(), none};  // of x and of -x
    if (pixel < p.pixels)
      for_elements(p.x + pixel * p.channels, p.channels, lane, p.group, [&](int i, float v) {
        high.see(v, static_cast<float>(i));
        low.see(-v, static_cast<float>(i));
      });
    high.over(p.group);
    low.over(p.group);
    if (pixel >= p.pixels) return;
    float g = load(&p.g[p.range ? pixel : 2 * pixel]);
    float mean = p.range ? 0.0f : load(&p.g[2 * pixel + 1]) / p.channels;
    T* dx = p.dx + pixel * p.channels;
    constexpr int N = Pack<T>::N;
    if (p.channels % N == 0) {
      for (int i = lane * N; i < p.channels; i += p.group * N) {
        float v[N];
        for (int j = 0; j < N; ++j) v[j] = stats_gradient(high, low, p.range, i + j, g, mean);
        store_floats(dx + i, v);
      }
    } else {
      for (int i = lane; i < p.channels; i += p.group)
        store(&dx[i], stats_gradient(high, low, p.range, i, g, mean));
    }
  });
}

// One thread for a pixel: the oracle of the others.
template <class T>
DEVICE void stats_naive_forward(const Stats<T>& p) {
  for (unsigned pixel = grid_index(); pixel < p.pixels; pixel += grid_size()) {
    const T* x = p.x + pixel * p.channels;
    float high = -infinity(), low = infinity(), sum = 0.0f;
    for (int c = 0; c < p.channels; ++c) {
      float v = load(&x[c]);
      if (v > high) high = v;
      if (v < low) low = v;
      sum += v;
    }
    if (p.range) {
      store(&p.y[pixel], high - low);
    } else {
      store(&p.y[2 * pixel], high);
      store(&p.y[2 * pixel + 1], sum / p.channels);
    }
  }
}

template <class T>
DEVICE void stats_naive_backward(const StatsGrad<T>& p) {
  for (unsigned pixel = grid_index(); pixel < p.pixels; pixel += grid_size()) {
    const T* x = p.x + pixel * p.channels;
    int high = 0, low = 0;
    for (int c = 1; c < p.channels; ++c) {
      if (load(&x[c]) > load(&x[high])) high = c;
      if (load(&x[c]) < load(&x[low])) low = c;
    }
    for (int c = 0; c < p.channels; ++c) {
      float d = 0.0f;
      if (p.range) {
        float g = load(&p.g[pixel]);
        if (c == high) d += g;
        if (c == low) d -= g;
      } else {
        d = load(&p.g[2 * pixel + 1]) / p.channels;
        if (c == high) d += load(&p.g[2 * pixel]);
      }
      store(&p.dx[pixel * p.channels + c], d);
    }
  }
}

KERNELS(channel_stats_fwd, THREADS, Stats, stats_forward)
KERNELS(channel_stats_bwd_input, THREADS, StatsGrad, stats_backward)
KERNELS(channel_stats_naive_fwd, THREADS, Stats, stats_naive_forward)
KERNELS(channel_stats_naive_bwd_input, THREADS, StatsGrad, stats_naive_backward)
