#include "machine.h"

#include <string.h>

#include <mutex>
#include <numeric>

namespace emulator {

__thread Current current __attribute__((tls_model("initial-exec"), visibility("hidden"))) = {};

// ---- One launch -------------------------------------------------------------------------------

Result Machine::run(const Launch& l, Order o, uint64_t s) {
  launch = l;
  order = o;
  seed = s;
  fault = {};
  prepare_block_shape();
  shared_total = launch.dynamic_shared;
  // Fibers that an earlier launch has parked may hold the address of its OS thread's `current`.
  if (home != &current) restart_fibers();
  home = &current;
  adopt_thread(main);
  current.block_dim = launch.block;
  current.grid_dim = launch.grid;
  current.shared = shared_table.data();
  current.machine = this;
  if (sigsetjmp(recover, 0) == 0) {
    run_blocks();
    current.machine = nullptr;
  } else {
    fiber_landed(main);
    if (fault.code == SUCCESS) fault = describe_signal();
    current.machine = nullptr;
    restart_fibers();  // their stacks were left in the middle
  }
  end_launch();
  return fault.code;
}

void Machine::restart_fibers() {
  free_fibers = fibers;
  for (Fiber* fiber : fibers) reset_fiber(*fiber, fiber_main);
}

void Machine::prepare_block_shape() {
  Index b = launch.block;
  if (b.x == shape.x && b.y == shape.y && b.z == shape.z) return;
  shape = b;
  threads = b.x * b.y * b.z;
  warp_count = (threads + WARP_LANES - 1) / WARP_LANES;
  unsigned t = 0;
  for (unsigned z = 0; z < b.z; z++)
    for (unsigned y = 0; y < b.y; y++)
      for (unsigned x = 0; x < b.x; x++) index[t++] = {x, y, z};
  for (unsigned w = 0; w < warp_count; w++) {
    unsigned lanes = threads - w * WARP_LANES;
    warps[w].exist = lanes >= WARP_LANES ? ~0u : (1u << lanes) - 1;
  }
}

void Machine::run_blocks() {
  uint64_t x = launch.grid.x, xy = x * launch.grid.y, count = xy * launch.grid.z;
  // Random order: an arithmetic progression, which needs no table of the blocks.
  uint64_t step = 1, first = 0;
  if (order == Order::Random) {
    random = seed;
    first = next_random() % count;
    step = next_random() % count;
    while (std::gcd(step, count) != 1) step++;
  }
  for (uint64_t i = 0; i < count; i++) {
    uint64_t b = order == Order::Forward ? i : order == Order::Reverse ? count - 1 - i : first;
    if (order == Order::Random) {
      random = seed ^ (b + 1) * 0x9E3779B97F4A7C15;
      first = (first + step) % count;
    }
    run_block({unsigned(b % x), unsigned(b % xy / x), unsigned(b / xy)});
  }
}

void Machine::run_block(Index block) {
  current.block = block;
  for (unsigned site : shared_used) arrays[site].memory.fill_unwritten();
  if (async_used) clear_queues();
  memset(fiber_of, 0, threads * sizeof fiber_of[0]);
  for (unsigned w = 0; w < warp_count; w++) warps[w].arrived = 0;
  done = waiting = 0;
  begin_phase();
  start = unsigned(choose());
  self = take_fiber();
  switch_fiber(main, *self);
}

void Machine::end_launch() {
  for (unsigned site : shared_used) {
    ptrdiff_t at = arrays[site].memory.overwritten();
    if (at != 0 && fault.code == SUCCESS) {
      fault = {ILLEGAL_ADDRESS,
               format("guard overwritten: byte %td of shared array %s, which has %zu bytes; kernel %s/%s",
                      at, arrays[site].site->name, arrays[site].memory.bytes, launch.kernel->module,
                      launch.kernel->name)};
    }
    shared_table[site] = nullptr;
  }
  shared_used.clear();
  if (async_used) clear_queues();
}

void Machine::clear_queues() {
  for (unsigned t = 0; t < MAX_THREADS; t++) {
    async[t].copies.clear();
    async[t].groups.clear();
  }
  async_used = false;
}

// ---- Who runs next ----------------------------------------------------------------------------

// splitmix64.
uint64_t Machine::next_random() {
  uint64_t z = random += 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// From one barrier of the block to the next, a warp runs until none of its lanes can, then the next.
void Machine::begin_phase() {
  for (unsigned w = 0; w < warp_count; w++) {
    warps[w].runnable = warps[w].exist;
    warp_order[w] = uint8_t(order == Order::Reverse ? warp_count - 1 - w : w);
  }
  if (order == Order::Random)
    for (unsigned w = warp_count; w > 1; w--) std::swap(warp_order[w - 1], warp_order[next_random() % w]);
  position = 0;
}

// The thread to run now; -1 when all have ended.
int Machine::choose() {
  for (;;) {
    unsigned w = warp_order[position];
    Warp& warp = warps[w];
    if (uint32_t lanes = warp.runnable) {
      unsigned lane;
      if (order == Order::Forward) {
        lane = unsigned(__builtin_ctz(lanes));
      } else if (order == Order::Reverse) {
        lane = 31u - unsigned(__builtin_clz(lanes));
      } else {
        unsigned turn = unsigned(next_random() % WARP_LANES);
        uint32_t turned = lanes >> turn | (turn ? lanes << (32 - turn) : 0);
        lane = (unsigned(__builtin_ctz(turned)) + turn) % WARP_LANES;
      }
      warp.runnable = lanes & ~(1u << lane);
      return int(w * WARP_LANES + lane);
    }
    if (warp.arrived) diverged_warp(warp);
    if (++position < warp_count) continue;
    if (done == threads) return -1;
    if (waiting != threads) diverged_block();
    waiting = 0;
    begin_phase();
  }
}

inline void Machine::set_thread(unsigned t) {
  thread = t;
  current.thread = index[t];
}

Fiber* Machine::take_fiber() {
  if (free_fibers.empty()) {
    Fiber* fiber = new_fiber();
    if (!fiber) fail(OUT_OF_MEMORY, "out of memory: no stack for another thread");
    reset_fiber(*fiber, fiber_main);
    fibers.push_back(fiber);
    return fiber;
  }
  Fiber* fiber = free_fibers.back();
  free_fibers.pop_back();
  return fiber;
}

// A fiber runs threads from their start until one has to wait, and that one to its end; then it is
// free and waits to be taken for more.
void Machine::fiber_main() {
  fiber_entered();
  Machine& m = *current.machine;
  unsigned t = m.start;
  for (;;) {
    m.set_thread(t);
    m.fiber_of[t] = m.self;
    m.launch.kernel->body(m.launch.params);
    m.done++;
    int next = m.choose();
    if (next >= 0 && !m.fiber_of[next]) {
      t = unsigned(next);
      continue;
    }
    Fiber* me = m.self;
    m.free_fibers.push_back(me);
    if (next < 0) {
      m.self = nullptr;
      switch_fiber(*me, m.main);
    } else {
      m.set_thread(unsigned(next));
      m.self = m.fiber_of[next];
      switch_fiber(*me, *m.self);
    }
    t = m.start;
  }
}

// The running thread stops here until it is chosen again.
void Machine::wait() {
  int next = choose();  // never -1: this thread has not ended
  unsigned t = unsigned(next);
  if (t == thread) return;
  Fiber* me = self;
  if (fiber_of[t]) {
    set_thread(t);
    self = fiber_of[t];
  } else {
    start = t;
    self = take_fiber();
  }
  switch_fiber(*me, *self);
}

// ---- Barriers ---------------------------------------------------------------------------------

static bool same(Site a, Site b) {
  return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

void Machine::barrier_block(Site site) {
  if (waiting == 0) {
    barrier = site;
  } else if (!same(site, barrier)) {
    fail(LAUNCH_FAILED, format("divergent barrier: this thread waits at %s:%d, others at %s:%d",
                               site.file, site.line, barrier.file, barrier.line));
  }
  waiting++;
  wait();
}

static const char* name_of(Collective kind) {
  switch (kind) {
    case Collective::Sync: return "sync_warp";
    case Collective::Shuffle: return "warp_shuffle";
    case Collective::Mma: return "mma_m16n8k16";
  }
  return "";
}

void Machine::collective(Collective kind, Site site) {
  Warp& warp = warp_of_thread();
  if (warp.arrived == 0) {
    warp.kind = kind;
    warp.site = site;
  } else if (warp.kind != kind || !same(site, warp.site)) {
    fail(LAUNCH_FAILED,
         format("divergent barrier: this lane is in %s at %s:%d, others of its warp in %s at %s:%d",
                name_of(kind), site.file, site.line, name_of(warp.kind), warp.site.file, warp.site.line));
  }
  warp.arrived |= 1u << lane();
  if (warp.arrived == warp.exist) {
    complete(warp);
    warp.arrived = 0;
    warp.runnable = warp.exist;
  }
  wait();
}

void Machine::diverged_warp(const Warp& warp) {
  fail(LAUNCH_FAILED, format("divergent barrier: lanes %08x of %08x are in %s at %s:%d, the others have "
                             "ended or wait elsewhere",
                             warp.arrived, warp.exist, name_of(warp.kind), warp.site.file, warp.site.line));
}

void Machine::diverged_block() {
  fail(LAUNCH_FAILED, format("divergent barrier: %u of %u threads wait at %s:%d, %u have ended", waiting,
                             threads, barrier.file, barrier.line, done));
}

// ---- Shared memory ----------------------------------------------------------------------------

constexpr unsigned MAX_SITES = 4096;
static std::mutex sites_mutex;
static unsigned site_count = 0;

void* Machine::shared_array(SharedSite& site) {
  {
    std::lock_guard<std::mutex> lock(sites_mutex);
    if (site.index == 0) {
      if (site_count + 1 == MAX_SITES) abort();  // more SHARED lines than kernels could have
      __atomic_store_n(&site.index, ++site_count, __ATOMIC_RELAXED);
    }
  }
  unsigned i = site.index;
  shared_total += (site.bytes + 15) / 16 * 16;
  if (shared_total > SHARED_LIMIT)
    fail(LAUNCH_OUT_OF_RESOURCES,
         format("too much shared memory: %zu bytes with array %s, a block may have %zu", shared_total,
                site.name, SHARED_LIMIT));
  if (i >= arrays.size()) arrays.resize(i + 1);
  SharedArray& array = arrays[i];
  if (!array.memory.map && !array.memory.allocate(site.bytes))
    fail(OUT_OF_MEMORY, format("out of memory: shared array %s", site.name));
  array.memory.fill_unwritten();
  array.site = &site;
  shared_used.push_back(i);
  Kernel* kernel = const_cast<Kernel*>(launch.kernel);
  size_t total = shared_total - launch.dynamic_shared;
  if (__atomic_load_n(&kernel->shared_bytes, __ATOMIC_RELAXED) < total)
    __atomic_store_n(&kernel->shared_bytes, total, __ATOMIC_RELAXED);
  return shared_table[i] = array.memory.data;
}

// ---- Machines ---------------------------------------------------------------------------------

static std::mutex machines_mutex;
static std::vector<Machine*> idle_machines;

Machine* acquire_machine() {
  {
    std::lock_guard<std::mutex> lock(machines_mutex);
    if (!idle_machines.empty()) {
      Machine* machine = idle_machines.back();
      idle_machines.pop_back();
      return machine;
    }
  }
  Machine* machine = new Machine;
  machine->shared_table.resize(MAX_SITES);
  return machine;
}

void release_machine(Machine* machine) {
  std::lock_guard<std::mutex> lock(machines_mutex);
  idle_machines.push_back(machine);
}

}  // namespace emulator
