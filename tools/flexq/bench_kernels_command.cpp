// flexq bench kernels: each linear layer of a shape alone, against reading its weights.
#include <flexq_private.h>

#include <vector>

#include "commands.h"
#include "interrupt.h"
#include "precision_options.h"
#include "progress_bar.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

// q, k, v, o, gate, up, down and lm_head: for the progress bar.
constexpr int64_t kMatricesPerShape = 8;

struct KernelCommand {
  CommonOptions common;
  std::vector<std::string> shapes;
  std::vector<std::string> policies = {"flexq"};
  std::vector<int32_t> n_tokens = {1, 8, 128};
  int32_t n_repeats = 7;
  int64_t working_set_mib = 1024;
};

// What was measured of one shape under one policy.
struct KernelTimes {
  std::string shape;
  std::string policy;
  std::vector<flexq_kernel_time> rows = {};
};

double floor_ratio(const flexq_kernel_time& time) {
  return time.microseconds / time.read_microseconds;
}

double bytes_per_second(const flexq_kernel_time& time) {
  return static_cast<double>(time.weight_bytes) / time.microseconds * 1e6;
}

// A multiplication and an addition for every weight and token.
double operations_per_second(const flexq_kernel_time& time) {
  return 2.0 * static_cast<double>(time.rows) * static_cast<double>(time.cols) * time.n_tokens /
         time.microseconds * 1e6;
}

nlohmann::ordered_json to_json(const KernelTimes& times, const flexq_kernel_time& time) {
  return {{"shape", times.shape},
          {"policy", times.policy},
          {"layer", time.layer},
          {"rows", time.rows},
          {"cols", time.cols},
          {"format", time.format},
          {"activation_bits", time.activation_bits},
          {"kernels", time.kernels},
          {"threads", time.n_threads},
          {"tokens", time.n_tokens},
          {"weight_bytes", time.weight_bytes},
          {"microseconds", time.microseconds},
          {"read_microseconds", time.read_microseconds},
          {"floor_ratio", floor_ratio(time)},
          {"bytes_per_second", bytes_per_second(time)},
          {"operations_per_second", operations_per_second(time)}};
}

std::string to_table(const KernelTimes& times) {
  Table table(
      {"layer", "N x K", "format", "tokens", "us", "read-only us", "ratio", "GB/s", "GOPS"});
  for (const flexq_kernel_time& time : times.rows) {
    std::string format = time.format;
    if (time.activation_bits < 16) format += " x int" + std::to_string(time.activation_bits);
    table.add({time.layer, std::to_string(time.rows) + " x " + std::to_string(time.cols), format,
               std::to_string(time.n_tokens), fixed(time.microseconds, 1),
               fixed(time.read_microseconds, 1), fixed(floor_ratio(time), 2),
               fixed(bytes_per_second(time) / 1e9, 1),
               fixed(operations_per_second(time) / 1e9, 1)});
  }
  const flexq_kernel_time& any = times.rows.front();
  return times.shape + ", policy " + times.policy + ", kernels " + any.kernels + ", " +
         std::to_string(any.n_threads) + " threads\n" + table.text();
}

int print_results(const KernelCommand& command, const std::vector<KernelTimes>& results) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  std::string text;
  for (const KernelTimes& times : results) {
    for (const flexq_kernel_time& time : times.rows)
      rows.push_back(to_json(times, time));
    if (!text.empty()) text += "\n";
    text += to_table(times);
  }
  return command.common.json ? print_json({{"results", std::move(rows)}}) : print(text);
}

// What the callback of a measurement fills; user_data.
struct KernelLog {
  KernelTimes& times;
  ProgressBar& progress;
  int64_t& n_done;  // measurements of all shapes and policies together
  const int64_t n_total;
};

int32_t on_kernel_time(const flexq_kernel_time* time, void* user_data) {
  auto* log = static_cast<KernelLog*>(user_data);
  log->times.rows.push_back(*time);
  return ProgressBar::callback(++log->n_done, log->n_total, &log->progress);
}

