// Streams, and what they record while they capture a graph.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "fault.h"

namespace emulator {

struct Graph {
  std::vector<std::function<Result()>> steps;
};

enum class Capture { None, Active, Invalidated };
enum class CaptureMode { Global = 0, ThreadLocal = 1, Relaxed = 2 };

struct Stream {
  bool blocking = true;  // joins with the null stream
  Capture capture = Capture::None;
  CaptureMode mode = CaptureMode::Global;
  std::thread::id thread;  // that began the capture
  std::unique_ptr<Graph> graph;
};

// The driver was initialised and a context is current and sound; what every call but a few needs. A fault may be
// planted for the call; none has an empty name.
Result check_context(const char* call = __builtin_FUNCTION());
// The same, and no capture forbids a call that may synchronise; a capture that does is spoilt.
Result check_synchronous(const char* call);

// Where work on `handle` goes: run it now (*record stays null) or append it to *record's steps.
Result enter_stream(const char* call, void* handle, Graph** record);

template <class Step>
Result enqueue(const char* call, void* handle, Step step) {
  Graph* record = nullptr;
  if (Result bad = enter_stream(call, handle, &record)) return bad;
  if (!record) return step();
  record->steps.push_back(std::move(step));
  return SUCCESS;
}

}  // namespace emulator
