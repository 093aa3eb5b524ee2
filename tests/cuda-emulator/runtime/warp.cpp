// What kernels call: shuffles, matrix products, asynchronous copies.
#include <string.h>

#include "machine.h"

namespace emulator {

void* new_shared_array(SharedSite& site) { return current.machine->shared_array(site); }

void barrier_block(const char* file, int line) { current.machine->barrier_block({file, line}); }

void barrier_warp(const char* file, int line) {
  current.machine->collective(Collective::Sync, {file, line});
}

unsigned lane() { return current.machine->lane(); }

float shuffle(float v, unsigned source, const char* file, int line) {
  Machine& m = *current.machine;
  Warp& warp = m.warp_of_thread();
  unsigned lane = m.lane();
  warp.value[lane] = v;
  warp.source[lane] = uint8_t(source);
  m.collective(Collective::Shuffle, {file, line});
  return warp.result[lane];
}

void mma(float* d, const unsigned* a, const unsigned* b, const char* file, int line) {
  Machine& m = *current.machine;
  Warp& warp = m.warp_of_thread();
  unsigned lane = m.lane();
  if (compute_capability() < 75)
    m.fail(LAUNCH_FAILED, "mma below compute capability 7.5: the GPU has no such instruction");
  if (warp.exist != ~0u)
    m.fail(LAUNCH_FAILED, "divergent barrier: mma_m16n8k16 in a warp of fewer than 32 lanes");
  warp.d[lane] = d;
  warp.a[lane] = a;
  warp.b[lane] = b;
  m.collective(Collective::Mma, {file, line});
}

static void unpack(unsigned pair, float& low, float& high) {
  low = half_to_float({uint16_t(pair)});
  high = half_to_float({uint16_t(pair >> 16)});
}

// Products are exact in f32; they are added in order of k.
static void multiply(Warp& warp) {
  float a[16][16], b[16][8], d[16][8];
  for (unsigned lane = 0; lane < WARP_LANES; lane++) {
    unsigned group = lane / 4, pair = lane % 4 * 2;
    const unsigned* ra = warp.a[lane];
    const unsigned* rb = warp.b[lane];
    for (unsigned i = 0; i < 4; i++) {
      float* to = &a[group + i % 2 * 8][pair + i / 2 * 8];
      unpack(ra[i], to[0], to[1]);
    }
    for (unsigned i = 0; i < 2; i++) unpack(rb[i], b[pair + i * 8][group], b[pair + i * 8 + 1][group]);
    for (unsigned i = 0; i < 4; i++) d[group + i / 2 * 8][pair + i % 2] = warp.d[lane][i];
  }
  for (unsigned row = 0; row < 16; row++)
    for (unsigned k = 0; k < 16; k++)
      for (unsigned col = 0; col < 8; col++) d[row][col] += a[row][k] * b[k][col];
  for (unsigned lane = 0; lane < WARP_LANES; lane++) {
    unsigned group = lane / 4, pair = lane % 4 * 2;
    for (unsigned i = 0; i < 4; i++) warp.d[lane][i] = d[group + i / 2 * 8][pair + i % 2];
  }
}

// All lanes of `warp` have arrived.
void Machine::complete(Warp& warp) {
  if (warp.kind == Collective::Mma) multiply(warp);
  if (warp.kind != Collective::Shuffle) return;
  for (unsigned lane = 0; lane < WARP_LANES; lane++) {
    if (!(warp.exist >> lane & 1)) continue;
    unsigned source = warp.source[lane];
    // A GPU gives an undefined value for a lane that does not exist.
    warp.result[lane] = warp.exist >> source & 1 ? warp.value[source] : NAN;
  }
}

static void perform(const AsyncQueue::Copy& copy) {
  if (copy.valid)
    memcpy(copy.shared, copy.global, 16);
  else
    memset(copy.shared, 0, 16);
}

// The copy is made when it is waited for, so that a missing wait shows; in random order some are
// made at once, so that a buffer that others still read shows too.
void copy_async(void* shared, const void* global, bool valid) {
  Machine& m = *current.machine;
  if (uintptr_t(shared) % 16 || (valid && uintptr_t(global) % 16))
    m.fail(MISALIGNED_ADDRESS, format("misaligned address: copy_async_16 from %p to %p", global, shared));
  AsyncQueue::Copy copy = {shared, global, valid};
  if (m.coin())
    perform(copy);
  else
    m.queue().copies.push_back(copy);
}

void copy_async_commit() {
  AsyncQueue& queue = current.machine->queue();
  queue.groups.push_back(queue.copies.size());
}

void copy_async_wait(unsigned pending) {
  AsyncQueue& queue = current.machine->queue();
  if (queue.groups.size() <= pending) return;
  size_t finished = queue.groups.size() - pending;
  size_t end = queue.groups[finished - 1];
  for (size_t i = 0; i < end; i++) perform(queue.copies[i]);
  queue.copies.erase(queue.copies.begin(), queue.copies.begin() + ptrdiff_t(end));
  queue.groups.erase(queue.groups.begin(), queue.groups.begin() + ptrdiff_t(finished));
  for (size_t& group : queue.groups) group -= end;
}

}  // namespace emulator
