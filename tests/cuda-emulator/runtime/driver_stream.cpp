// Streams, events and graphs. All work runs at its call, so that to wait is to return.
#include <time.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "api.h"
#include "plant.h"
#include "stream.h"
#include "work.h"

namespace emulator {

namespace {

struct Event {
  bool timing = true;
  bool recorded = false;
  bool captured = false;  // last recorded in a capture
  uint64_t nanoseconds = 0;
  Work work;
};

// One mutex for all handles; it is not held while work runs.
std::mutex& mutex = *new std::mutex;
template <class T>
using Handles = std::map<const void*, std::unique_ptr<T>>;
Handles<Stream>& streams = *new Handles<Stream>;
Handles<Event>& events = *new Handles<Event>;
Handles<Graph>& graphs = *new Handles<Graph>;
struct Executable {
  std::vector<std::function<Result()>> steps;
};
Handles<Executable>& executables = *new Handles<Executable>;
unsigned capturing = 0;  // streams

template <class T>
T* find(const Handles<T>& handles, const void* handle) {
  auto found = handles.find(handle);
  return found == handles.end() ? nullptr : found->second.get();
}

template <class T>
T* add(Handles<T>& handles, std::unique_ptr<T> object) {
  T* handle = object.get();
  handles[handle] = std::move(object);
  return handle;
}

template <class T>
Result destroy(const char* call, Handles<T>& handles, const void* handle) {
  if (Result bad = check_context(call)) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  return handles.erase(handle) ? SUCCESS : report(INVALID_HANDLE, format("invalid handle: %s", call));
}

// The null stream, and the constants that stand for it and for its per-thread twin.
bool is_default(const void* handle) { return uintptr_t(handle) <= 2; }

Result forbidden(const char* call, Result code, Stream& stream) {
  stream.capture = Capture::Invalidated;
  return report(code, format("capture: %s is not permitted while a stream captures", call));
}

uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return uint64_t(t.tv_sec) * 1000000000 + uint64_t(t.tv_nsec);
}

}  // namespace

Result check_synchronous(const char* call) {
  if (Result bad = check_context(call)) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  if (!capturing) return SUCCESS;
  for (auto& entry : streams) {
    Stream& s = *entry.second;
    if (s.capture == Capture::None || s.mode == CaptureMode::Relaxed) continue;
    // A thread-local capture forbids such calls in its own thread, a global one in all.
    if (s.mode == CaptureMode::ThreadLocal && s.thread != std::this_thread::get_id()) continue;
    return forbidden(call, STREAM_CAPTURE_UNSUPPORTED, s);
  }
  return SUCCESS;
}

Result enter_stream(const char* call, void* handle, Graph** record) {
  if (Result bad = check_context(call)) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  if (is_default(handle)) {
    if (!capturing) return SUCCESS;
    // The null stream would wait for every blocking stream.
    for (auto& entry : streams)
      if (entry.second->capture != Capture::None && entry.second->blocking)
        return forbidden(call, STREAM_CAPTURE_IMPLICIT, *entry.second);
    return SUCCESS;
  }
  Stream* stream = find(streams, handle);
  if (!stream) return report(INVALID_HANDLE, format("invalid handle: stream of %s", call));
  if (stream->capture == Capture::Invalidated)
    return report(STREAM_CAPTURE_INVALIDATED, format("capture: %s after the capture was invalidated", call));
  if (stream->capture == Capture::Active) *record = stream->graph.get();
  return SUCCESS;
}

}  // namespace emulator

using namespace emulator;

// ---- Streams ------------------------------------------------------------------------------------

API cuStreamCreate(void** handle, unsigned flags) {
  if (Result bad = check_context()) return bad;
  auto stream = std::make_unique<Stream>();
  stream->blocking = !(flags & 1);  // CU_STREAM_NON_BLOCKING
  std::lock_guard<std::mutex> lock(mutex);
  *handle = add(streams, std::move(stream));
  counts.streams++;
  return SUCCESS;
}

