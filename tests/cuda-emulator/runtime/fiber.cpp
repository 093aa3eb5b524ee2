#include "fiber.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef EMULATOR_SANITIZED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves what a callee must keep, then takes up the other stack where it last did the same.
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch, @function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch, .-emulator_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch, %function
emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emulator_switch, .-emulator_switch
)");
#endif

#if defined(__x86_64__) || defined(__aarch64__)
extern "C" void emulator_switch(void** save, void* load);
#endif

namespace emulator {

#ifdef EMULATOR_SANITIZED
constexpr size_t STACK = 512 * 1024;
#else
constexpr size_t STACK = 64 * 1024;
#endif

Fiber* new_fiber() {
  size_t page = size_t(sysconf(_SC_PAGESIZE));
  void* map = mmap(nullptr, STACK + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  char* low = static_cast<char*>(map) + page;
  if (mprotect(low, STACK, PROT_READ | PROT_WRITE) != 0) {
    munmap(map, STACK + page);
    return nullptr;
  }
  Fiber* fiber = new Fiber;
  fiber->low = low;
  fiber->bytes = STACK;
  return fiber;
}

void reset_fiber(Fiber& fiber, void (*entry)()) {
#ifdef EMULATOR_SANITIZED
  __asan_unpoison_memory_region(fiber.low, fiber.bytes);
#endif
  fiber.fake_stack = nullptr;
  // Stacks lie at equal offsets of a page: without a shift of their own their tops would compete
  // for the same few lines of the first cache.
  size_t shift = (uintptr_t(&fiber) / 64 % 31) * 128;
  char* top = fiber.low + fiber.bytes - shift;
  void** frame = reinterpret_cast<void**>(uintptr_t(top) & ~uintptr_t(15));
#if defined(__x86_64__)
  frame[-1] = nullptr;  // where entry's return address would be
  frame[-2] = reinterpret_cast<void*>(entry);
  for (int i = 3; i <= 8; i++) frame[-i] = nullptr;
  fiber.sp = frame - 8;
#elif defined(__aarch64__)
  frame -= 20;
  for (int i = 0; i < 20; i++) frame[i] = nullptr;
  frame[11] = reinterpret_cast<void*>(entry);  // x30
  fiber.sp = frame;
#else
  (void)frame;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.low;
  fiber.context.uc_stack.ss_size = fiber.bytes - shift;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#endif
}

void switch_fiber(Fiber& from, Fiber& to) {
#ifdef EMULATOR_SANITIZED
  __sanitizer_start_switch_fiber(&from.fake_stack, to.low, to.bytes);
#endif
#if defined(__x86_64__) || defined(__aarch64__)
  emulator_switch(&from.sp, to.sp);
#else
  swapcontext(&from.context, &to.context);
#endif
#ifdef EMULATOR_SANITIZED
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void fiber_entered() {
#ifdef EMULATOR_SANITIZED
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void adopt_thread(Fiber& fiber) {
  fiber.fake_stack = nullptr;
#ifdef EMULATOR_SANITIZED
  pthread_attr_t attributes;
  void* low = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &low, &fiber.bytes);
  pthread_attr_destroy(&attributes);
  fiber.low = static_cast<char*>(low);
#endif
}

void fiber_landed(Fiber& fiber) {
#ifdef EMULATOR_SANITIZED
  void* left = nullptr;
  __sanitizer_start_switch_fiber(&left, fiber.low, fiber.bytes);
  __sanitizer_finish_switch_fiber(fiber.fake_stack, nullptr, nullptr);
#endif
  (void)fiber;
}

}  // namespace emulator
