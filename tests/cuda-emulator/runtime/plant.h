// What tests have the driver say or do wrong, by variables that are read once, while the library is loaded,
// when no other thread changes the environment; and what it counts for them.
#pragma once

#include <atomic>

#include "fault.h"

namespace emulator {

constexpr int MOST_CARDS = 8;

// HAFUSE_EMULATED_CARDS: how many there are; 1 without it.
int cards();
// HAFUSE_EMULATED_LOST: the card that answers nothing, as one that has fallen off the bus; -1 without it.
int lost_card();
// HAFUSE_EMULATED_VERSION=10.2: the driver's, as cuDriverGetVersion has it; 13000 without it.
int driver_version();

// HAFUSE_EMULATED_FAIL=cuStreamCreate@3:2: the third call of that name returns code 2, all of them without @3.
// SUCCESS if nothing is planted here. A code of a kernel's fault stays: see `sticky`.
Result planted(const char* call);
// What every call that needs the context returns after such a code.
Result sticky();

// HAFUSE_EMULATED_COUNTS names a file to write these to when the process ends.
struct Counts {
  std::atomic<int> contexts{0}, streams{0};  // that are held
  std::atomic<int> context_flags{-1};        // that were set last
  std::atomic<int> timed_events{0}, blocking_events{0};  // that were made
};
extern Counts counts;

}  // namespace emulator
