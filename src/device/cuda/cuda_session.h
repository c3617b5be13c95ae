// One CUDA device as this process uses it: every call to the CUDA runtime is made between enter()
// and check(). Shared by all that lives on the device; safe from several threads.
//
// A device is lost at the first sticky error: from then on enter() fails at once, nothing touches
// device memory any more, and only the process's end helps. Other devices, the CPU among them, go
// on. A forked child of a process that used CUDA cannot use it: enter() fails there too.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "device/cuda_backend.h"
#include "kernels/cuda/cuda_runtime.h"

namespace flexq {

// A device as CUDA describes it.
struct CudaTarget {
  int32_t number = 0;  // CUDA's
  int32_t sm = 0;      // compute capability: 90 for 9.0
  int32_t n_sms = 0;   // multiprocessors
  std::string name;
  int64_t total_memory_bytes = 0;
  std::string id() const { return "cuda:" + std::to_string(number); }
};

class CudaSession {
 public:
  CudaSession(const CudaRuntime& runtime, const CudaHostServices& host, CudaTarget target,
              int64_t process);

  const CudaRuntime& runtime() const { return runtime_; }
  const CudaTarget& target() const { return target_; }
  CudaLaunch launch_on(cudaStream_t stream) const {
    return {&runtime_, stream, target_.sm, target_.n_sms};
  }

  // Makes the device the calling thread's. kDeviceLost; kInvalidState after a fork.
  Status enter();
  // The status of a call's result. `what` is a string literal that names the call's purpose;
  // `bytes`: what an allocation asked for.
  Status check(cudaError_t error, const char* what, int64_t bytes = 0);

  bool lost() const { return lost_error_.load(std::memory_order_acquire) != cudaSuccess; }
  Status lost_status() const;
  bool forked() const;
  // For destructors, which allocate nothing and report nothing. enter_to_release(): whether device
  // memory and handles may still be given back; note(): what became of it.
  bool enter_to_release();
  void note(cudaError_t error);

 private:
  const CudaRuntime& runtime_;
  const CudaHostServices host_;  // told when the device is lost, be it in a destructor
  const CudaTarget target_;
  const int64_t process_;  // that started CUDA
  std::atomic<cudaError_t> lost_error_{cudaSuccess};
};

}  // namespace flexq
