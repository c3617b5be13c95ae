// flexq bench e2e: prefill and decode speed of whole models, against what the device's tensor cores
// and memory allow.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <random>
#include <vector>

#include "commands.h"
#include "interrupt.h"
#include "kernel_benchmark_handle.h"
#include "memory_bandwidth.h"
#include "model_costs.h"
#include "precision_options.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

struct BenchCommand {
  CommonOptions common;
  PrecisionOptions precision;       // of synthetic models, but for the policy
  std::vector<std::string> models;  // paths
  std::vector<std::string> shapes;  // of synthetic models, each with every policy
  std::vector<std::string> policies = {"flexq"};
  std::string kv_type = "auto";
  std::vector<int32_t> batch_sizes = {1};
  int32_t n_prompt = 128;
  int32_t n_generate = 64;
  int32_t n_repeats = 3;
};

// A model to measure.
struct Subject {
  std::string name;   // the path or the shape, for messages
  std::string shape;  // as in the results
  Source source;
};

struct BenchResult {
  std::string shape;
  flexq_model_info info = {};
  flexq_plan plan = {};
  int32_t batch = 0;
  double prefill_tokens_per_second = 0;
  double decode_tokens_per_second = 0;
  double read_bandwidth = 0;  // bytes per second
  Operations prefill;         // of all prompts
  double prefill_seconds = 0;
  double prefill_floor_seconds = 0;  // at the tensor cores' rate; 0: not known
  double decode_bytes = 0;           // of a step, half way through the generated tokens

  // Prefill at the tensor cores' rate, as a part of the time that it took.
  double prefill_floor_ratio() const { return prefill_floor_seconds / prefill_seconds; }
  // Decode steps per second, as a part of what reading their bytes once would allow.
  double decode_floor_ratio() const {
    return decode_tokens_per_second / batch * decode_bytes / read_bandwidth;
  }
};

// What the model's device can do. read_bandwidth(): bytes per second, measured when asked for on
// the CPU, where others may use the memory too.
struct DeviceRates {
  std::function<double()> read_bandwidth;
  double int8_rate = 0;  // operations per second; 0: not known
  double fp16_rate = 0;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Speed of `batch_size` sequences that advance together through one model.
class Measurement {
 public:
  Measurement(const BenchCommand& command, const Model& model, const DeviceRates& rates,
              int32_t batch_size, int32_t n_vocab)
      : command_(command),
        model_(model),
        rates_(rates),
        batch_size_(batch_size),
        any_token_(0, n_vocab - 1) {}

  // Reports failures; returns an exit code.
  int run(BenchResult& result) {
    if (const int code = create(); code != kExitOk) return code;
    const InterruptWatcher watcher([this] { flexq_batch_cancel(batch_.get()); });
    std::vector<double> prefill;
    std::vector<double> decode;
    std::vector<double> bandwidth;
    // The first round starts the threads and fills the caches; it does not count.
    for (int32_t repeat = -1; repeat < command_.n_repeats; ++repeat) {
      double prefill_seconds = 0;
      double decode_seconds = 0;
      const double bandwidth_before = rates_.read_bandwidth();
      const flexq_status status = run_once(prefill_seconds, decode_seconds);
      if (status != FLEXQ_OK) return report_failure(result.shape, status);
      if (repeat < 0) continue;
      bandwidth.push_back(bandwidth_before);
      bandwidth.push_back(rates_.read_bandwidth());
      prefill.push_back(batch_size_ * command_.n_prompt / prefill_seconds);
      decode.push_back(batch_size_ * command_.n_generate / decode_seconds);
    }
    result.batch = batch_size_;
    result.prefill_tokens_per_second = median(prefill);
    result.decode_tokens_per_second = median(decode);
    result.read_bandwidth = median(bandwidth);
    return describe(result);
  }

 private:
  using Clock = std::chrono::steady_clock;

