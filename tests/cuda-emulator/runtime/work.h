// What an OS thread had the device do between two events, for tests of what was timed.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace emulator {

struct Work {
  uint64_t launches = 0;
  uint64_t copies = 0;     // and fills
  uint64_t different = 0;  // launches that differ in kernel or parameters, since the event before
};

void count_launch(const void* kernel, const void* params, size_t bytes);
void count_copy();

// The counts of this thread, for an event that it records now.
Work work_at_event();

// The two events whose distance this thread asks for.
void keep_work(const Work& from, const Work& to);

}  // namespace emulator
