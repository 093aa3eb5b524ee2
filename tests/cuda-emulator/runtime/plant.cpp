#include "plant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

namespace emulator {

Counts counts;

namespace {

int number(const char* name, int otherwise) {
  const char* text = getenv(name);
  return text && *text ? atoi(text) : otherwise;
}

struct Plan {
  std::string call;
  int nth = 0;  // from 1; 0 is all
  Result code = SUCCESS;
};

Plan read_plan() {
  Plan plan;
  const char* text = getenv("HAFUSE_EMULATED_FAIL");
  if (!text) return plan;
  const char* colon = strchr(text, ':');
  if (!colon) return plan;
  plan.call.assign(text, colon);
  plan.code = Result(atoi(colon + 1));
  size_t at = plan.call.find('@');
  if (at != std::string::npos) {
    plan.nth = atoi(plan.call.c_str() + at + 1);
    plan.call.resize(at);
  }
  return plan;
}

int read_version() {
  int major = 13, minor = 0;
  const char* text = getenv("HAFUSE_EMULATED_VERSION");
  if (text && sscanf(text, "%d.%d", &major, &minor) != 2) major = 13, minor = 0;
  return major * 1000 + minor * 10;
}

const int card_count = std::min(number("HAFUSE_EMULATED_CARDS", 1), MOST_CARDS);
const int lost = number("HAFUSE_EMULATED_LOST", -1);
const int version = read_version();
const Plan& plan = *new Plan(read_plan());
std::atomic<int> calls{0};  // of the planned name
std::atomic<int> stuck{SUCCESS};

// Versions of a function have one name here.
bool is_planned(const char* call) {
  size_t length = strlen(call);
  const char* version = strstr(call, "_v");
  if (version) length = size_t(version - call);
  return plan.code && plan.call.size() == length && !strncmp(call, plan.call.c_str(), length);
}

bool sticks(int code) { return code == 700 || code == 702 || code == 710 || (code >= 714 && code <= 719); }

__attribute__((destructor)) void write_counts() {
  const char* path = getenv("HAFUSE_EMULATED_COUNTS");
  FILE* file = path ? fopen(path, "w") : nullptr;
  if (!file) return;
  fprintf(file, "{\"contexts\": %d, \"streams\": %d, \"context_flags\": %d, \"timed_events\": %d, \"blocking_events\": %d}\n",
          counts.contexts.load(), counts.streams.load(), counts.context_flags.load(),
          counts.timed_events.load(), counts.blocking_events.load());
  fclose(file);
}

}  // namespace

int cards() { return card_count; }

int lost_card() { return lost; }

int driver_version() { return version; }

Result planted(const char* call) {
  if (!is_planned(call)) return SUCCESS;
  int nth = ++calls;
  if (plan.nth && plan.nth != nth) return SUCCESS;
  if (sticks(plan.code)) stuck = plan.code;
  return report(plan.code, format("planted: call %d of %s", nth, call));
}

Result sticky() {
  int code = stuck;
  return code ? report(Result(code), "planted: an earlier fault of the context") : SUCCESS;
}

}  // namespace emulator