  int create() {
    ContextOptions options;
    if (const int code = make_context_options(command_.kv_type, options); code != kExitOk) {
      return code;
    }
    flexq_status status = flexq_context_options_set_context_tokens(
        options.get(), command_.n_prompt + command_.n_generate);
    if (status != FLEXQ_OK) return report_failure("--prompt and --generate", status);
    if (flexq_context_options_set_sequences(options.get(), batch_size_) != FLEXQ_OK) {
      return report_usage("--batch");
    }
    status = flexq_context_create(model_.get(), options.get(), Out(context_));
    if (status != FLEXQ_OK) return report_failure("--prompt and --generate", status);
    status = flexq_batch_create(Out(batch_));
    return status == FLEXQ_OK ? kExitOk : report_failure("batch", status);
  }

  // What was computed and read, and what the device could have done.
  int describe(BenchResult& result) const {
    result.plan.struct_size = sizeof result.plan;
    const flexq_status status = flexq_context_get_plan(context_.get(), &result.plan);
    if (status != FLEXQ_OK) return report_failure(result.shape, status);
    const ModelCosts costs(*model_, result.info);
    result.prefill = costs.prefill(batch_size_, command_.n_prompt);
    result.prefill_seconds = batch_size_ * command_.n_prompt / result.prefill_tokens_per_second;
    if (rates_.int8_rate > 0 && rates_.fp16_rate > 0) {
      result.prefill_floor_seconds =
          result.prefill.int8 / rates_.int8_rate + result.prefill.fp16 / rates_.fp16_rate;
    }
    // A step reads the positions before it and its own.
    const double n_positions = command_.n_prompt + (command_.n_generate + 1) / 2.0;
    result.decode_bytes =
        costs.decode_bytes(batch_size_, n_positions, result.plan.kv_bytes_per_token);
    return kExitOk;
  }

  flexq_status run_once(double& prefill_seconds, double& decode_seconds) {
    for (int32_t sequence = 0; sequence < batch_size_; ++sequence) {
      const flexq_status status = flexq_context_rewind(context_.get(), sequence, 0);
      if (status != FLEXQ_OK) return status;
    }
    random_.seed(1);
    flexq_status status = step(command_.n_prompt, prefill_seconds);
    for (int32_t i = 0; status == FLEXQ_OK && i < command_.n_generate; ++i) {
      status = step(1, decode_seconds);
    }
    return status;
  }

  // Computes n_tokens more of every sequence and the logits after them; adds the time.
  flexq_status step(int32_t n_tokens, double& seconds) {
    // Clearing takes back a cancel, so the signal is asked for after it.
    flexq_status status = flexq_batch_clear(batch_.get());
    if (interrupt_signal() != 0) flexq_batch_cancel(batch_.get());
    std::vector<int32_t> tokens(static_cast<size_t>(n_tokens));
    for (int32_t sequence = 0; status == FLEXQ_OK && sequence < batch_size_; ++sequence) {
      for (int32_t& token : tokens)
        token = any_token_(random_);
      status = flexq_batch_add(batch_.get(), sequence, tokens.data(), n_tokens, FLEXQ_OUTPUT_LAST);
    }
    if (status != FLEXQ_OK) return status;
    const Clock::time_point begin = Clock::now();
    status = flexq_context_decode(context_.get(), batch_.get());
    seconds += std::chrono::duration<double>(Clock::now() - begin).count();
    return status;
  }

