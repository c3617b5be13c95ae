// flexq bench kernels: each linear layer of a shape alone, against reading its weights and against
// other libraries.
#include <charconv>
#include <memory>
#include <vector>

#include "commands.h"
#include "interrupt.h"
#include "kernel_benchmark_handle.h"
#include "kernel_report.h"
#include "precision_options.h"
#include "progress_bar.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

struct KernelCommand {
  CommonOptions common;
  std::vector<std::string> shapes;
  std::vector<std::string> matrices;  // "57344x8192"
  std::vector<std::string> policies = {"flexq"};
  std::vector<int32_t> n_tokens = {1, 8, 128};
  std::vector<std::string> baselines = {"all"};
  int32_t n_repeats = 7;
  int64_t working_set_mib = 0;
  bool tune = false;
  bool markdown = false;
};

// Rows and columns of "57344x8192"; false for anything else.
bool parse_matrix(std::string_view text, int64_t& rows, int64_t& cols) {
  const size_t x = text.find('x');
  if (x == std::string_view::npos) return false;
  const auto parse = [](std::string_view digits, int64_t& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size() && value > 0;
  };
  return parse(text.substr(0, x), rows) && parse(text.substr(x + 1), cols);
}

CLI::Validator baseline_name() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        std::string known = "all, none";
        if (text == "all" || text == "none") return "";
        for (int32_t i = 0; i < FLEXQ_KERNEL_BASELINES; ++i) {
          if (text == flexq_private_baseline_name(i)) return "";
          known += std::string(", ") + flexq_private_baseline_name(i);
        }
        return "expected one of " + known + ", found \"" + text + "\"";
      },
      "");
}

CLI::Validator matrix_size_text() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        int64_t rows = 0;
        int64_t cols = 0;
        if (parse_matrix(text, rows, cols)) return "";
        return "expected ROWSxCOLUMNS as in 4096x11008, found \"" + text + "\"";
      },
      "");
}

// What the callback of a measurement fills; user_data.
struct KernelLog {
  KernelTimes& times;
  ProgressBar& progress;
  int64_t n_before;  // of n_runs measurements of a shape and policy
  int64_t n_runs;
};

int32_t on_kernel_time(const flexq_kernel_time* time, int64_t done, int64_t total,
                       void* user_data) {
  auto* log = static_cast<KernelLog*>(user_data);
  log->times.rows.push_back(*time);
  return ProgressBar::callback(log->n_before * total + done, log->n_runs * total, &log->progress);
}

int measure(const KernelCommand& command, const KernelBenchmark& benchmark,
            std::vector<KernelTimes>& results) {
  ProgressBar progress("measuring");
  const auto n_runs = static_cast<int64_t>(results.size());
  for (int64_t i = 0; i < n_runs; ++i) {
    KernelTimes& times = results[static_cast<size_t>(i)];
    flexq_kernel_request request = {};
    request.struct_size = sizeof request;
    request.repeats = command.n_repeats;
    request.shape = times.shape.c_str();
    request.policy = times.policy.c_str();
    if (times.is_matrix) parse_matrix(times.shape, request.rows, request.cols);
    request.n_tokens = command.n_tokens.data();
    request.n_token_counts = static_cast<int32_t>(command.n_tokens.size());
    request.tune = command.tune ? 1 : 0;
    request.working_set_bytes = command.working_set_mib << 20;
    KernelLog log{times, progress, i, n_runs};
    const flexq_status status =
        flexq_private_kernel_benchmark_run(benchmark.get(), &request, on_kernel_time, &log);
    if (status != FLEXQ_OK) return report_failure(times.shape, status);
    if (interrupt_signal() != 0) return report_interrupt();
  }
  return kExitOk;
}

// Wrong names are reported before anything is measured.
int check_names(const KernelCommand& command) {
  const std::vector<std::string> any_shape = {"tinyllama-1.1b"};
  for (const std::string& shape : command.shapes.empty() ? any_shape : command.shapes) {
    for (const std::string& policy : command.policies) {
      PrecisionOptions precision;
      precision.policy = policy;
      Source source;
      const int code = open_synthetic_source(shape, precision, source);
      if (code != kExitOk) return code;
    }
  }
  return kExitOk;
}

int open_benchmark(const KernelCommand& command, KernelBenchmark& benchmark,
                   flexq_kernel_machine& machine) {
  ModelOptions options;
  if (const int code = make_model_options(command.common, options); code != kExitOk) return code;
  std::string baselines;
  for (const std::string& name : command.baselines)
    baselines += (baselines.empty() ? "" : ",") + name;
  flexq_status status = flexq_private_kernel_benchmark_create(
      options.get(), command.tune ? "none" : baselines.c_str(), Out(benchmark));
  if (status != FLEXQ_OK) return report_failure(command.common.device, status);
  machine.struct_size = sizeof machine;
  status = flexq_private_kernel_benchmark_machine(benchmark.get(), &machine);
  return status == FLEXQ_OK ? kExitOk : report_failure(command.common.device, status);
}

