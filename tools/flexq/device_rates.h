// What a device can do at best, to compare measurements with.
#pragma once

#include <flexq.h>

#include <functional>

namespace flexq_tool {

// read_bandwidth(): bytes per second, measured when asked for on the CPU, where others may use the
// memory too.
struct DeviceRates {
  std::function<double()> read_bandwidth;
  double int8_rate = 0;  // operations per second; 0: not known
  double fp16_rate = 0;
};

// Of the device that a model is on. Reports failures; returns an exit code.
int measure_rates(const flexq_model_info& info, DeviceRates& rates);

}  // namespace flexq_tool
