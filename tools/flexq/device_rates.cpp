#include "device_rates.h"

#include <memory>
#include <string_view>

#include "kernel_benchmark_handle.h"
#include "memory_bandwidth.h"
#include "terminal_output.h"
#include "tool_options.h"

namespace flexq_tool {

int measure_rates(const flexq_model_info& info, DeviceRates& rates) {
  if (std::string_view(info.device) == "cpu") {
    auto memory = std::make_shared<ReadBandwidth>(info.n_threads);
    rates.read_bandwidth = [memory] { return memory->sample(); };
    return kExitOk;
  }
  ModelOptions options;
  CommonOptions common;
  common.device = info.device;
  if (const int code = make_model_options(common, options); code != kExitOk) return code;
  KernelBenchmark benchmark;
  flexq_status status =
      flexq_private_kernel_benchmark_create(options.get(), "none", Out(benchmark));
  if (status != FLEXQ_OK) return report_failure(info.device, status);
  flexq_kernel_machine machine = {};
  machine.struct_size = sizeof machine;
  status = flexq_private_kernel_benchmark_machine(benchmark.get(), &machine);
  if (status != FLEXQ_OK) return report_failure(info.device, status);
  rates.read_bandwidth = [bandwidth = machine.read_bandwidth] { return bandwidth; };
  rates.int8_rate = machine.int8_rate;
  rates.fp16_rate = machine.fp16_rate;
  return kExitOk;
}

}  // namespace flexq_tool