  const BenchCommand& command_;
  const Model& model_;
  const DeviceRates& rates_;
  const int32_t batch_size_;
  std::uniform_int_distribution<int32_t> any_token_;
  std::mt19937 random_;
  Context context_;
  Batch batch_;
};

// "llama-2-7b" for "models/llama-2-7b.flexq" and for "models/llama-2-7b/".
std::string shape_name(const std::string& path) {
  std::filesystem::path name(path);
  if (!name.has_filename()) name = name.parent_path();
  return name.extension() == ".flexq" ? name.stem().string() : name.filename().string();
}

// Opens everything first, so that a wrong name is known before a long measurement.
int open_subjects(const BenchCommand& command, std::vector<Subject>& subjects) {
  for (const std::string& path : command.models) {
    Source source;
    if (const int code = open_source(path, command.common, source); code != kExitOk) return code;
    subjects.push_back({path, shape_name(path), std::move(source)});
  }
  for (const std::string& shape : command.shapes) {
    for (const std::string& policy : command.policies) {
      PrecisionOptions precision = command.precision;
      precision.policy = policy;
      Source source;
      const int code = open_synthetic_source(shape, precision, source);
      if (code != kExitOk) return code;
      subjects.push_back({shape, shape, std::move(source)});
    }
  }
  return kExitOk;
}

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

int bench_model(const BenchCommand& command, const Subject& subject,
                std::vector<BenchResult>& results) {
  BenchResult result;
  result.shape = subject.shape;
  Model model;
  if (const int code = load_model(subject.source, subject.name, command.common, model);
      code != kExitOk) {
    return code;
  }
  result.info.struct_size = sizeof result.info;
  const flexq_status status = flexq_model_get_info(model.get(), &result.info);
  if (status != FLEXQ_OK) return report_failure(subject.name, status);
  DeviceRates rates;
  if (const int code = measure_rates(result.info, rates); code != kExitOk) return code;
  for (const int32_t batch_size : command.batch_sizes) {
    Measurement measurement(command, model, rates, batch_size, result.info.n_vocab);
    if (const int code = measurement.run(result); code != kExitOk) return code;
    results.push_back(result);
  }
  return kExitOk;
}

nlohmann::ordered_json to_json(const BenchCommand& command, const BenchResult& result) {
  nlohmann::ordered_json row = {
      {"device", result.info.device},
      {"shape", result.shape},
      {"policy", result.info.policy},
      {"threads", result.info.n_threads},
      {"batch", result.batch},
      {"prompt_tokens", command.n_prompt},
      {"generated_tokens", command.n_generate},
      {"prefill_tokens_per_second", result.prefill_tokens_per_second},
      {"prefill_operations_per_second", result.prefill.total() / result.prefill_seconds},
      {"prefill_floor_ratio", nullptr},
      {"decode_tokens_per_second", result.decode_tokens_per_second},
      {"decode_step_bytes", result.decode_bytes},
      {"read_bandwidth_bytes_per_second", result.read_bandwidth},
      {"decode_floor_ratio", result.decode_floor_ratio()},
      {"weight_bytes", result.info.decode_weight_bytes},
      {"memory_bytes",
       {{"weights", result.plan.weight_bytes},
        {"kv", result.plan.kv_bytes},
        {"workspace", result.plan.workspace_bytes}}}};
  if (result.prefill_floor_seconds > 0) row["prefill_floor_ratio"] = result.prefill_floor_ratio();
  return row;
}

std::string giga(double value) {
  return fixed(value / 1e9, value < 1e13 ? 1 : 0);
}

int print_results(const BenchCommand& command, const std::vector<BenchResult>& results) {
  if (command.common.json) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const BenchResult& result : results)
      rows.push_back(to_json(command, result));
    return print_json({{"results", std::move(rows)}});
  }
  Table table({"model", "device", "policy", "threads", "batch", "prefill tok/s", "GOPS",
               "of the floor", "decode tok/s", "GB/s", "of the floor", "weights", "KV",
               "workspace"});
  for (const BenchResult& result : results) {
    table.add({one_line(result.shape), result.info.device, result.info.policy,
               std::to_string(result.info.n_threads), std::to_string(result.batch),
               fixed(result.prefill_tokens_per_second, 1),
               giga(result.prefill.total() / result.prefill_seconds),
               result.prefill_floor_seconds > 0 ? fixed(result.prefill_floor_ratio(), 3) : "-",
               fixed(result.decode_tokens_per_second, 1),
               giga(result.decode_floor_ratio() * result.read_bandwidth),
               fixed(result.decode_floor_ratio(), 3), format_bytes(result.plan.weight_bytes),
               format_bytes(result.plan.kv_bytes), format_bytes(result.plan.workspace_bytes)});
  }
  return print(table.text() + "prompt " + std::to_string(command.n_prompt) + " tokens, generate " +
               std::to_string(command.n_generate) + ", memory read speed " +
               format_bytes(static_cast<int64_t>(results.front().read_bandwidth)) + "/s\n");
}

