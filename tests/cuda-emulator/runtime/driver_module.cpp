// Modules, functions, and launches.
#include <stdlib.h>
#include <string.h>

#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "api.h"
#include "machine.h"
#include "memory.h"
#include "module.h"
#include "stream.h"
#include "work.h"

namespace emulator {

static Kernel* kernels = nullptr;  // filled while the library is loaded, then only read

Kernel::Kernel(const char* module, const char* name, size_t bytes, const unsigned* size, unsigned threads,
               void (*body)(const void*))
    : module(module), name(name), bytes(bytes), size(size), threads(threads), body(body), next(kernels),
      shared_bytes(0) {
  kernels = this;
}

namespace {

struct Module {
  std::string stem;
  std::map<std::string, std::unique_ptr<Function>> functions;  // that were asked for
};

std::mutex& modules_mutex = *new std::mutex;
std::map<const void*, std::unique_ptr<Module>>& modules = *new std::map<const void*, std::unique_ptr<Module>>;
std::set<const Function*>& functions = *new std::set<const Function*>;

Kernel* find_kernel(const std::string& stem, const std::string& name) {
  for (Kernel* k = kernels; k; k = k->next)
    if (stem == k->module && name == k->name) return k;
  return nullptr;
}

thread_local Order order = Order::Forward;
thread_local uint64_t order_seed = 0;

// Parameters as a launch or a graph keeps them.
struct alignas(16) Chunk {
  char bytes[16];
};

Result run_launch(Launch launch, const std::vector<Chunk>& params) {
  launch.params = params.data();
  count_launch(launch.kernel, params.data(), launch.kernel->bytes);
  Machine* machine = acquire_machine();
  Result result = machine->run(launch, order, order_seed);
  if (result) report(machine->fault);
  release_machine(machine);
  if (!result) result = check_guards(format("kernel %s/%s", launch.kernel->module, launch.kernel->name));
  if (!result) clear_fault();
  return result;
}

std::string text_of(Index i) { return format("(%u, %u, %u)", i.x, i.y, i.z); }

Result check_launch(const Function& function, const Launch& l) {
  const Kernel& k = *l.kernel;
  std::string where = format("; kernel %s/%s", k.module, k.name);
  Index g = l.grid, b = l.block;
  if (g.x == 0 || g.y == 0 || g.z == 0 || b.x == 0 || b.y == 0 || b.z == 0)
    return report(INVALID_VALUE, "empty grid: " + text_of(g) + " blocks of " + text_of(b) + where);
  if (g.x > 2147483647u || g.y > 65535 || g.z > 65535)
    return report(INVALID_VALUE, "grid too large: " + text_of(g) + where);
  if (b.x > 1024 || b.y > 1024 || b.z > 64 || uint64_t(b.x) * b.y * b.z > MAX_THREADS)
    return report(INVALID_VALUE, "too many threads: a block of " + text_of(b) + where);
  if (b.x * b.y * b.z > k.threads)
    return report(LAUNCH_OUT_OF_RESOURCES, format("too many threads: a block of %u, KERNEL allows %u",
                                                  b.x * b.y * b.z, k.threads) + where);
  if (l.dynamic_shared > function.dynamic_shared_limit)
    return report(INVALID_VALUE, format("too much shared memory: %zu dynamic bytes", l.dynamic_shared) + where);
  return SUCCESS;
}

// The parameters from either of the two forms of cuLaunchKernel.
Result read_params(const Kernel& k, void** params, void** extra, std::vector<Chunk>* to) {
  const void* from = params ? params[0] : nullptr;
  std::string where = format("; kernel %s/%s", k.module, k.name);
  if (extra) {
    if (params) return report(INVALID_VALUE, "invalid value: both kernelParams and extra" + where);
    const size_t* bytes = nullptr;
    for (; *extra; extra += 2) {
      uintptr_t key = uintptr_t(extra[0]);
      if (key == 1) from = extra[1];  // CU_LAUNCH_PARAM_BUFFER_POINTER
      else if (key == 2) bytes = static_cast<const size_t*>(extra[1]);  // ..._SIZE
      else return report(INVALID_VALUE, format("invalid value: key %zu in extra", size_t(key)) + where);
    }
    if (!bytes || *bytes != k.bytes)
      return report(INVALID_VALUE, format("parameter size: %zu bytes given, the kernel's struct has %zu",
                                          bytes ? *bytes : 0, k.bytes) + where);
  }
  if (!from) return report(INVALID_VALUE, "parameter size: none given" + where);
  to->resize((k.bytes + 15) / 16);
  memcpy(to->data(), from, k.bytes);
  return SUCCESS;
}

}  // namespace

Result check_function(const Function* function) {
  std::lock_guard<std::mutex> lock(modules_mutex);
  if (functions.count(function)) return SUCCESS;
  return report(INVALID_HANDLE, "invalid handle: a function of no loaded module");
}

bool in_global(uint64_t pointer, size_t bytes) {
  for (const Kernel* k = kernels; k; k = k->next)
    if (pointer == uintptr_t(k->size) && bytes <= sizeof *k->size) return true;
  return false;
}

int blocks_that_fit(const Function& function, int block_threads, size_t dynamic_shared) {
  unsigned threads = unsigned(block_threads);
  if (block_threads <= 0 || threads > function.kernel->threads) return 0;
  size_t shared = function.kernel->shared_bytes + dynamic_shared + 1024;
  unsigned padded = (threads + WARP_LANES - 1) / WARP_LANES * WARP_LANES;
  return int(std::min({size_t(16), size_t(2048 / padded), size_t(102400) / shared}));
}

}  // namespace emulator

