// A stack of its own for each emulated thread that waits, and the switch between two of them.
#pragma once

#include <stddef.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define EMULATOR_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATOR_SANITIZED 1
#endif
#endif

namespace emulator {

struct Fiber {
#if defined(__x86_64__) || defined(__aarch64__)
  void* sp = nullptr;
#else
  ucontext_t context;
#endif
  char* low = nullptr;  // the stack, above its guard page
  size_t bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

// Stacks live as long as the process: a machine that is done hands them to the next.
Fiber* new_fiber();  // null when memory is out
// Makes `fiber` begin at `entry`, which must not return, when it is next switched to.
void reset_fiber(Fiber& fiber, void (*entry)());
void switch_fiber(Fiber& from, Fiber& to);
// First thing in `entry`.
void fiber_entered();
// The calling OS thread's own stack as a fiber that others may switch to.
void adopt_thread(Fiber& fiber);
// On `fiber`, after a longjmp that left another fiber's stack.
void fiber_landed(Fiber& fiber);

}  // namespace emulator
