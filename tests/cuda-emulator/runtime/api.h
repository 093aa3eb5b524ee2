// The driver's entry points carry C names and take handles as pointers.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define API extern "C" __attribute__((visibility("default"))) int

typedef uint64_t CUdeviceptr;
