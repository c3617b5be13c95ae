#include "device/cuda_loader.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "base/log.h"
#include "generated/flexq_build_config.h"

namespace flexq {
namespace {

std::atomic<const CudaBackend*> substitute{nullptr};
std::atomic<const CudaBackend*> opened{nullptr};

const CudaHostServices host_services = {
    [](int32_t level, const char* text) { log(static_cast<LogLevel>(level), "%s", text); }};

// The absolute path of a file beside the library or program that this function is in.
Result<std::string> path_beside_us(const char* file) {
  Dl_info info = {};
  char resolved[PATH_MAX];
  if (dladdr(reinterpret_cast<const void*>(&cuda_backend), &info) == 0 ||
      info.dli_fname == nullptr || realpath(info.dli_fname, resolved) == nullptr) {
    return Status::error(StatusCode::kNoDevice,
                         "CUDA backend: expected %s beside this library, found no path of it",
                         file);
  }
  std::string path = resolved;
  return path.substr(0, path.rfind('/') + 1) + file;
}

Status check_build(const CudaBackend& backend) {
  if (std::strcmp(backend.build_id, FLEXQ_BUILD_ID) == 0) return Status();
  return Status::error(StatusCode::kDeviceUnsupported,
                       "CUDA backend %s: expected build \"%s\", found build \"%s\"",
                       kCudaBackendFile, FLEXQ_BUILD_ID, backend.build_id);
}

Result<const CudaBackend*> open_backend() {
  FLEXQ_ASSIGN_OR_RETURN(const std::string path, path_beside_us(kCudaBackendFile));
  if (access(path.c_str(), F_OK) != 0) {
    return Status::error(StatusCode::kNoDevice,
                         "CUDA backend: expected %s, found no such file (%s)", path.c_str(),
                         FLEXQ_WITH_CUDA ? "it belongs to this build" : "this build is without it");
  }
  // Never closed again: devices, and threads of the driver, outlive any moment that could be right.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    return Status::error(StatusCode::kNoDevice, "CUDA backend: cannot open %s", reason);
  }
  const auto entry = reinterpret_cast<CudaBackendEntry>(dlsym(library, kCudaBackendEntry));
  const CudaBackend* backend = entry == nullptr ? nullptr : entry(&host_services);
  if (backend == nullptr) {
    return Status::error(StatusCode::kNoDevice, "CUDA backend: %s has no %s", path.c_str(),
                         kCudaBackendEntry);
  }
  return backend;
}

}  // namespace

Result<const CudaBackend*> cuda_backend() {
  const CudaBackend* backend = substitute.load(std::memory_order_acquire);
  if (backend == nullptr) backend = opened.load(std::memory_order_acquire);
  if (backend == nullptr) {
    // Only a success is kept: an attempt that failed for want of memory may be made again.
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    FLEXQ_ASSIGN_OR_RETURN(backend, open_backend());
    opened.store(backend, std::memory_order_release);
  }
  FLEXQ_RETURN_IF_ERROR(check_build(*backend));
  return backend;
}

void set_cuda_backend(const CudaBackend* backend) {
  substitute.store(backend, std::memory_order_release);
}

}  // namespace flexq