int bench_e2e(const BenchCommand& command) {
  ContextOptions context_options;  // only to find out whether the value exists
  if (const int code = make_context_options(command.kv_type, context_options); code != kExitOk) {
    return code;
  }
  std::vector<Subject> subjects;
  if (const int code = open_subjects(command, subjects); code != kExitOk) return code;
  std::vector<BenchResult> results;
  for (const Subject& subject : subjects) {
    const int code = bench_model(command, subject, results);
    if (code != kExitOk) return code;
  }
  return print_results(command, results);
}

}  // namespace

void add_bench_e2e_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<BenchCommand>();
  CLI::App* app = parent.add_subcommand("e2e", "Prefill and decode speed of whole models");
  CLI::Option* model =
      app->add_option("MODEL", command->models, "Bundles or checkpoint folders")->type_name("");
  CLI::Option* shape = add_name_list(*app, "--shape", command->shapes,
                                     std::string("Random weights of the shape of ") + kShapeHelp);
  add_name_list(*app, "--policy", command->policies, std::string("With --shape: ") + kPolicyHelp)
      ->default_str("flexq")
      ->needs(shape);
  add_matrix_bits_options(*app, command->precision);
  for (const char* name : {"--embedding-bits", "--lm-head-bits"})
    app->get_option(name)->needs(shape);
  add_kv_type_option(*app, command->kv_type);
  add_kernels_option(*app, command->common);
  add_number(*app, "--prompt", command->n_prompt, "N", "Prompt tokens of each sequence")
      ->check(integer_from(1, 1 << 22));
  add_number(*app, "--generate", command->n_generate, "N", "Decode steps")
      ->check(integer_from(1, 1 << 22));
  app->add_option("--batch", command->batch_sizes, "Sequences that advance together")
      ->delimiter(',')
      ->check(integer_from(1, 1 << 16))
      ->allow_extra_args(false)
      ->default_str("1")
      ->type_name("N,...");
  add_number(*app, "--repeat", command->n_repeats, "N", "Rounds; the median counts")
      ->check(integer_from(1, 1000));
  add_common_options(*app, command->common);
  app->footer(
      "Tokens are random. The first ratio compares the time that the tensor cores need at their "
      "full\n"
      "rate (multiprocessors x clock x operations per cycle: int8 where inputs are quantized, "
      "else\n"
      "fp16; attention and lm_head included) with that of prefill; on the CPU that rate is not\n"
      "known. The second compares the time of reading a decode step's bytes once, the weights and\n"
      "the keys and values of all sequences, with that of the step. The memory's read speed is\n"
      "measured in the same run (CPU: all threads sum 1 GiB, best of 3; CUDA: a kernel that only\n"
      "reads 1 GiB); the ratio exceeds 1 where the weights fit into the processor's caches.\n"
      "Examples:\n"
      "  flexq bench e2e llama-2-7b.flexq ./llama-2-7b --batch 1,4,8 --json\n"
      "  flexq bench e2e --shape llama-2-7b --policy flexq,w8a8,fp16 --lm-head-bits 8\n"
      "  flexq bench e2e --device cuda --shape llama-2-7b --batch 1,8,32 --prompt 2048\n"
      "JSON: {\"results\": [{\"device\", \"shape\", \"policy\", \"threads\", \"batch\",\n"
      "\"prompt_tokens\", \"generated_tokens\", \"prefill_tokens_per_second\",\n"
      "\"prefill_operations_per_second\", \"prefill_floor_ratio\" (or null),\n"
      "\"decode_tokens_per_second\", \"decode_step_bytes\", \"read_bandwidth_bytes_per_second\",\n"
      "\"decode_floor_ratio\", \"weight_bytes\" (read to decode one token), \"memory_bytes\":\n"
      "{\"weights\", \"kv\", \"workspace\"}}]}");
  app->callback([command, model, shape, &selected] {
    if (model->count() + shape->count() == 0) {
      throw CLI::ValidationError("MODEL, --shape", "expected at least one of them");
    }
    selected = [command] { return bench_e2e(*command); };
  });
}

}  // namespace flexq_tool
