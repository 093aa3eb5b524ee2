// Memory between two inaccessible pages, as far to the right as an alignment of 16 allows; what is
// left over within its pages holds a pattern that must not change.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace emulator {

struct GuardedBlock {
  char* map = nullptr;  // with both guard pages
  size_t map_bytes = 0;
  char* data = nullptr;
  size_t bytes = 0;

  bool allocate(size_t bytes);  // false when memory is out
  void free();
  void retire();  // the pages go, their addresses stay taken and inaccessible until `free`
  void fill_unwritten();  // all bits set: NaN as float and as half
  // Offset from `data` of the first changed byte beside it, or 0 when all are as they were (no byte
  // beside the data has offset 0). Puts the pattern back.
  ptrdiff_t overwritten();
  bool maps(const void* p) const { return p >= map && p < map + map_bytes; }
};

}  // namespace emulator
