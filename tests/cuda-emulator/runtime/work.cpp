// Counts of launches and copies.
#include "work.h"

#include <set>
#include <string>

namespace emulator {

namespace {

thread_local Work so_far;
thread_local std::set<std::string> seen;  // launches since the last event
thread_local Work kept;

}  // namespace

void count_launch(const void* kernel, const void* params, size_t bytes) {
  so_far.launches++;
  std::string launch(reinterpret_cast<const char*>(&kernel), sizeof kernel);
  launch.append(static_cast<const char*>(params), bytes);
  seen.insert(std::move(launch));
}

void count_copy() { so_far.copies++; }

Work work_at_event() {
  so_far.different = seen.size();
  seen.clear();
  return so_far;
}

void keep_work(const Work& from, const Work& to) {
  kept.launches = to.launches - from.launches;
  kept.copies = to.copies - from.copies;
  kept.different = to.different;
}

}  // namespace emulator

extern "C" __attribute__((visibility("default"))) void emulator_work_between_events(uint64_t* counts) {
  const emulator::Work& kept = emulator::kept;
  counts[0] = kept.launches;
  counts[1] = kept.different;
  counts[2] = kept.copies;
}