int bench_kernels(const KernelCommand& command) {
  if (const int code = check_names(command); code != kExitOk) return code;
  std::vector<KernelTimes> results;
  for (const std::string& shape : command.shapes) {
    for (const std::string& policy : command.policies)
      results.push_back({shape, policy});
  }
  for (const std::string& policy : command.policies) {
    for (const std::string& matrix : command.matrices)
      results.push_back({matrix, policy, /*is_matrix=*/true});
  }
  KernelBenchmark benchmark;
  flexq_kernel_machine machine = {};
  if (const int code = open_benchmark(command, benchmark, machine); code != kExitOk) return code;
  if (const int code = measure(command, benchmark, results); code != kExitOk) return code;
  if (command.common.json) {
    return print_json(command.tune ? tuning_json(machine, results) : kernel_json(machine, results));
  }
  return print(command.tune ? tuning_tables(machine, results, command.markdown)
                            : kernel_tables(machine, results, command.markdown));
}

constexpr char kFooter[] =
    "One layer stands for all, and layers of one shape and precision are measured once. Calls\n"
    "visit copies of the matrix, so that no cache holds the weights of the next call, unless\n"
    "--working-set fits into one. On CUDA a measurement is a graph of many calls, timed by\n"
    "the device; quantizing the input belongs to it where the kernel does so itself. The\n"
    "floor is the weights' bytes at the speed at which the device reads 1 GiB (the best of\n"
    "several passes), read-only a kernel that reads this very matrix and does nothing else;\n"
    "the ratio compares a call with the floor. All is measured in the same run.\n"
    "Baselines are products of cuBLASLt: fp16 (sums in fp32), int8 (to int32, without\n"
    "scales), fp8 (e4m3), and w8a8-row: int8 with a scale per token and per output channel,\n"
    "as SmoothQuant. The library is looked for at the path in FLEXQ_CUBLASLT (a file or a\n"
    "folder), then where the loader finds libcublasLt.so.13 or .12, then in\n"
    "/usr/local/cuda/lib64.\n"
    "--tune times every configuration of the kernels that can compute a layer, and shows what\n"
    "FlexQ's own choice loses against the fastest and the table that the fastest would make.\n"
    "Examples:\n"
    "  flexq bench kernels --shape llama-2-7b,llama-3-8b --tokens 1,4,128 --policy flexq,w8a8\n"
    "  flexq bench kernels --device cuda --matrix 57344x8192,8192x28672 --tokens 1,16,4096\n"
    "  flexq bench kernels --device cuda --shape llama-2-7b --baselines int8,fp16 --markdown\n"
    "  flexq bench kernels --device cuda --matrix 12288x4096 --tokens 1,2,4,8,16,32,64 --tune\n"
    "JSON: {\"device\", \"name\", \"kernels\", \"threads\",\n"
    "\"read_bandwidth_bytes_per_second\", \"baselines\" (the library, or null),\n"
    "\"no_baselines\" (why, or null), \"results\": [{\"shape\", \"policy\", \"layer\",\n"
    "\"rows\", \"cols\", \"format\", \"activation_bits\", \"kernels\", \"tokens\",\n"
    "\"weight_bytes\", \"microseconds\", \"floor_microseconds\", \"floor_ratio\",\n"
    "\"read_microseconds\", \"bytes_per_second\", \"operations_per_second\",\n"
    "\"baselines\": {NAME: {\"microseconds\", \"speedup\"}}}]}; with --tune in the\n"
    "place of results \"tuning\": [{\"shape\", ... \"weight_bytes\", \"chosen\",\n"
    "\"fastest\", \"loss\", \"microseconds\": {CONFIGURATION: N}}], \"table\":\n"
    "[{\"policy\", \"rows\", \"cols\", \"format\", \"activation_bits\", \"first_tokens\",\n"
    "\"last_tokens\", \"configuration\"}]";

}  // namespace

void add_bench_kernels_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<KernelCommand>();
  CLI::App* app = parent.add_subcommand("kernels", "Speed of linear layers, beside the field's");
  CLI::Option* shape = add_name_list(*app, "--shape", command->shapes, kShapeHelp);
  CLI::Option* matrix =
      app->add_option("--matrix", command->matrices, "Matrices of these rows and columns")
          ->delimiter(',')
          ->allow_extra_args(false)
          ->check(matrix_size_text())
          ->type_name("NxK,...");
  add_name_list(*app, "--policy", command->policies, kPolicyHelp)->default_str("flexq");
  app->add_option("--tokens", command->n_tokens,
                  "Tokens per call: 1 as in decoding, more as in prefill")
      ->delimiter(',')
      ->check(integer_from(1, 1 << 14))
      ->allow_extra_args(false)
      ->default_str("1,8,128")
      ->type_name("N,...");
  add_name_list(*app, "--baselines", command->baselines,
                "all, none, or some of fp16, int8, fp8, w8a8-row")
      ->check(baseline_name())
      ->default_str("all");
  app->add_flag("--tune", command->tune, "Time every configuration of the kernels");
  app->add_flag("--markdown", command->markdown, "Tables in Markdown");
  add_number(*app, "--repeat", command->n_repeats, "N", "Measurements; the median counts")
      ->check(integer_from(1, 1000));
  app->add_option("--working-set", command->working_set_mib,
                  "Memory of the copies of a matrix that calls visit in turn, two at least; by "
                  "default 1024 on the CPU, 256 elsewhere")
      ->check(integer_from(1, 1 << 20))
      ->type_name("MIB");
  command->common.device = "cpu";
  add_common_options(*app, command->common);
  add_kernels_option(*app, command->common);
  app->footer(kFooter);
  app->callback([command, shape, matrix, &selected] {
    if (shape->count() + matrix->count() == 0) {
      throw CLI::ValidationError("--shape, --matrix", "expected at least one of them");
    }
    selected = [command] { return bench_kernels(*command); };
  });
}

}  // namespace flexq_tool
