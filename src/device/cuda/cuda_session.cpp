#include "device/cuda/cuda_session.h"

#include <unistd.h>

#include <cstdio>

#include "base/log.h"
#include "device/cuda/cuda_status.h"

namespace flexq {

CudaSession::CudaSession(const CudaRuntime& runtime, const CudaHostServices& host,
                         CudaTarget target, int64_t process)
    : runtime_(runtime), host_(host), target_(std::move(target)), process_(process) {}

bool CudaSession::forked() const {
  return getpid() != process_;
}

Status CudaSession::lost_status() const {
  return Status::error(StatusCode::kDeviceLost,
                       "device %s is lost until the process ends, since: %s", target_.id().c_str(),
                       cuda_error_text(runtime_, lost_error_.load()).c_str());
}

Status CudaSession::enter() {
  if (lost()) return lost_status();
  if (forked()) {
    return Status::error(StatusCode::kInvalidState,
                         "device %s: expected process %lld, which started CUDA, found its fork "
                         "%lld",
                         target_.id().c_str(), static_cast<long long>(process_),
                         static_cast<long long>(getpid()));
  }
  return check(runtime_.set_device(target_.number), "choosing the device");
}

Status CudaSession::check(cudaError_t error, const char* what, int64_t bytes) {
  if (error == cudaSuccess) return Status();
  note(error);  // takes it back, so that it does not come again from a later call
  if (is_device_lost(error)) {
    return Status::error(StatusCode::kDeviceLost, "device %s was lost: %s: %s",
                         target_.id().c_str(), what, cuda_error_text(runtime_, error).c_str());
  }
  if (lost()) return lost_status();
  if (error == cudaErrorMemoryAllocation) {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    const bool known = runtime_.mem_get_info(&free_bytes, &total_bytes) == cudaSuccess;
    return Status::out_of_memory(what, bytes, known ? static_cast<int64_t>(free_bytes) : -1);
  }
  if (error == cudaErrorNoKernelImageForDevice) {
    return Status::error(StatusCode::kDeviceUnsupported,
                         "device %s: %s: this build has no code for SM %d.%d", target_.id().c_str(),
                         what, target_.sm / 10, target_.sm % 10);
  }
  return Status::error(StatusCode::kInternal, "device %s: %s: %s", target_.id().c_str(), what,
                       cuda_error_text(runtime_, error).c_str());
}

bool CudaSession::enter_to_release() {
  if (lost() || forked()) return false;
  note(runtime_.set_device(target_.number));
  return !lost();
}

void CudaSession::note(cudaError_t error) {
  if (error == cudaSuccess) return;
  if (!is_device_lost(error)) {
    static_cast<void>(runtime_.get_last_error());
    return;
  }
  cudaError_t none = cudaSuccess;
  if (!lost_error_.compare_exchange_strong(none, error) || host_.log == nullptr) return;
  char text[256];
  snprintf(text, sizeof text, "device cuda:%d is lost: %s (%s)", target_.number,
           runtime_.get_error_name(error), runtime_.get_error_string(error));
  host_.log(static_cast<int32_t>(LogLevel::kError), text);
}

}  // namespace flexq
