#include "device/cpu/cpu_device.h"
#include "device/device.h"

namespace flexq {

std::vector<DeviceDescription> list_devices() {
  std::vector<DeviceDescription> devices;
  devices.push_back(CpuDevice(*select_cpu_kernels(nullptr)).describe());
  return devices;
}

Result<std::shared_ptr<Device>> open_device(const std::string& id, const std::string& cpu_kernels) {
  if (id.find(',') != std::string::npos) {
    return Status::error(StatusCode::kUnsupportedValue,
                         "device \"%s\": more than one device is not supported in this version",
                         id.c_str());
  }
  if (id != "auto" && id != "cpu") {
    return Status::error(StatusCode::kNoDevice,
                         "device \"%s\": expected auto or cpu, found no such "
                         "device (this build has no CUDA backend)",
                         id.c_str());
  }
  const CpuKernels* kernels =
      select_cpu_kernels(cpu_kernels == "auto" ? nullptr : cpu_kernels.c_str());
  if (kernels == nullptr) {
    return Status::error(
        StatusCode::kUnsupportedValue,
        "cpu.kernels \"%s\": expected auto or a kernel set that this processor can "
        "run (its best is %s)",
        cpu_kernels.c_str(), select_cpu_kernels(nullptr)->name);
  }
  return std::shared_ptr<Device>(std::make_shared<CpuDevice>(*kernels));
}

}  // namespace flexq
