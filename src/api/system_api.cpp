// Version, build, log and devices.
#include <openssl/crypto.h>
#include <zstd.h>

#include <string>

#include "api/api_guard.h"
#include "base/log.h"
#include "base/memory.h"
#include "bundle/bundle_format.h"
#include "device/device_registry.h"
#include "generated/flexq_build_config.h"
#include "kernels/cpu/cpu_kernels.h"

using flexq::DeviceDescription;
using flexq::Status;
using flexq::StatusCode;
using flexq::api::copy_name;
using flexq::api::guarded;
using flexq::api::guarded_value;

static_assert(FLEXQ_LOG_ERROR == static_cast<int>(flexq::LogLevel::kError) &&
              FLEXQ_LOG_DEBUG == static_cast<int>(flexq::LogLevel::kDebug));
static_assert(FLEXQ_DEVICE_CPU == static_cast<int>(flexq::DeviceKind::kCpu) &&
              FLEXQ_DEVICE_CUDA == static_cast<int>(flexq::DeviceKind::kCuda));

namespace {

std::string make_build_info() {
  std::string kernels;  // each with a space in front
  for (const char* name : flexq::cpu_kernel_names()) {
    if (flexq::select_cpu_kernels(name) != nullptr) kernels += std::string(" ") + name;
  }
  std::string info;
  info += "version: " FLEXQ_VERSION_STRING "\n";
  info += "abi: " + std::to_string(FLEXQ_ABI_VERSION) + "\n";
  info += "bundle format: " + std::to_string(flexq::kBundleFormatVersion) + "\n";
  info += "compiler: " FLEXQ_COMPILER "\n";
  info += "build type: " FLEXQ_BUILD_TYPE "\n";
  info += "cpu kernels usable here:" + kernels + "\n";
  info += std::string("cpu kernels chosen: ") + flexq::select_cpu_kernels(nullptr)->name + "\n";
  info += "cuda: " FLEXQ_CUDA_DESCRIPTION "\n";
  info += "cuda sm list: " FLEXQ_CUDA_SM_LIST "\n";
  info += std::string("zstd: ") + ZSTD_versionString() + "\n";
  info += std::string("libcrypto: ") + OpenSSL_version(OPENSSL_VERSION) + "\n";
  return info;
}

}  // namespace

extern "C" {

const char* flexq_version(void) {
  return FLEXQ_VERSION_STRING;
}

int32_t flexq_abi_version(void) {
  return FLEXQ_ABI_VERSION;
}

const char* flexq_build_info(void) {
  return guarded_value("version: " FLEXQ_VERSION_STRING "\n", [] {
    static const std::string info = make_build_info();
    return info.c_str();
  });
}

flexq_status flexq_set_log_callback(flexq_log_callback callback, int32_t max_level,
                                    void* user_data) {
  return guarded([&]() -> Status {
    if (callback != nullptr && (max_level < FLEXQ_LOG_ERROR || max_level > FLEXQ_LOG_DEBUG)) {
      return flexq::api::invalid_range("max_level", FLEXQ_LOG_ERROR, FLEXQ_LOG_DEBUG, max_level);
    }
    flexq::set_log_callback(callback, static_cast<flexq::LogLevel>(max_level), user_data);
    return Status();
  });
}

flexq_status flexq_set_allocator(flexq_allocate_callback allocate, flexq_free_callback release,
                                 void* user_data) {
  return guarded([&] { return flexq::set_host_allocator({allocate, release, user_data}); });
}

int32_t flexq_device_count(void) {
  return guarded_value(1, [] { return flexq::count_devices(); });
}

flexq_status flexq_device_get_info(int32_t index, flexq_device_info* info) {
  return guarded([&]() -> Status {
    FLEXQ_ASSIGN_OR_RETURN(const DeviceDescription device, flexq::describe_device(index));
    flexq_device_info filled = {};
    filled.kind = static_cast<int32_t>(device.kind);
    filled.total_memory_bytes = device.total_memory_bytes;
    filled.free_memory_bytes = device.free_memory_bytes;
    filled.n_threads = device.n_threads;
    copy_name(filled.id, device.id);
    copy_name(filled.name, device.name);
    copy_name(filled.kernels, device.kernels);
    return flexq::api::fill_info(filled, info);
  });
}

}  // extern "C"
