// A CUDA runtime without a GPU: device memory is host memory, kernels are only counted, and any
// call can be made to fail. Everything handed out is accounted for, so that tests see what leaks.
// One per process, since the functions of the table carry no state.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_runtime.h"

namespace flexq::test {

class SubstituteCuda {
 public:
  // What the machine is like; set before the first call of a test.
  struct Machine {
    int n_devices = 1;
    int sm = 90;
    int driver_version = 13000;
    cudaError_t start_error = cudaSuccess;  // of get_device_count: no driver, an old one, ...
    int64_t memory_bytes = int64_t{1} << 30;
  };

  static SubstituteCuda& instance();
  // The runtime's table.
  static const CudaRuntime& runtime();

  // Forgets everything but what is still allocated; brings a lost device back.
  void reset();
  Machine machine;

  // The k-th call from now on (counted from 0) fails with `error`. Errors that CUDA calls sticky
  // come again from every later call; calls that give something back do so and then report.
  void fail_call(int64_t k, cudaError_t error);
  // The next call of this function of the table fails with `error`.
  void fail_next(const std::string& name, cudaError_t error);
  bool failed() const { return failed_; }

  int64_t calls() const { return calls_; }  // since reset() or fail_call()
  const std::map<std::string, int64_t>& calls_by_name() const { return calls_by_name_; }
  int64_t launches() const { return launches_; }  // those of a graph each time it runs

  struct Live {
    int64_t device_blocks = 0, device_bytes = 0;
    int64_t pinned_blocks = 0, pinned_bytes = 0;
    int64_t streams = 0, events = 0;
    int64_t graphs = 0;  // executable ones included
    bool none() const { return device_blocks + pinned_blocks + streams + events + graphs == 0; }
  };
  Live live() const;
  // Frees what a lost device kept.
  void free_all();
  // "" or the first use of something that was not handed out.
  const std::string& misuse() const { return misuse_; }

  struct Functions;  // of the table

 private:
  SubstituteCuda() = default;
  // Where every call begins; the error that it must return.
  cudaError_t enter(const char* name);
  void report_misuse(const char* name);
  // Work on a stream: done at once, or kept where the stream is being captured.
  using Work = std::function<cudaError_t()>;
  cudaError_t queue(void* stream, const Work& work);

  int64_t calls_ = 0;
  int64_t launches_ = 0;
  std::map<std::string, int64_t> calls_by_name_;
  int64_t fail_at_ = std::numeric_limits<int64_t>::max();
  std::string fail_name_;  // "": the k-th call of any name
  cudaError_t fail_with_ = cudaSuccess;
  bool failed_ = false;
  cudaError_t sticky_ = cudaSuccess;
  std::map<void*, size_t> device_;
  std::map<void*, size_t> pinned_;
  std::map<void*, char> streams_;
  std::map<void*, char> events_;
  std::map<void*, std::vector<Work>> capturing_;  // by stream
  std::map<void*, std::vector<Work>> graphs_;     // executable ones too
  std::string misuse_;
};

}  // namespace flexq::test
