// Makes the k-th system call of the process fail, come back short, or never return.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "base/os_calls.h"
#include "flexq.h"

namespace flexq::test {

inline constexpr int kKilledExitStatus = 42;

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
    if (gate->fault == Fault::kKill) _exit(kKilledExitStatus);
    if (gate->fault == Fault::kShort) return {.max_bytes = 1};
    return {.error = gate->error};
  }
};

// How a child process ends that calls `call` and is killed at the k-th system call under the gate
// which `call` is given: kKilledExitStatus, or, with no such call, 0 for FLEXQ_OK and else 1.
template <typename Call>
int exit_status_killed_at(int k, Call call) {
  const pid_t child = fork();
  if (child == 0) {
    CallGate gate;
    gate.fault = Fault::kKill;
    gate.k = k;
    _exit(call(gate) == FLEXQ_OK ? 0 : 1);
  }
  int wait_status = 0;
  REQUIRE(waitpid(child, &wait_status, 0) == child);
  REQUIRE(WIFEXITED(wait_status));
  return WEXITSTATUS(wait_status);
}

}  // namespace flexq::test