int measure(const KernelCommand& command, const ModelOptions& options,
            std::vector<KernelTimes>& results) {
  ProgressBar progress("measuring");
  const auto n_counts = static_cast<int32_t>(command.n_tokens.size());
  const int64_t n_total = static_cast<int64_t>(results.size()) * kMatricesPerShape * n_counts;
  int64_t n_done = 0;
  for (KernelTimes& times : results) {
    KernelLog log{times, progress, n_done, n_total};
    const flexq_status status = flexq_private_benchmark_kernels(
        times.shape.c_str(), times.policy.c_str(), options.get(), command.n_tokens.data(), n_counts,
        command.n_repeats, command.working_set_mib << 20, on_kernel_time, &log);
    if (status != FLEXQ_OK) return report_failure(times.shape, status);
    if (interrupt_signal() != 0) return report_interrupt();
  }
  return kExitOk;
}

// Wrong names are reported before anything is measured.
int check_names(const KernelCommand& command, const std::vector<KernelTimes>& results,
                ModelOptions& options) {
  for (const KernelTimes& times : results) {
    PrecisionOptions precision;
    precision.policy = times.policy;
    Source source;
    const int code = open_synthetic_source(times.shape, precision, source);
    if (code != kExitOk) return code;
  }
  return make_model_options(command.common, options);
}

int bench_kernels(const KernelCommand& command) {
  std::vector<KernelTimes> results;
  for (const std::string& shape : command.shapes) {
    for (const std::string& policy : command.policies)
      results.push_back({shape, policy});
  }
  ModelOptions options;
  if (const int code = check_names(command, results, options); code != kExitOk) return code;
  if (const int code = measure(command, options, results); code != kExitOk) return code;
  return print_results(command, results);
}

}  // namespace

void add_bench_kernels_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<KernelCommand>();
  CLI::App* app = parent.add_subcommand("kernels", "Speed of the linear layers of a shape");
  add_name_list(*app, "--shape", command->shapes, kShapeHelp)->required();
  add_name_list(*app, "--policy", command->policies, kPolicyHelp)->default_str("flexq");
  app->add_option("--tokens", command->n_tokens,
                  "Tokens per call: 1 as in decoding, more as in "
                  "prefill")
      ->delimiter(',')
      ->check(integer_from(1, 1 << 14))
      ->allow_extra_args(false)
      ->default_str("1,8,128")
      ->type_name("N,...");
  add_number(*app, "--repeat", command->n_repeats, "N", "Calls; the median counts")
      ->check(integer_from(1, 1000));
  add_number(*app, "--working-set", command->working_set_mib, "MIB",
             "Memory of the copies of a matrix that calls visit in turn, at least two")
      ->check(integer_from(1, 1 << 20));
  command->common.device = "cpu";
  add_common_options(*app, command->common);
  add_kernels_option(*app, command->common);
  app->footer(
      "One layer stands for all, since their shapes are equal. Calls visit copies of the matrix, "
      "so\n"
      "that no cache holds the weights of the next call, unless --working-set fits into one. The\n"
      "ratio compares a call with the same threads only reading the same bytes, in the same run;\n"
      "on CUDA with the bytes at the speed of a copy inside the device's memory, reads and writes\n"
      "counted, and calls are timed 32 at a time by the device, without the quantization of their\n"
      "input.\n"
      "Example:\n"
      "  flexq bench kernels --shape llama-2-7b,llama-3-8b --tokens 1,4,128 --policy flexq,w8a8\n"
      "JSON: {\"results\": [{\"shape\", \"policy\", \"layer\", \"rows\", \"cols\", \"format\",\n"
      "\"activation_bits\", \"kernels\", \"threads\", \"tokens\", \"weight_bytes\",\n"
      "\"microseconds\", \"read_microseconds\", \"floor_ratio\", \"bytes_per_second\",\n"
      "\"operations_per_second\"}]}");
  app->callback([command, &selected] { selected = [command] { return bench_kernels(*command); }; });
}

}  // namespace flexq_tool