using namespace emulator;

extern "C" __attribute__((visibility("default"))) void emulator_set_order(int kind, unsigned seed) {
  order = kind == 1 ? Order::Reverse : kind == 2 ? Order::Random : Order::Forward;
  order_seed = seed;
}

API cuModuleLoadData(void** module, const void* image) {
  if (Result bad = check_synchronous("cuModuleLoadData")) return bad;
  const char prefix[] = "hafuse-emulated:";
  const char* text = static_cast<const char*>(image);
  if (strncmp(text, prefix, sizeof prefix - 1) != 0)
    return report(NO_BINARY_FOR_GPU, "no binary for GPU: the image is not of the emulator");
  text += sizeof prefix - 1;
  auto loaded = std::make_unique<Module>();
  loaded->stem.assign(text, strcspn(text, "\n"));
  bool known = false;
  for (const Kernel* k = kernels; k; k = k->next) known |= loaded->stem == k->module;
  if (!known) return report(INVALID_IMAGE, "invalid image: no kernel file " + loaded->stem + ".cu was linked in");
  std::lock_guard<std::mutex> lock(modules_mutex);
  *module = loaded.get();
  modules[loaded.get()] = std::move(loaded);
  return SUCCESS;
}

API cuModuleUnload(void* module) {
  if (Result bad = check_synchronous("cuModuleUnload")) return bad;
  std::lock_guard<std::mutex> lock(modules_mutex);
  auto found = modules.find(module);
  if (found == modules.end()) return report(INVALID_HANDLE, "invalid handle: cuModuleUnload");
  for (auto& function : found->second->functions) functions.erase(function.second.get());
  modules.erase(found);
  return SUCCESS;
}

API cuModuleGetFunction(Function** function, void* module, const char* name) {
  if (Result bad = check_context()) return bad;
  std::lock_guard<std::mutex> lock(modules_mutex);
  auto found = modules.find(module);
  if (found == modules.end()) return report(INVALID_HANDLE, "invalid handle: cuModuleGetFunction");
  Kernel* kernel = find_kernel(found->second->stem, name);
  if (!kernel) return report(NOT_FOUND, format("not found: kernel %s/%s", found->second->stem.c_str(), name));
  std::unique_ptr<Function>& slot = found->second->functions[name];
  if (!slot) slot.reset(new Function{kernel, SHARED_LIMIT});
  functions.insert(*function = slot.get());
  return SUCCESS;
}

