// The CUDA backend on the substitute runtime, in the place of libflexq_cuda.so: so that a whole
// program runs on "cuda:0" without a GPU.
#pragma once

#include <memory>

#include "device/cuda/cuda_platform.h"
#include "support/substitute_cuda.h"

namespace flexq::test {

// From here to the end of the scope the process has the machine of SubstituteCuda; a new one has
// not lost its device yet.
class SubstituteBackend {
 public:
  explicit SubstituteBackend(const char* build_id = nullptr);
  ~SubstituteBackend();
  SubstituteBackend(const SubstituteBackend&) = delete;
  SubstituteBackend& operator=(const SubstituteBackend&) = delete;

  static SubstituteCuda& cuda() { return SubstituteCuda::instance(); }
  // What the backend told its host.
  static const std::string& logged();
};

}  // namespace flexq::test
