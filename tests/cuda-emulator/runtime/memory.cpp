#include "memory.h"

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "guarded.h"
#include "module.h"

namespace emulator {

namespace {

struct Allocation;

// The allocations of one OS thread: a launch looks only at these, so that another thread's fault is
// not laid at its door.
struct Owner {
  std::mutex mutex;
  std::set<Allocation*> allocations;
};

struct Allocation {
  GuardedBlock memory;
  std::shared_ptr<Owner> owner;
};

// Never destroyed: threads may end after static destructors have run.
std::mutex& table_mutex = *new std::mutex;
std::map<uint64_t, std::unique_ptr<Allocation>>& table = *new std::map<uint64_t, std::unique_ptr<Allocation>>;
// The last to be freed; their addresses are not used again for a while, so that a use after the free shows.
constexpr size_t MAX_FREED = 256;
std::deque<GuardedBlock>& freed = *new std::deque<GuardedBlock>;
size_t in_use = 0;

thread_local std::shared_ptr<Owner> this_owner = std::make_shared<Owner>();

uint64_t address(const void* p) { return uint64_t(uintptr_t(p)); }

// The live allocation that holds `pointer`, or null; the table's mutex is held.
const Allocation* find(uint64_t pointer) {
  auto next = table.upper_bound(pointer);
  if (next == table.begin()) return nullptr;
  const Allocation* allocation = std::prev(next)->second.get();
  return pointer - address(allocation->memory.data) < allocation->memory.bytes ? allocation : nullptr;
}

// The freed memory that holds `pointer`, or null; the table's mutex is held.
const GuardedBlock* find_freed(uint64_t pointer) {
  for (const GuardedBlock& memory : freed)
    if (pointer - address(memory.data) < memory.bytes) return &memory;
  return nullptr;
}

Result guard_fault(const GuardedBlock& memory, ptrdiff_t at, const std::string& where) {
  return report(ILLEGAL_ADDRESS, format("guard overwritten: byte %td of an allocation of %zu bytes; %s", at,
                                        memory.bytes, where.c_str()));
}

}  // namespace

Result allocate(uint64_t* pointer, size_t bytes) {
  if (!pointer || bytes == 0) return report(INVALID_VALUE, "invalid value: an allocation of 0 bytes");
  auto allocation = std::make_unique<Allocation>();
  {
    std::lock_guard<std::mutex> lock(table_mutex);
    if (bytes > TOTAL_MEMORY - in_use) return report(OUT_OF_MEMORY, format("out of memory: %zu bytes", bytes));
    in_use += bytes;
  }
  if (!allocation->memory.allocate(bytes)) {
    std::lock_guard<std::mutex> lock(table_mutex);
    in_use -= bytes;
    return report(OUT_OF_MEMORY, format("out of memory: %zu bytes", bytes));
  }
  allocation->owner = this_owner;
  *pointer = address(allocation->memory.data);
  {
    std::lock_guard<std::mutex> lock(this_owner->mutex);
    this_owner->allocations.insert(allocation.get());
  }
  std::lock_guard<std::mutex> lock(table_mutex);
  table[*pointer] = std::move(allocation);
  return SUCCESS;
}

Result release(uint64_t pointer) {
  std::unique_ptr<Allocation> allocation;
  {
    std::lock_guard<std::mutex> lock(table_mutex);
    auto found = table.find(pointer);
    if (found == table.end()) {
      const GuardedBlock* memory = find_freed(pointer);
      bool again = memory && address(memory->data) == pointer;
      const char* what = again ? "double free" : "free of what was not allocated";
      return report(INVALID_VALUE, format("%s: %#llx", what, static_cast<unsigned long long>(pointer)));
    }
    allocation = std::move(found->second);
    table.erase(found);
    in_use -= allocation->memory.bytes;
  }
  {
    std::lock_guard<std::mutex> lock(allocation->owner->mutex);
    allocation->owner->allocations.erase(allocation.get());
  }
  ptrdiff_t at = allocation->memory.overwritten();
  Result result = at ? guard_fault(allocation->memory, at, "seen when it was freed") : SUCCESS;
  allocation->memory.retire();
  std::lock_guard<std::mutex> lock(table_mutex);
  freed.push_back(allocation->memory);
  if (freed.size() > MAX_FREED) {
    freed.front().free();
    freed.pop_front();
  }
  return result;
}

size_t bytes_in_use() {
  std::lock_guard<std::mutex> lock(table_mutex);
  return in_use;
}

Result check_range(const char* call, uint64_t pointer, size_t bytes, bool write) {
  if (bytes == 0 || (!write && in_global(pointer, bytes))) return SUCCESS;
  std::lock_guard<std::mutex> lock(table_mutex);
  const Allocation* allocation = find(pointer);
  if (allocation && bytes <= allocation->memory.bytes - (pointer - address(allocation->memory.data)))
    return SUCCESS;
  return report(INVALID_VALUE, format("invalid value: %s of %zu bytes at %#llx, %s", call, bytes,
                                      static_cast<unsigned long long>(pointer),
                                      allocation ? "past the end of its allocation" : "which is in no allocation"));
}

Result check_guards(const std::string& kernel) {
  std::lock_guard<std::mutex> lock(this_owner->mutex);
  Result result = SUCCESS;
  for (Allocation* allocation : this_owner->allocations)
    if (ptrdiff_t at = allocation->memory.overwritten()) result = guard_fault(allocation->memory, at, kernel);
  return result;
}

std::string describe_address(const void* p) {
  uint64_t at = address(p);
  std::lock_guard<std::mutex> lock(table_mutex);
  auto next = table.upper_bound(at);
  if (next != table.begin()) {
    const GuardedBlock& memory = std::prev(next)->second->memory;
    if (memory.maps(p))
      return format("%llu bytes past the end of an allocation of %zu bytes",
                    static_cast<unsigned long long>(at - address(memory.data) - memory.bytes), memory.bytes);
  }
  if (next != table.end() && next->second->memory.maps(p))
    return format("%llu bytes before an allocation of %zu bytes",
                  static_cast<unsigned long long>(next->first - at), next->second->memory.bytes);
  if (const GuardedBlock* memory = find_freed(at))
    return format("in an allocation of %zu bytes that has been freed", memory->bytes);
  return {};
}

}  // namespace emulator