API cuModuleGetGlobal_v2(CUdeviceptr* pointer, size_t* bytes, void* module, const char* name) {
  if (Result bad = check_context()) return bad;
  std::lock_guard<std::mutex> lock(modules_mutex);
  auto found = modules.find(module);
  if (found == modules.end()) return report(INVALID_HANDLE, "invalid handle: cuModuleGetGlobal");
  std::string kernel_name = name;
  const std::string suffix = "_params";
  Kernel* kernel = nullptr;
  if (kernel_name.size() > suffix.size() &&
      kernel_name.compare(kernel_name.size() - suffix.size(), suffix.size(), suffix) == 0)
    kernel = find_kernel(found->second->stem, kernel_name.substr(0, kernel_name.size() - suffix.size()));
  // As a driver that does not find symbols of local binding.
  static const char* setting = getenv("HAFUSE_EMULATED_GLOBALS");
  static const bool hidden = setting && !strcmp(setting, "0");
  if (!kernel || hidden)
    return report(NOT_FOUND, format("not found: global %s/%s", found->second->stem.c_str(), name));
  if (pointer) *pointer = uintptr_t(kernel->size);
  if (bytes) *bytes = sizeof *kernel->size;
  return SUCCESS;
}

// By CUfunction_attribute.
API cuFuncGetAttribute(int* value, int which, Function* function) {
  if (Result bad = check_context()) return bad;
  if (Result bad = check_function(function)) return bad;
  const Kernel& k = *function->kernel;
  switch (which) {
    case 0: *value = int(k.threads); break;        // MAX_THREADS_PER_BLOCK
    case 1: *value = int(k.shared_bytes); break;   // SHARED_SIZE_BYTES, known from launches so far
    case 2: case 3: case 7: *value = 0; break;     // CONST_, LOCAL_SIZE_BYTES, CACHE_MODE_CA
    case 4: *value = 32; break;                    // NUM_REGS
    case 5: case 6: *value = compute_capability(); break;  // PTX_, BINARY_VERSION
    case 8: *value = int(function->dynamic_shared_limit); break;  // MAX_DYNAMIC_SHARED_SIZE_BYTES
    case 9: *value = -1; break;                    // PREFERRED_SHARED_MEMORY_CARVEOUT
    default: return report(INVALID_VALUE, "invalid value: function attribute");
  }
  return SUCCESS;
}

API cuFuncSetAttribute(Function* function, int which, int value) {
  if (Result bad = check_context()) return bad;
  if (Result bad = check_function(function)) return bad;
  if (which == 9) return SUCCESS;  // a hint
  // Only dynamic memory may go beyond 48 KB, and kernels use none.
  if (which != 8 || value < 0 || size_t(value) > SHARED_LIMIT)
    return report(INVALID_VALUE, "invalid value: function attribute");
  function->dynamic_shared_limit = size_t(value);
  return SUCCESS;
}

API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function* function, int threads, size_t shared) {
  if (Result bad = check_context()) return bad;
  if (Result bad = check_function(function)) return bad;
  *blocks = blocks_that_fit(*function, threads, shared);
  return SUCCESS;
}

API cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, Function* function, int threads,
                                                         size_t shared, unsigned) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, shared);
}

API cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                   unsigned block_y, unsigned block_z, unsigned shared, void* stream, void** params,
                   void** extra) {
  if (Result bad = check_context("")) return bad;  // `enqueue` has the name
  if (Result bad = check_function(function)) return bad;
  Launch launch = {function->kernel, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, nullptr};
  if (Result bad = check_launch(*function, launch)) return bad;
  std::vector<Chunk> copy;
  if (Result bad = read_params(*launch.kernel, params, extra, &copy)) return bad;
  return enqueue("cuLaunchKernel", stream, [launch, copy = std::move(copy)] { return run_launch(launch, copy); });
}
