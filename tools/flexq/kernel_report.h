// What flexq bench kernels measured, as tables for people and as JSON.
#pragma once

#include <flexq_private.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace flexq_tool {

// What was measured of one shape, or of one matrix, under one policy.
struct KernelTimes {
  std::string shape;  // a name, or "57344x8192"
  std::string policy;
  bool is_matrix = false;
  std::vector<flexq_kernel_time> rows = {};
};

// Beside each time the floor, reading alone, and the baselines with how much faster FlexQ is.
std::string kernel_tables(const flexq_kernel_machine& machine,
                          const std::vector<KernelTimes>& results, bool markdown);
nlohmann::ordered_json kernel_json(const flexq_kernel_machine& machine,
                                   const std::vector<KernelTimes>& results);

// Of rows that hold every configuration: which one FlexQ takes, which one is fastest, and the table
// that would take the fastest.
std::string tuning_tables(const flexq_kernel_machine& machine,
                          const std::vector<KernelTimes>& results, bool markdown);
nlohmann::ordered_json tuning_json(const flexq_kernel_machine& machine,
                                   const std::vector<KernelTimes>& results);

// What both kinds of report say of a row and of the machine.
std::string matrix_size(const flexq_kernel_time& time);    // "4096 x 4096"
std::string weight_format(const flexq_kernel_time& time);  // "int6 x int8"
std::string machine_line(const flexq_kernel_machine& machine);
nlohmann::ordered_json machine_json(const flexq_kernel_machine& machine);
nlohmann::ordered_json matrix_json(const KernelTimes& times, const flexq_kernel_time& time);

}  // namespace flexq_tool