API cuStreamCreateWithPriority(void** handle, unsigned flags, int) { return cuStreamCreate(handle, flags); }

API cuStreamDestroy_v2(void* handle) {
  if (Result bad = check_context()) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  Stream* stream = find(streams, handle);
  if (!stream) return report(INVALID_HANDLE, "invalid handle: cuStreamDestroy");
  if (stream->capture != Capture::None) capturing--;
  streams.erase(handle);
  counts.streams--;
  return SUCCESS;
}

// Waiting for a stream that captures is an error in every mode.
static Result wait_for(const char* call, void* handle) {
  if (is_default(handle)) return check_synchronous(call);
  if (Result bad = check_context(call)) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  Stream* stream = find(streams, handle);
  if (!stream) return report(INVALID_HANDLE, format("invalid handle: %s", call));
  return stream->capture == Capture::None ? SUCCESS : forbidden(call, STREAM_CAPTURE_UNSUPPORTED, *stream);
}

API cuStreamSynchronize(void* handle) { return wait_for("cuStreamSynchronize", handle); }

API cuStreamQuery(void* handle) { return wait_for("cuStreamQuery", handle); }

API cuStreamWaitEvent(void* handle, void* event_handle, unsigned) {
  if (Result bad = check_context()) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  Event* event = find(events, event_handle);
  Stream* stream = find(streams, handle);
  if (!event || (!stream && !is_default(handle))) return report(INVALID_HANDLE, "invalid handle: cuStreamWaitEvent");
  bool captures = stream && stream->capture != Capture::None;
  if (captures && !event->captured && event->recorded)
    return forbidden("cuStreamWaitEvent for an event from outside", STREAM_CAPTURE_ISOLATION, *stream);
  if (!captures && event->captured)
    return report(STREAM_CAPTURE_UNSUPPORTED, "capture: a second stream in a capture is not emulated");
  return SUCCESS;
}

// ---- Capture ------------------------------------------------------------------------------------

API cuStreamBeginCapture_v2(void* handle, int mode) {
  if (Result bad = check_context()) return bad;
  if (mode < 0 || mode > 2) return report(INVALID_VALUE, "invalid value: capture mode");
  if (is_default(handle)) return report(STREAM_CAPTURE_UNSUPPORTED, "capture: the null stream cannot capture");
  std::lock_guard<std::mutex> lock(mutex);
  Stream* stream = find(streams, handle);
  if (!stream) return report(INVALID_HANDLE, "invalid handle: cuStreamBeginCapture");
  if (stream->capture != Capture::None) return report(ILLEGAL_STATE, "capture: the stream captures already");
  stream->capture = Capture::Active;
  stream->mode = CaptureMode(mode);
  stream->thread = std::this_thread::get_id();
  stream->graph = std::make_unique<Graph>();
  capturing++;
  return SUCCESS;
}

API cuStreamEndCapture(void* handle, void** graph) {
  *graph = nullptr;
  if (Result bad = check_context()) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  Stream* stream = find(streams, handle);
  if (!stream) return report(INVALID_HANDLE, "invalid handle: cuStreamEndCapture");
  if (stream->capture == Capture::None) return report(ILLEGAL_STATE, "capture: the stream does not capture");
  if (stream->mode != CaptureMode::Relaxed && stream->thread != std::this_thread::get_id())
    return report(STREAM_CAPTURE_WRONG_THREAD, "capture: ended by another thread than began it");
  bool whole = stream->capture == Capture::Active;
  stream->capture = Capture::None;
  capturing--;
  std::unique_ptr<Graph> captured = std::move(stream->graph);
  if (!whole) return report(STREAM_CAPTURE_INVALIDATED, "capture: an earlier call has invalidated it");
  *graph = add(graphs, std::move(captured));
  return SUCCESS;
}

API cuStreamIsCapturing(void* handle, int* status) {
  if (Result bad = check_context()) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  Stream* stream = find(streams, handle);
  if (!stream && !is_default(handle)) return report(INVALID_HANDLE, "invalid handle: cuStreamIsCapturing");
  *status = stream ? int(stream->capture) : 0;
  return SUCCESS;
}

