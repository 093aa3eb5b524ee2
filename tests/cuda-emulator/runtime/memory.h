// Device memory: one guarded block for each allocation.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <string>

#include "fault.h"

namespace emulator {

constexpr size_t TOTAL_MEMORY = size_t(8) << 30;

Result allocate(uint64_t* pointer, size_t bytes);
Result release(uint64_t pointer);
size_t bytes_in_use();

// SUCCESS if [pointer, pointer + bytes) lies in one live allocation or, to read, a module's global.
Result check_range(const char* call, uint64_t pointer, size_t bytes, bool write);
// Looks at what lies beside the allocations that the calling OS thread made.
Result check_guards(const std::string& kernel);
// "12 bytes past an allocation of 1024 bytes", for an address that faulted; empty for one beside none.
std::string describe_address(const void* address);

}  // namespace emulator
