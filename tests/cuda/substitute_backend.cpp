#include "cuda/substitute_backend.h"

#include "device/cuda_loader.h"
#include "generated/flexq_build_config.h"

namespace flexq::test {
namespace {

std::unique_ptr<CudaPlatform> platform;
CudaBackend backend;
std::string log_text;

}  // namespace

SubstituteBackend::SubstituteBackend(const char* build_id) {
  log_text.clear();
  cuda().free_all();
  cuda().reset();
  const CudaHostServices host = {[](int32_t, const char* text) { log_text += text; }};
  platform = std::make_unique<CudaPlatform>(SubstituteCuda::runtime(), "80 90a", host);
  backend.build_id = build_id != nullptr ? build_id : FLEXQ_BUILD_ID;
  backend.usable_devices = [] { return platform->usable_devices(); };
  backend.describe = [](int32_t number) { return platform->describe(number); };
  backend.open = [](int32_t number, const std::string& kernels) {
    return platform->open(number, kernels);
  };
  set_cuda_backend(&backend);
}

SubstituteBackend::~SubstituteBackend() {
  set_cuda_backend(nullptr);
  platform.reset();
  cuda().free_all();
  cuda().reset();
}

const std::string& SubstituteBackend::logged() {
  return log_text;
}

}  // namespace flexq::test
