// The names that kernels/common/kernel.cuh offers on a GPU, for a host compiler: the same .cu files
// run on the CPU, one fiber for each thread. What happens at a barrier, a fault or a launch is in
// runtime/. Nothing is offered here that kernel.cuh does not list, so that kernels keep to it.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

namespace emulator {

struct Index {
  unsigned x, y, z;
};

struct Machine;

// What the thread that now runs knows of itself. One for each OS thread; plain data at a fixed
// offset of the thread pointer, so that reading threadIdx costs a load.
struct Current {
  Index thread, block, block_dim, grid_dim;
  void* const* shared;  // data of each shared array of this launch, by SharedSite::index
  Machine* machine;     // null while no kernel runs
};
extern __thread Current current __attribute__((tls_model("initial-exec"), visibility("hidden")));

// An entry point, and its place in the list of all.
struct Kernel {
  const char* module;
  const char* name;
  size_t bytes;          // of the parameters
  const unsigned* size;  // the same, as the global `<name>_params`
  unsigned threads;      // at most, in a block
  void (*body)(const void* params);
  Kernel* next;
  size_t shared_bytes;  // most that a launch has used so far

  Kernel(const char* module, const char* name, size_t bytes, const unsigned* size,
         unsigned threads, void (*body)(const void*));
};

// One SHARED line of one instantiation; index 0 until a launch first reaches it.
struct SharedSite {
  size_t bytes;
  const char* name;
  unsigned index;
};

void* new_shared_array(SharedSite& site);
void barrier_block(const char* file, int line);
void barrier_warp(const char* file, int line);
float shuffle(float v, unsigned source, const char* file, int line);
unsigned lane();
void mma(float* d, const unsigned* a, const unsigned* b, const char* file, int line);
void copy_async(void* shared, const void* global, bool valid);
void copy_async_commit();
void copy_async_wait(unsigned pending);

inline void* shared_array(SharedSite& site) {
  void* p = current.shared[__atomic_load_n(&site.index, __ATOMIC_RELAXED)];
  return __builtin_expect(p != nullptr, 1) ? p : new_shared_array(site);
}

}  // namespace emulator

#define threadIdx (::emulator::current.thread)
#define blockIdx (::emulator::current.block)
#define blockDim (::emulator::current.block_dim)
#define gridDim (::emulator::current.grid_dim)

#define DEVICE inline

// The parameters are copied for each thread, which lets the compiler keep them in registers.
#define KERNEL(name, threads, ...)                                                     \
  static void name(const __VA_ARGS__ p);                                               \
  static const unsigned name##_params = sizeof(__VA_ARGS__);                           \
  static ::emulator::Kernel name##_kernel(                                             \
      HAFUSE_MODULE, #name, sizeof(__VA_ARGS__), &name##_params, threads,              \
      [](const void* params) { name(*static_cast<const __VA_ARGS__*>(params)); });     \
  static void name(const __VA_ARGS__ p)

#define SHARED(T, name, count)                                                         \
  static ::emulator::SharedSite name##_site = {sizeof(T) * (count), #name, 0};         \
  T(&name)[count] = *static_cast<T(*)[count]>(::emulator::shared_array(name##_site))
#define SHARED2(T, name, rows, cols)                                                   \
  static ::emulator::SharedSite name##_site = {sizeof(T) * (rows) * (cols), #name, 0}; \
  T(&name)[rows][cols] = *static_cast<T(*)[rows][cols]>(::emulator::shared_array(name##_site))

#define sync_block() ::emulator::barrier_block(__FILE__, __LINE__)
#define sync_warp() ::emulator::barrier_warp(__FILE__, __LINE__)

inline float warp_shuffle_xor(float v, int mask, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  return ::emulator::shuffle(v, (::emulator::lane() ^ unsigned(mask)) & 31, file, line);
}
// A lane whose source lies beyond the warp keeps its own value.
inline float warp_shuffle_down(float v, int delta, const char* file = __builtin_FILE(),
                               int line = __builtin_LINE()) {
  unsigned source = ::emulator::lane() + unsigned(delta);
  return ::emulator::shuffle(v, source < 32 ? source : ::emulator::lane(), file, line);
}
inline float warp_shuffle(float v, int lane, const char* file = __builtin_FILE(),
                          int line = __builtin_LINE()) {
  return ::emulator::shuffle(v, unsigned(lane) & 31, file, line);
}

// Cycles of a card's clock, of which there is none here.
inline long long clock64() { return 0; }

inline void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                         const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  ::emulator::mma(d, a, b, file, line);
}

inline void copy_async_16(void* shared, const void* global, bool valid) {
  ::emulator::copy_async(shared, global, valid);
}
inline void copy_async_commit() { ::emulator::copy_async_commit(); }
template <int Pending>
inline void copy_async_wait() {
  ::emulator::copy_async_wait(Pending);
}

// IEEE binary16, by its bits: _Float16 is missing in older compilers and slow without F16C.
struct half {
  uint16_t bits;
};

namespace emulator {
inline uint32_t bits_of(float v) {
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  return bits;
}
inline float float_of(uint32_t bits) {
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}
}  // namespace emulator

inline float half_to_float(half v) {
  uint32_t bits = uint32_t(v.bits) << 16;
  uint32_t magnitude = bits << 1;
  // Exponent and mantissa in their places, the exponent's bias corrected by a multiplication.
  float normal = ::emulator::float_of((magnitude >> 4) + (0xE0u << 23)) * 0x1p-112f;
  // Subnormal: the mantissa is added below 0.5.
  float subnormal = ::emulator::float_of((magnitude >> 17) | (126u << 23)) - 0.5f;
  uint32_t result = ::emulator::bits_of(magnitude < (1u << 27) ? subnormal : normal);
  return ::emulator::float_of((bits & 0x80000000u) | result);
}

// Round to nearest, ties to even.
inline half float_to_half(float v) {
  uint32_t bits = ::emulator::bits_of(v);
  uint32_t magnitude = bits << 1;
  // Adding a power of two 2^13 above v's own leaves the mantissa's last bit where half has it;
  // the first product makes what is too large infinite.
  float scaled = (fabsf(v) * 0x1p+112f) * 0x1p-110f;
  uint32_t exponent = magnitude & 0xFF000000u;
  if (exponent < 0x71000000u) exponent = 0x71000000u;
  uint32_t rounded = ::emulator::bits_of(::emulator::float_of((exponent >> 1) + 0x07800000u) + scaled);
  uint32_t value = ((rounded >> 13) & 0x7C00u) + (rounded & 0x0FFFu);
  return {uint16_t((bits >> 16 & 0x8000u) | (magnitude > 0xFF000000u ? 0x7FFFu : value))};
}

// Functions of CUDA that a host's math.h lacks.
inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }

#define EMULATOR_MIN_MAX(T)                               \
  inline T min(T a, T b) { return b < a ? b : a; }        \
  inline T max(T a, T b) { return a < b ? b : a; }
EMULATOR_MIN_MAX(int)
EMULATOR_MIN_MAX(unsigned)
EMULATOR_MIN_MAX(long)
EMULATOR_MIN_MAX(unsigned long)
EMULATOR_MIN_MAX(long long)
EMULATOR_MIN_MAX(unsigned long long)
#undef EMULATOR_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
