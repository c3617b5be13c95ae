#include "kernel_report.h"

#include "text_format.h"

namespace flexq_tool {
namespace {

bool is_cpu(const flexq_kernel_machine& machine) {
  return std::string_view(machine.device) == "cpu";
}

double floor_ratio(const flexq_kernel_time& time) {
  return time.microseconds / time.floor_microseconds;
}

double bytes_per_second(const flexq_kernel_time& time) {
  return static_cast<double>(time.weight_bytes) / time.microseconds * 1e6;
}

// A multiplication and an addition for every weight and token.
double operations_per_second(const flexq_kernel_time& time) {
  return 2.0 * static_cast<double>(time.rows) * static_cast<double>(time.cols) * time.n_tokens /
         time.microseconds * 1e6;
}

bool has_baseline(const std::vector<KernelTimes>& results, int32_t baseline) {
  for (const KernelTimes& times : results) {
    for (const flexq_kernel_time& time : times.rows) {
      if (time.baseline_microseconds[baseline] > 0) return true;
    }
  }
  return false;
}

std::string baseline_cell(const flexq_kernel_time& time, int32_t baseline) {
  const double us = time.baseline_microseconds[baseline];
  return us > 0 ? fixed(us, 1) + " (" + fixed(us / time.microseconds, 2) + "x)" : "-";
}

nlohmann::ordered_json baselines_json(const flexq_kernel_time& time) {
  nlohmann::ordered_json baselines = nlohmann::ordered_json::object();
  for (int32_t i = 0; i < FLEXQ_KERNEL_BASELINES; ++i) {
    const double us = time.baseline_microseconds[i];
    if (us > 0) {
      baselines[flexq_private_baseline_name(i)] = {{"microseconds", us},
                                                   {"speedup", us / time.microseconds}};
    }
  }
  return baselines;
}

std::vector<std::string> kernel_row(const flexq_kernel_time& time,
                                    const std::vector<int32_t>& baselines, bool on_cpu) {
  std::vector<std::string> row = {time.layer,
                                  matrix_size(time),
                                  weight_format(time),
                                  std::to_string(time.n_tokens),
                                  fixed(time.microseconds, 1),
                                  fixed(time.floor_microseconds, 1),
                                  fixed(floor_ratio(time), 2),
                                  fixed(time.read_microseconds, 1)};
  for (const int32_t baseline : baselines)
    row.push_back(baseline_cell(time, baseline));
  row.push_back(fixed(bytes_per_second(time) / 1e9, 1));
  row.push_back(fixed(operations_per_second(time) / (on_cpu ? 1e9 : 1e12), 1));
  return row;
}

// Single matrices of one policy fit into one table.
bool share_table(const KernelTimes& a, const KernelTimes& b) {
  return &a == &b || (a.is_matrix && b.is_matrix && a.policy == b.policy);
}

std::string footer(const flexq_kernel_machine& machine) {
  std::string text = machine_line(machine);
  if (machine.baseline_library[0] != '\0') {
    text += std::string("baselines: ") + machine.baseline_library +
            ", the best of its algorithms; in brackets how many times faster FlexQ is\n";
  } else if (machine.no_baselines[0] != '\0') {
    text += "no baselines: " + one_line(machine.no_baselines) + "\n";
  }
  return text;
}

}  // namespace

std::string matrix_size(const flexq_kernel_time& time) {
  return std::to_string(time.rows) + " x " + std::to_string(time.cols);
}

std::string weight_format(const flexq_kernel_time& time) {
  std::string format = time.format;
  if (time.activation_bits < 16) format += " x int" + std::to_string(time.activation_bits);
  return format;
}

std::string machine_line(const flexq_kernel_machine& machine) {
  return one_line(machine.name) + " (" + machine.device + "), kernels " + machine.kernels +
         (is_cpu(machine) ? ", " + std::to_string(machine.n_threads) + " threads" : "") +
         ", memory read at " + format_bytes(static_cast<int64_t>(machine.read_bandwidth)) + "/s\n";
}

nlohmann::ordered_json machine_json(const flexq_kernel_machine& machine) {
  nlohmann::ordered_json json = {{"device", machine.device},
                                 {"name", machine.name},
                                 {"kernels", machine.kernels},
                                 {"threads", machine.n_threads},
                                 {"read_bandwidth_bytes_per_second", machine.read_bandwidth},
                                 {"baselines", nullptr},
                                 {"no_baselines", nullptr}};
  if (machine.baseline_library[0] != '\0') json["baselines"] = machine.baseline_library;
  if (machine.no_baselines[0] != '\0') json["no_baselines"] = machine.no_baselines;
  return json;
}

nlohmann::ordered_json matrix_json(const KernelTimes& times, const flexq_kernel_time& time) {
  return {{"shape", times.shape},
          {"policy", times.policy},
          {"layer", time.layer},
          {"rows", time.rows},
          {"cols", time.cols},
          {"format", time.format},
          {"activation_bits", time.activation_bits},
          {"kernels", time.kernels},
          {"tokens", time.n_tokens},
          {"weight_bytes", time.weight_bytes}};
}

std::string kernel_tables(const flexq_kernel_machine& machine,
                          const std::vector<KernelTimes>& results, bool markdown) {
  const bool on_cpu = is_cpu(machine);
  std::vector<std::string> header = {"layer", "N x K",    "format", "tokens",
                                     "us",    "floor us", "ratio",  "read-only us"};
  std::vector<int32_t> baselines;
  for (int32_t i = 0; i < FLEXQ_KERNEL_BASELINES; ++i) {
    if (!has_baseline(results, i)) continue;
    baselines.push_back(i);
    header.push_back(std::string(flexq_private_baseline_name(i)) + " us");
  }
  header.insert(header.end(), {"GB/s", on_cpu ? "GOPS" : "TOPS"});
  std::string text;
  for (size_t begin = 0, end = 0; begin < results.size(); begin = end) {
    Table table(header);
    for (; end < results.size() && share_table(results[begin], results[end]); ++end) {
      for (const flexq_kernel_time& time : results[end].rows)
        table.add(kernel_row(time, baselines, on_cpu));
    }
    const KernelTimes& first = results[begin];
    text += (end - begin > 1 ? "" : first.shape + ", ") + "policy " + first.policy + "\n" +
            (markdown ? "\n" + table.markdown() : table.text()) + "\n";
  }
  return text + footer(machine);
}

nlohmann::ordered_json kernel_json(const flexq_kernel_machine& machine,
                                   const std::vector<KernelTimes>& results) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const KernelTimes& times : results) {
    for (const flexq_kernel_time& time : times.rows) {
      nlohmann::ordered_json row = matrix_json(times, time);
      row["microseconds"] = time.microseconds;
      row["floor_microseconds"] = time.floor_microseconds;
      row["floor_ratio"] = floor_ratio(time);
      row["read_microseconds"] = time.read_microseconds;
      row["bytes_per_second"] = bytes_per_second(time);
      row["operations_per_second"] = operations_per_second(time);
      row["baselines"] = baselines_json(time);
      rows.push_back(std::move(row));
    }
  }
  nlohmann::ordered_json json = machine_json(machine);
  json["results"] = std::move(rows);
  return json;
}

}  // namespace flexq_tool
