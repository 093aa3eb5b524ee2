// What went wrong, as the driver's error code and as text that names the kernel, block and thread.
#pragma once

#include <string>

namespace emulator {

// CUresult values used here, as cuda.h names them.
enum Result : int {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  NO_BINARY_FOR_GPU = 209,
  INVALID_HANDLE = 400,
  ILLEGAL_STATE = 401,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_OUT_OF_RESOURCES = 701,
  HARDWARE_STACK_ERROR = 714,
  MISALIGNED_ADDRESS = 716,
  LAUNCH_FAILED = 719,
  STREAM_CAPTURE_UNSUPPORTED = 900,
  STREAM_CAPTURE_INVALIDATED = 901,
  STREAM_CAPTURE_ISOLATION = 905,
  STREAM_CAPTURE_IMPLICIT = 906,
  CAPTURED_EVENT = 907,
  STREAM_CAPTURE_WRONG_THREAD = 908,
  UNKNOWN = 999,
};

struct Fault {
  Result code = SUCCESS;
  std::string text;  // "name: details"
};

std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));

// Keeps the fault as this OS thread's last one and returns its code.
Result report(const Fault& fault);
Result report(Result code, std::string text);
void clear_fault();

}  // namespace emulator
