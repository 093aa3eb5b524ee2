// From a kernel's bad access to a fault with a name.
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "machine.h"
#include "memory.h"

namespace emulator {

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
static struct sigaction earlier[65];

// 1 write, 0 read, -1 unknown.
static int is_write(int signal, const void* context) {
#if defined(__x86_64__) && defined(__linux__)
  if (signal == SIGSEGV)
    return int(static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] >> 1 & 1);
#endif
  (void)signal, (void)context;
  return -1;
}

static void on_signal(int signal, siginfo_t* info, void* context) {
  // Positive codes come from the hardware, others from kill and such.
  if (current.machine && info->si_code > 0)
    current.machine->signalled(signal, info->si_code, info->si_addr, is_write(signal, context));
  const struct sigaction& old = earlier[signal];
  if (old.sa_flags & SA_SIGINFO) {
    old.sa_sigaction(signal, info, context);
  } else if (old.sa_handler == SIG_DFL) {
    sigaction(signal, &old, nullptr);  // the instruction runs again and ends the process
    if (info->si_code <= 0) raise(signal);
  } else if (old.sa_handler != SIG_IGN) {
    old.sa_handler(signal);
  }
}

void install_signal_handlers() {
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  // NODEFER: the handler is left by a jump that restores no mask.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  for (int signal : SIGNALS) sigaction(signal, &action, &earlier[signal]);
}

void Machine::signalled(int signal, int code, const void* address, int write) {
  trap.signal = signal;
  trap.code = code;
  trap.address = address;
  trap.write = write;
  siglongjmp(recover, 1);
}

Fault Machine::describe_signal() const {
  const char* access = trap.write == 1 ? "write" : trap.write == 0 ? "read" : "access";
  std::string where = place();
  if (trap.signal == SIGFPE)
    return {LAUNCH_FAILED, "division by zero: an integer one; " + where};
  if (trap.signal == SIGILL || trap.signal == SIGTRAP)
    return {MISALIGNED_ADDRESS, "misaligned address: or a trap of the compiler's; " + where};
  for (const SharedArray& array : arrays) {
    if (!array.memory.map || !array.memory.maps(trap.address)) continue;
    ptrdiff_t at = static_cast<const char*>(trap.address) - array.memory.data;
    return {ILLEGAL_ADDRESS, format("out-of-bounds shared access: %s of byte %td of array %s, which has %zu; %s",
                                    access, at, array.site->name, array.memory.bytes, where.c_str())};
  }
  // A stack may lie right above an allocation, whose pages are no stack's.
  std::string beside = describe_address(trap.address);
  for (const Fiber* fiber : fibers) {
    if (!beside.empty()) break;
    const char* address = static_cast<const char*>(trap.address);
    if (address < fiber->low && address >= fiber->low - 65536)
      return {HARDWARE_STACK_ERROR, format("stack overflow: the thread's local variables exceed %zu bytes; %s",
                                           fiber->bytes, where.c_str())};
  }
#ifdef __x86_64__
  // The processor gives no address for a vector access that is not aligned, nor for addresses
  // that cannot be.
  if (trap.signal == SIGSEGV && trap.code == SI_KERNEL)
    return {MISALIGNED_ADDRESS, "misaligned address: or one that cannot exist; " + where};
#endif
  return {ILLEGAL_ADDRESS, format("out-of-bounds global read or write: %s at %p, %s; %s", access, trap.address,
                                  beside.empty() ? "in no allocation" : beside.c_str(), where.c_str())};
}

std::string Machine::place() const {
  const Kernel& k = *launch.kernel;
  Index b = current.block, t = index[thread];
  return format("kernel %s/%s, block (%u, %u, %u), thread (%u, %u, %u)", k.module, k.name, b.x, b.y, b.z,
                t.x, t.y, t.z);
}

void Machine::fail(Result code, std::string details) {
  fault.code = code;
  fault.text = std::move(details);
  fault.text += "; ";
  fault.text += place();
  siglongjmp(recover, 1);
}

}  // namespace emulator
