#include "guarded.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fiber.h"
#ifdef EMULATOR_SANITIZED
#include <sanitizer/asan_interface.h>
#endif

namespace emulator {

// A NaN as float and as half, so that a read of it shows; not the NaN of fill_unwritten, so that a
// kernel that writes NaNs shows too.
constexpr uint64_t PATTERN = 0x7FA57FA57FA57FA5;

static size_t page_bytes() {
  static const size_t bytes = size_t(sysconf(_SC_PAGESIZE));
  return bytes;
}

static char pattern_at(const char* p) {
  return char(PATTERN >> (uintptr_t(p) % 8 * 8));
}

static void fill_pattern(char* from, char* to) {
  while (from < to && uintptr_t(from) % 8) *from = pattern_at(from), from++;
  for (; to - from >= 8; from += 8) memcpy(from, &PATTERN, 8);
  while (from < to) *from = pattern_at(from), from++;
}

// First byte in [from, to) that differs from the pattern, or null.
static char* find_change(char* from, char* to) {
  char* p = from;
  for (; p < to && uintptr_t(p) % 8; p++)
    if (*p != pattern_at(p)) return p;
  for (; to - p >= 64; p += 64) {
    uint64_t words[8], difference = 0;
    memcpy(words, p, 64);
    for (uint64_t word : words) difference |= word ^ PATTERN;
    if (difference) break;
  }
  for (; p < to; p++)
    if (*p != pattern_at(p)) return p;
  return nullptr;
}

bool GuardedBlock::allocate(size_t size) {
  size_t page = page_bytes();
  size_t used = (size + 15) / 16 * 16;
  size_t inner = (used + page - 1) / page * page;
  if (inner < size) return false;
  void* p = mmap(nullptr, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return false;
  map = static_cast<char*>(p);
  map_bytes = inner + 2 * page;
  if (mprotect(map + page, inner, PROT_READ | PROT_WRITE) != 0) {
    free();
    return false;
  }
  data = map + page + inner - used;
  bytes = size;
#ifdef EMULATOR_SANITIZED
  // The sanitizer reports a bad access at once, so there is nothing to look for afterwards.
  __asan_poison_memory_region(map + page, size_t(data - map) - page);
  __asan_poison_memory_region(data + bytes, used - bytes);
#else
  fill_pattern(map + page, data);
  fill_pattern(data + bytes, data + used);
#endif
  fill_unwritten();
  return true;
}

void GuardedBlock::free() {
#ifdef EMULATOR_SANITIZED
  __asan_unpoison_memory_region(map, map_bytes);
#endif
  munmap(map, map_bytes);
  *this = {};
}

void GuardedBlock::retire() {
  mmap(map, map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

void GuardedBlock::fill_unwritten() { memset(data, 0xFF, bytes); }

ptrdiff_t GuardedBlock::overwritten() {
#ifdef EMULATOR_SANITIZED
  return 0;
#else
  char* first = map + page_bytes();
  char* end = map + map_bytes - page_bytes();
  char* changed = find_change(first, data);
  if (!changed) changed = find_change(data + bytes, end);
  if (!changed) return 0;
  fill_pattern(first, data);
  fill_pattern(data + bytes, end);
  return changed - data;
#endif
}

}  // namespace emulator
