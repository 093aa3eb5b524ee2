// Allocation, copies and fills. Copies run at the call unless their stream captures.
#include <stdlib.h>
#include <string.h>

#include <mutex>
#include <set>

#include "api.h"
#include "memory.h"
#include "stream.h"
#include "work.h"

using namespace emulator;

static void* at(CUdeviceptr pointer) { return reinterpret_cast<void*>(uintptr_t(pointer)); }

API cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) {
  if (Result bad = check_synchronous("cuMemAlloc")) return bad;
  return allocate(pointer, bytes);
}

API cuMemFree_v2(CUdeviceptr pointer) {
  if (Result bad = check_synchronous("cuMemFree")) return bad;
  return release(pointer);
}

API cuMemGetInfo_v2(size_t* free, size_t* total) {
  if (Result bad = check_context()) return bad;
  *total = TOTAL_MEMORY;
  *free = TOTAL_MEMORY - bytes_in_use();
  return SUCCESS;
}

extern "C" __attribute__((visibility("default"))) size_t emulator_bytes_in_use() { return bytes_in_use(); }

// ---- Pinned host memory -------------------------------------------------------------------------

static std::mutex& pinned_mutex = *new std::mutex;
static std::set<void*>& pinned = *new std::set<void*>;

API cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  if (Result bad = check_synchronous("cuMemHostAlloc")) return bad;
  if (bytes == 0) return report(INVALID_VALUE, "invalid value: pinned memory of 0 bytes");
  void* memory = nullptr;
  if (posix_memalign(&memory, 4096, bytes) != 0)
    return report(OUT_OF_MEMORY, format("out of memory: %zu bytes of pinned memory", bytes));
  std::lock_guard<std::mutex> lock(pinned_mutex);
  pinned.insert(*pointer = memory);
  return SUCCESS;
}

API cuMemAllocHost_v2(void** pointer, size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }

API cuMemFreeHost(void* pointer) {
  if (Result bad = check_synchronous("cuMemFreeHost")) return bad;
  std::lock_guard<std::mutex> lock(pinned_mutex);
  if (!pinned.erase(pointer)) return report(INVALID_VALUE, "invalid value: not a pointer of cuMemHostAlloc");
  free(pointer);
  return SUCCESS;
}

// ---- Copies -------------------------------------------------------------------------------------

static Result upload(const char* call, CUdeviceptr to, const void* from, size_t bytes) {
  if (Result bad = check_range(call, to, bytes, true)) return bad;
  count_copy();
  memcpy(at(to), from, bytes);
  return SUCCESS;
}

static Result download(const char* call, void* to, CUdeviceptr from, size_t bytes) {
  if (Result bad = check_range(call, from, bytes, false)) return bad;
  count_copy();
  memcpy(to, at(from), bytes);
  return SUCCESS;
}

static Result move(const char* call, CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  if (Result bad = check_range(call, to, bytes, true)) return bad;
  if (Result bad = check_range(call, from, bytes, false)) return bad;
  count_copy();
  memmove(at(to), at(from), bytes);
  return SUCCESS;
}

API cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  const char* call = "cuMemcpyHtoD";
  if (Result bad = check_synchronous(call)) return bad;
  return upload(call, to, from, bytes);
}

API cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  const char* call = "cuMemcpyDtoH";
  if (Result bad = check_synchronous(call)) return bad;
  return download(call, to, from, bytes);
}

API cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  const char* call = "cuMemcpyDtoD";
  if (Result bad = check_synchronous(call)) return bad;
  return move(call, to, from, bytes);
}

API cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, void* stream) {
  const char* call = "cuMemcpyHtoDAsync";
  return enqueue(call, stream, [=] { return upload(call, to, from, bytes); });
}

API cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, void* stream) {
  const char* call = "cuMemcpyDtoHAsync";
  return enqueue(call, stream, [=] { return download(call, to, from, bytes); });
}

API cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, void* stream) {
  const char* call = "cuMemcpyDtoDAsync";
  return enqueue(call, stream, [=] { return move(call, to, from, bytes); });
}

// ---- Fills --------------------------------------------------------------------------------------

static Result fill8(const char* call, CUdeviceptr to, unsigned char value, size_t count) {
  if (Result bad = check_range(call, to, count, true)) return bad;
  count_copy();
  memset(at(to), value, count);
  return SUCCESS;
}

static Result fill32(const char* call, CUdeviceptr to, unsigned value, size_t count) {
  if (to % 4) return report(INVALID_VALUE, "invalid value: cuMemsetD32 needs an alignment of 4");
  if (Result bad = check_range(call, to, count * 4, true)) return bad;
  count_copy();
  for (size_t i = 0; i < count; i++) static_cast<unsigned*>(at(to))[i] = value;
  return SUCCESS;
}

API cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
  if (Result bad = check_synchronous("cuMemsetD8")) return bad;
  return fill8("cuMemsetD8", to, value, count);
}

API cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, void* stream) {
  return enqueue("cuMemsetD8Async", stream, [=] { return fill8("cuMemsetD8Async", to, value, count); });
}

API cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t count) {
  if (Result bad = check_synchronous("cuMemsetD32")) return bad;
  return fill32("cuMemsetD32", to, value, count);
}

API cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, void* stream) {
  return enqueue("cuMemsetD32Async", stream, [=] { return fill32("cuMemsetD32Async", to, value, count); });
}
