// Makes the k-th system call of the process fail, come back short, or never return.
#pragma once

#include <unistd.h>

#include <atomic>

#include "base/os_calls.h"

namespace flexq::test {

enum class Fault { kNone, kError, kErrorOnward, kShort, kKill };

// Interferes with the k-th system call of the process, counted from 0 over all threads. A gate of
// os::set_gate, with itself as user_data.
struct CallGate {
  Fault fault = Fault::kNone;
  int error = 0;
  int k = 0;
  std::atomic<int> calls{0};
  std::atomic<int> struck_call{-1};  // an os::Call

  static os::Fault ask(os::Call call, void* user_data) {
    auto* gate = static_cast<CallGate*>(user_data);
    const int index = gate->calls++;
    const bool hit = index == gate->k || (gate->fault == Fault::kErrorOnward && index > gate->k);
    if (!hit || gate->fault == Fault::kNone) return {};
    if (gate->struck_call < 0) gate->struck_call = static_cast<int>(call);
    if (gate->fault == Fault::kKill) _exit(42);
    if (gate->fault == Fault::kShort) return {.max_bytes = 1};
    return {.error = gate->error};
  }
};

}  // namespace flexq::test
