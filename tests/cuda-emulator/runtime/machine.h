// Runs one launch at a time: its blocks one after another, the threads of a block as fibers.
#pragma once

#include <setjmp.h>
#include <stdint.h>

#include <vector>

#include "../emulator.h"
#include "fault.h"
#include "fiber.h"
#include "guarded.h"

namespace emulator {

constexpr unsigned MAX_THREADS = 1024;
constexpr unsigned WARP_LANES = 32;
constexpr unsigned MAX_WARPS = MAX_THREADS / WARP_LANES;
constexpr size_t SHARED_LIMIT = 48 * 1024;

enum class Order { Forward, Reverse, Random };

struct Launch {
  const Kernel* kernel;
  Index grid, block;
  size_t dynamic_shared;
  const void* params;  // aligned to 16
};

struct Site {
  const char* file;
  int line;
};

enum class Collective { Sync, Shuffle, Mma };

struct Warp {
  uint32_t exist;     // lanes below blockDim
  uint32_t runnable;  // lanes that may run
  uint32_t arrived;   // lanes that wait at a collective
  Collective kind;
  Site site;
  uint8_t source[WARP_LANES];
  float value[WARP_LANES];
  float result[WARP_LANES];
  float* d[WARP_LANES];
  const unsigned* a[WARP_LANES];
  const unsigned* b[WARP_LANES];
};

// Copies that a thread has started and not yet waited for.
struct AsyncQueue {
  struct Copy {
    void* shared;
    const void* global;
    bool valid;
  };
  std::vector<Copy> copies;
  std::vector<size_t> groups;  // end of each committed group in `copies`
};

struct SharedArray {
  GuardedBlock memory;
  SharedSite* site = nullptr;
};

struct Machine {
  // Runs the launch; SUCCESS or the fault that ended it, which is then in `fault`.
  Result run(const Launch& launch, Order order, uint64_t seed);

  // Ends the launch from inside a kernel.
  [[noreturn]] void fail(Result code, std::string name_and_details);
  // "kernel m/k, block (x,y,z), thread (x,y,z)" of the running thread.
  std::string place() const;

  // Called by kernels.
  void* shared_array(SharedSite& site);
  void barrier_block(Site site);
  void collective(Collective kind, Site site);  // this lane's operands are in its warp
  unsigned lane() const { return thread % WARP_LANES; }
  Warp& warp_of_thread() { return warps[thread / WARP_LANES]; }
  AsyncQueue& queue() {
    async_used = true;
    return async[thread];
  }
  bool coin() { return order == Order::Random && (next_random() & 1); }

  // Called by the signal handler: keeps the signal and leaves the kernel.
  [[noreturn]] void signalled(int signal, int code, const void* address, int write);

  Fault fault;
  std::vector<SharedArray> arrays;  // by SharedSite::index; kept from launch to launch
  unsigned thread = 0;              // linear index of the running thread in its block

 private:
  static void fiber_main();
  void run_blocks();
  void run_block(Index block);
  void begin_phase();
  int choose();
  void wait();
  void set_thread(unsigned t);
  Fiber* take_fiber();
  void complete(Warp& warp);
  void prepare_block_shape();
  void end_launch();
  void restart_fibers();
  void clear_queues();
  Fault describe_signal() const;
  [[noreturn]] void diverged_warp(const Warp& warp);
  [[noreturn]] void diverged_block();
  uint64_t next_random();

  Launch launch{};
  Order order = Order::Forward;
  uint64_t random = 0;
  uint64_t seed = 0;

  unsigned threads = 0;
  unsigned warp_count = 0;
  Index shape{0, 0, 0};  // of `index`
  Index index[MAX_THREADS];
  Warp warps[MAX_WARPS];
  uint8_t warp_order[MAX_WARPS];
  unsigned position = 0;  // in warp_order
  unsigned done = 0, waiting = 0;
  Site barrier{};

  const Current* home = nullptr;  // `current` of the OS thread that ran the last launch
  Fiber main;
  Fiber* self = nullptr;        // the fiber that runs
  Fiber* fiber_of[MAX_THREADS]; // of each thread that has started
  std::vector<Fiber*> fibers, free_fibers;
  unsigned start = 0;           // thread that a free fiber shall begin with

  bool async_used = false;
  AsyncQueue async[MAX_THREADS];

  std::vector<void*> shared_table;    // data by SharedSite::index, null unless of this launch
  std::vector<unsigned> shared_used;  // indices of this launch
  size_t shared_total = 0;

  sigjmp_buf recover;
  struct {
    int signal, code, write;
    const void* address;
  } trap{};

  friend Machine* acquire_machine();
};

// A machine for the calling OS thread, to be given back after the launch.
Machine* acquire_machine();
void release_machine(Machine* machine);

// Handlers for what a kernel's bad access raises; outside kernels the earlier handlers act.
void install_signal_handlers();

// Compute capability as 10 * major + minor.
int compute_capability();

}  // namespace emulator