API cuGraphInstantiateWithFlags(void** executable, void* graph_handle, unsigned long long) {
  if (Result bad = check_context()) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  Graph* graph = find(graphs, graph_handle);
  if (!graph) return report(INVALID_HANDLE, "invalid handle: cuGraphInstantiate");
  *executable = add(executables, std::unique_ptr<Executable>(new Executable{graph->steps}));
  return SUCCESS;
}

API cuGraphDestroy(void* graph) { return destroy("cuGraphDestroy", graphs, graph); }

API cuGraphExecDestroy(void* executable) { return destroy("cuGraphExecDestroy", executables, executable); }

API cuGraphUpload(void* handle, void*) {
  if (Result bad = check_context()) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  return find(executables, handle) ? SUCCESS : report(INVALID_HANDLE, "invalid handle: cuGraphUpload");
}

API cuGraphLaunch(void* handle, void* stream) {
  Graph* record = nullptr;
  if (Result bad = enter_stream("cuGraphLaunch", stream, &record)) return bad;
  if (record) return report(STREAM_CAPTURE_UNSUPPORTED, "capture: a graph within a graph is not emulated");
  Executable* executable;
  {
    std::lock_guard<std::mutex> lock(mutex);
    executable = find(executables, handle);
  }
  if (!executable) return report(INVALID_HANDLE, "invalid handle: cuGraphLaunch");
  for (const auto& step : executable->steps)
    if (Result bad = step()) return bad;
  return SUCCESS;
}

// ---- Events -------------------------------------------------------------------------------------

API cuEventCreate(void** handle, unsigned flags) {
  if (Result bad = check_context()) return bad;
  auto event = std::make_unique<Event>();
  event->timing = !(flags & 2);  // CU_EVENT_DISABLE_TIMING
  counts.timed_events += event->timing;
  counts.blocking_events += flags & 1;  // CU_EVENT_BLOCKING_SYNC
  std::lock_guard<std::mutex> lock(mutex);
  *handle = add(events, std::move(event));
  return SUCCESS;
}

API cuEventDestroy_v2(void* handle) { return destroy("cuEventDestroy", events, handle); }

API cuEventRecord(void* handle, void* stream) {
  Graph* record = nullptr;
  if (Result bad = enter_stream("cuEventRecord", stream, &record)) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  Event* event = find(events, handle);
  if (!event) return report(INVALID_HANDLE, "invalid handle: cuEventRecord");
  event->captured = record != nullptr;  // then it only orders work within the graph
  event->recorded = true;
  event->nanoseconds = now();
  if (!record) event->work = work_at_event();
  return SUCCESS;
}

static Result check_event(const char* call, void* handle, Event** found) {
  if (Result bad = check_context(call)) return bad;
  std::lock_guard<std::mutex> lock(mutex);
  *found = find(events, handle);
  if (!*found) return report(INVALID_HANDLE, format("invalid handle: %s", call));
  if ((*found)->captured) return report(CAPTURED_EVENT, format("capture: %s of an event that was captured", call));
  return SUCCESS;
}

API cuEventQuery(void* handle) {
  Event* event;
  return check_event("cuEventQuery", handle, &event);
}

API cuEventSynchronize(void* handle) {
  Event* event;
  return check_event("cuEventSynchronize", handle, &event);
}

API cuEventElapsedTime(float* milliseconds, void* from_handle, void* to_handle) {
  Event *from, *to;
  if (Result bad = check_event("cuEventElapsedTime", from_handle, &from)) return bad;
  if (Result bad = check_event("cuEventElapsedTime", to_handle, &to)) return bad;
  if (!from->timing || !to->timing || !from->recorded || !to->recorded)
    return report(INVALID_HANDLE, "invalid handle: an event without timing or not recorded");
  keep_work(from->work, to->work);
  *milliseconds = float(double(int64_t(to->nanoseconds - from->nanoseconds)) * 1e-6);
  return SUCCESS;
}
