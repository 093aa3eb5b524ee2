// V neighbours along C as one access: 16 bytes where V is Pack<T>::N, 8 or less below.
#pragma once
#include "kernel.cuh"

template <class T, int V>
struct alignas(sizeof(T) * V) Vector {
  T v[V];
};

// `p` must be aligned to V elements.
template <int V, class T>
DEVICE void load_vector(float (&to)[V], const T* p) {
  Vector<T, V> x = *reinterpret_cast<const Vector<T, V>*>(p);
  for (int i = 0; i < V; ++i) to[i] = load(&x.v[i]);
}

template <int V, class T>
DEVICE void store_vector(T* p, const float (&from)[V]) {
  Vector<T, V> x;
  for (int i = 0; i < V; ++i) store(&x.v[i], from[i]);
  *reinterpret_cast<Vector<T, V>*>(p) = x;
}

// Calls body<T, V>(p) with the widest V that divides the channels, 16 bytes or 1.
#define BY_CHANNELS(body, T, channels, p)         \
  if ((channels) % Pack<T>::N == 0) {             \
    body<T, Pack<T>::N>(p);                       \
  } else {                                        \
    body<T, 1>(p);                                \
  }
