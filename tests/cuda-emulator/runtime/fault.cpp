#include "fault.h"

#include <stdarg.h>
#include <stdio.h>

#include <vector>

namespace emulator {

static thread_local std::string last;

std::string format(const char* pattern, ...) {
  va_list args, again;
  va_start(args, pattern);
  va_copy(again, args);
  std::vector<char> text(size_t(vsnprintf(nullptr, 0, pattern, args)) + 1);
  vsnprintf(text.data(), text.size(), pattern, again);
  va_end(again);
  va_end(args);
  return text.data();
}

Result report(const Fault& fault) {
  last = fault.text;
  return fault.code;
}

Result report(Result code, std::string text) { return report({code, std::move(text)}); }

void clear_fault() { last.clear(); }

}  // namespace emulator

extern "C" __attribute__((visibility("default"))) const char* emulator_last_fault() {
  return emulator::last.c_str();
}
