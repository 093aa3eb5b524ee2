// Start-up, the cards, their contexts, and the names of errors.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>

#include "api.h"
#include "machine.h"
#include "memory.h"
#include "plant.h"
#include "stream.h"

namespace emulator {

static std::atomic<bool> initialised{false};
// The primary context of each card, with how often it is held; its address is the handle.
static std::atomic<int> contexts[MOST_CARDS];
static thread_local std::atomic<int>* bound_context = nullptr;

// Read once, while the library is loaded, when no other thread changes the environment.
static const int capability = [] {
  int major = 8, minor = 0;
  const char* text = getenv("HAFUSE_EMULATED_CC");
  if (text && sscanf(text, "%d.%d", &major, &minor) != 2) major = 8, minor = 0;
  return major * 10 + minor;
}();

static const int multiprocessors = [] {
  int count = 4;
  const char* text = getenv("HAFUSE_EMULATED_SMS");
  if (text && (sscanf(text, "%d", &count) != 1 || count < 1)) count = 4;
  return count;
}();

int compute_capability() { return capability; }

static Result check_initialised(const char* call) {
  if (!initialised) return report(NOT_INITIALIZED, "not initialised: cuInit was not called");
  return planted(call);
}

Result check_context(const char* call) {
  if (Result bad = check_initialised(call)) return bad;
  if (!bound_context || *bound_context == 0)
    return report(INVALID_CONTEXT, "invalid context: none is current on this thread");
  return sticky();
}

static Result check_device(int device, const char* call = __builtin_FUNCTION()) {
  if (Result bad = check_initialised(call)) return bad;
  if (device < 0 || device >= cards()) return report(INVALID_DEVICE, format("invalid device: %d", device));
  return device == lost_card() ? report(UNKNOWN, format("lost: card %d", device)) : SUCCESS;
}

// By CUdevice_attribute.
static int attribute(int which) {
  switch (which) {
    case 1: return int(MAX_THREADS);           // MAX_THREADS_PER_BLOCK
    case 2: case 3: return 1024;               // MAX_BLOCK_DIM_X, _Y
    case 4: return 64;                         // MAX_BLOCK_DIM_Z
    case 5: return 2147483647;                 // MAX_GRID_DIM_X
    case 6: case 7: return 65535;              // MAX_GRID_DIM_Y, _Z
    case 8: return int(SHARED_LIMIT);          // MAX_SHARED_MEMORY_PER_BLOCK
    case 9: return 65536;                      // TOTAL_CONSTANT_MEMORY
    case 10: return int(WARP_LANES);           // WARP_SIZE
    case 11: return 2147483647;                // MAX_PITCH
    case 12: return 65536;                     // MAX_REGISTERS_PER_BLOCK
    case 13: return 1410000;                   // CLOCK_RATE, kHz
    case 14: return 512;                       // TEXTURE_ALIGNMENT
    case 15: return 1;                         // GPU_OVERLAP
    case 16: return multiprocessors;           // MULTIPROCESSOR_COUNT
    case 19: return 1;                         // CAN_MAP_HOST_MEMORY
    case 31: return 1;                         // CONCURRENT_KERNELS
    case 36: return 5001000;                   // MEMORY_CLOCK_RATE, kHz
    case 37: return 256;                       // GLOBAL_MEMORY_BUS_WIDTH, bits
    case 38: return 64 << 10;                  // L2_CACHE_SIZE; small, so that few copies exceed it
    case 39: return 2048;                      // MAX_THREADS_PER_MULTIPROCESSOR
    case 40: return 1;                         // ASYNC_ENGINE_COUNT
    case 41: return 1;                         // UNIFIED_ADDRESSING
    case 75: return capability / 10;           // COMPUTE_CAPABILITY_MAJOR
    case 76: return capability % 10;           // COMPUTE_CAPABILITY_MINOR
    case 78: case 79: case 80: return 1;       // STREAM_PRIORITIES_, GLOBAL_L1_, LOCAL_L1_SUPPORTED
    case 81: return 102400;                    // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    case 82: return 65536;                     // MAX_REGISTERS_PER_MULTIPROCESSOR
    case 97: return 101376;                    // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    case 106: return 16;                       // MAX_BLOCKS_PER_MULTIPROCESSOR
    case 111: return 1024;                     // RESERVED_SHARED_MEMORY_PER_BLOCK
    default: return 0;                         // among them memory pools and cooperative launches
  }
}

struct ErrorName {
  Result code;
  const char* name;
  const char* meaning;
};
static const ErrorName ERRORS[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {HARDWARE_STACK_ERROR, "CUDA_ERROR_HARDWARE_STACK_ERROR", "hardware stack error"},
    {MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {STREAM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
    {STREAM_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
    {UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
    {STREAM_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "attempt to terminate a thread-local capture sequence from another thread"},
};

static const ErrorName* find_error(int code) {
  for (const ErrorName& error : ERRORS)
    if (error.code == code) return &error;
  return nullptr;
}

}  // namespace emulator

using namespace emulator;

API cuInit(unsigned flags) {
  if (Result bad = planted("cuInit")) return bad;
  if (flags != 0) return report(INVALID_VALUE, "invalid value: flags of cuInit");
  static const bool once = (install_signal_handlers(), true);
  initialised = once;
  return SUCCESS;
}

API cuDriverGetVersion(int* version) {
  *version = driver_version();
  return planted("cuDriverGetVersion");
}

API cuDeviceGetCount(int* count) {
  *count = cards();
  return check_initialised("cuDeviceGetCount");
}

API cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return check_device(ordinal);
}

API cuDeviceGetName(char* name, int bytes, int device) {
  if (bytes > 0) snprintf(name, size_t(bytes), "emulated GPU");
  return check_device(device);
}

API cuDeviceGetUuid(void* uuid, int device) {
  memcpy(uuid, "emulated GPU 000", 16);
  return check_device(device);
}

API cuDeviceGetUuid_v2(void* uuid, int device) { return cuDeviceGetUuid(uuid, device); }

API cuDeviceGetAttribute(int* value, int which, int device) {
  *value = attribute(which);
  return check_device(device);
}

API cuDeviceTotalMem_v2(size_t* bytes, int device) {
  *bytes = TOTAL_MEMORY;
  return check_device(device);
}

API cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
  if (Result bad = check_device(device)) return bad;
  counts.context_flags = int(flags);
  return SUCCESS;
}

API cuDevicePrimaryCtxRetain(void** context, int device) {
  if (Result bad = check_device(device)) return bad;
  contexts[device]++;
  counts.contexts++;
  *context = &contexts[device];
  return SUCCESS;
}

API cuDevicePrimaryCtxRelease_v2(int device) {
  if (Result bad = check_device(device)) return bad;
  if (contexts[device]-- > 0) {
    counts.contexts--;
    return SUCCESS;
  }
  contexts[device]++;
  return report(INVALID_CONTEXT, "invalid context: released more often than retained");
}

API cuCtxSetCurrent(void* context) {
  if (Result bad = planted("cuCtxSetCurrent")) return bad;
  auto* primary = static_cast<std::atomic<int>*>(context);
  if (context && (primary < contexts || primary >= contexts + MOST_CARDS))
    return report(INVALID_CONTEXT, "invalid context: not a primary one");
  bound_context = primary;
  return SUCCESS;
}

API cuCtxGetCurrent(void** context) {
  *context = bound_context;
  return initialised ? SUCCESS : report(NOT_INITIALIZED, "not initialised: cuInit was not called");
}

API cuCtxSynchronize() { return check_synchronous("cuCtxSynchronize"); }

API cuGetErrorName(int code, const char** name) {
  const ErrorName* error = find_error(code);
  *name = error ? error->name : nullptr;
  return error ? SUCCESS : INVALID_VALUE;
}

API cuGetErrorString(int code, const char** meaning) {
  const ErrorName* error = find_error(code);
  *meaning = error ? error->meaning : nullptr;
  return error ? SUCCESS : INVALID_VALUE;
}
