// One kernel file, as HAFUSE_SOURCE names it. Its names are kept apart from other files' (on a GPU each
// is a module of its own): two `Params` or two `body` would otherwise be merged by the linker.
#include "emulator.h"

namespace {
#include HAFUSE_SOURCE
}
