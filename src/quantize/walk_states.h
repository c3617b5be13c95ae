// Residual streams of several runs over several windows at once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/memory.h"
#include "base/status.h"

namespace flexq {

class WalkStates {
 public:
  // Room for `n_states` states of up to n_windows windows: as many as fit kTargetBytes, at least 1.
  static constexpr int64_t kTargetBytes = int64_t{512} << 20;
  static Result<WalkStates> allocate(int64_t state_floats, int64_t n_states, int32_t n_windows) {
    WalkStates states;
    const int64_t window_bytes = state_floats * n_states * int64_t{sizeof(float)};
    states.state_floats_ = state_floats;
    states.n_windows_ =
        static_cast<int32_t>(std::clamp<int64_t>(kTargetBytes / window_bytes, 1, n_windows));
    FLEXQ_ASSIGN_OR_RETURN(states.buffer_, HostBuffer::allocate(window_bytes * states.n_windows_,
                                                                "calibration activations"));
    return states;
  }

  int32_t n_windows() const { return n_windows_; }
  // (window_tokens, n_embd)
  float* at(int64_t state, int32_t window) {
    return reinterpret_cast<float*>(buffer_.data()) + (state * n_windows_ + window) * state_floats_;
  }

 private:
  HostBuffer buffer_;
  int64_t state_floats_ = 0;
  int32_t n_windows_ = 0;
};

}  // namespace flexq
