// Modules are the kernel files that were linked in; functions their entry points.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../emulator.h"
#include "fault.h"

namespace emulator {

struct Function {
  Kernel* kernel;
  size_t dynamic_shared_limit;
};

// SUCCESS if `function` is of a module that is loaded.
Result check_function(const Function* function);
// Whether the range lies in a module's global.
bool in_global(uint64_t pointer, size_t bytes);
// Most blocks of the function that fit on a multiprocessor.
int blocks_that_fit(const Function& function, int block_threads, size_t dynamic_shared);

}  // namespace emulator
