#include "device/device_registry.h"

#include <charconv>
#include <string_view>

#include "base/log.h"
#include "device/cpu/cpu_device.h"
#include "device/cuda_loader.h"

namespace flexq {
namespace {

Result<std::shared_ptr<Device>> open_cpu(const std::string& kernel_set) {
  const CpuKernels* kernels =
      select_cpu_kernels(kernel_set == "auto" ? nullptr : kernel_set.c_str());
  if (kernels == nullptr) {
    return Status::error(
        StatusCode::kUnsupportedValue,
        "cpu.kernels \"%s\": expected auto or a kernel set that this processor can "
        "run (its best is %s)",
        kernel_set.c_str(), select_cpu_kernels(nullptr)->name);
  }
  return std::shared_ptr<Device>(std::make_shared<CpuDevice>(*kernels));
}

Result<std::shared_ptr<Device>> open_cuda(const CudaBackend& backend, int32_t number,
                                          const std::string& kernels) {
  return backend.open(number, kernels == "auto" ? kCudaKernelNames[0] : kernels);
}

// The first CUDA device that can be used, or why there is none.
Result<std::shared_ptr<Device>> open_first_cuda(const std::string& kernels) {
  FLEXQ_ASSIGN_OR_RETURN(const CudaBackend* backend, cuda_backend());
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<int32_t> numbers, backend->usable_devices());
  return open_cuda(*backend, numbers.front(), kernels);
}

// "cuda" is -1, "cuda:N" is N; false for anything else.
bool parse_cuda_id(std::string_view id, int32_t* number) {
  constexpr std::string_view kPrefix = "cuda";
  *number = -1;
  if (id == kPrefix) return true;
  if (!id.starts_with("cuda:")) return false;
  id.remove_prefix(kPrefix.size() + 1);
  const char* end = id.data() + id.size();
  const auto [parsed, error] = std::from_chars(id.data(), end, *number);
  return error == std::errc() && parsed == end && *number >= 0;
}

Result<std::shared_ptr<Device>> open_auto(const DeviceOptions& options) {
  Result<std::shared_ptr<Device>> device = open_first_cuda(options.cuda_kernels);
  if (device.ok()) return device;
  log(LogLevel::kInfo, "device auto: the CPU, since: %s", device.status().message().c_str());
  return open_cpu(options.cpu_kernels);
}

// The CUDA devices that can be used; none where that fails, whatever the reason.
std::vector<int32_t> usable_cuda_devices(const CudaBackend** backend) {
  const Result<const CudaBackend*> found = cuda_backend();
  if (!found.ok()) return {};
  *backend = found.value();
  Result<std::vector<int32_t>> numbers = (*backend)->usable_devices();
  return numbers.ok() ? std::move(numbers).value() : std::vector<int32_t>();
}

}  // namespace

int32_t count_devices() {
  const CudaBackend* backend = nullptr;
  return 1 + static_cast<int32_t>(usable_cuda_devices(&backend).size());
}

Result<DeviceDescription> describe_device(int32_t index) {
  if (index == 0) return CpuDevice(*select_cpu_kernels(nullptr)).describe();
  const CudaBackend* backend = nullptr;
  const std::vector<int32_t> numbers = usable_cuda_devices(&backend);
  if (index < 0 || static_cast<size_t>(index) > numbers.size()) {
    return Status::error(StatusCode::kInvalidArgument, "device index: expected 0 to %zu, found %d",
                         numbers.size(), index);
  }
  return backend->describe(numbers[static_cast<size_t>(index) - 1]);
}

Result<std::shared_ptr<Device>> open_device(const std::string& id, const DeviceOptions& options) {
  if (id.find(',') != std::string::npos) {
    return Status::error(StatusCode::kUnsupportedValue,
                         "device \"%s\": more than one device is not supported in this version",
                         id.c_str());
  }
  if (id == "auto") return open_auto(options);
  if (id == "cpu") return open_cpu(options.cpu_kernels);
  int32_t number = 0;
  if (!parse_cuda_id(id, &number)) {
    return Status::error(StatusCode::kNoDevice,
                         "device \"%s\": expected auto, cpu, cuda or cuda:N, found no such device",
                         id.c_str());
  }
  Result<const CudaBackend*> backend = cuda_backend();
  if (!backend.ok()) {
    return std::move(backend).status().with_context("device \"" + id + "\"");
  }
  Result<std::shared_ptr<Device>> device =
      number < 0 ? open_first_cuda(options.cuda_kernels)
                 : open_cuda(*backend.value(), number, options.cuda_kernels);
  if (!device.ok()) return std::move(device).status().with_context("device \"" + id + "\"");
  return device;
}

}  // namespace flexq
