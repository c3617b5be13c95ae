// flexq run: option objects before, results after.
#include <unistd.h>

#include "run_command.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

int make_sampling(const RunCommand& command, Sampling& sampling) {
  const flexq_status status = flexq_sampling_create(Out(sampling));
  if (status != FLEXQ_OK) return report_failure("sampling", status);
  flexq_sampling* s = sampling.get();
  if (flexq_sampling_set_temperature(s, command.temperature) != FLEXQ_OK) {
    return report_usage("--temperature");
  }
  if (flexq_sampling_set_top_k(s, command.top_k) != FLEXQ_OK) return report_usage("--top-k");
  if (flexq_sampling_set_top_p(s, command.top_p) != FLEXQ_OK) return report_usage("--top-p");
  if (flexq_sampling_set_min_p(s, command.min_p) != FLEXQ_OK) return report_usage("--min-p");
  if (flexq_sampling_set_seed(s, command.seed) != FLEXQ_OK) return report_usage("--seed");
  if (flexq_sampling_set_penalties(s, command.repetition_penalty, command.presence_penalty,
                                   command.frequency_penalty, command.penalty_window) != FLEXQ_OK) {
    return report_usage("penalties");
  }
  for (const auto& [token, bias] : command.logit_bias) {
    if (flexq_sampling_set_logit_bias(s, token, bias) != FLEXQ_OK) {
      return report_usage("--logit-bias");
    }
  }
  return kExitOk;
}

const char* finish_reason_name(int32_t finish_reason) {
  switch (finish_reason) {
    case FLEXQ_FINISH_STOP:
      return "stop";
    case FLEXQ_FINISH_LENGTH:
      return "length";
    case FLEXQ_FINISH_DEADLINE:
      return "deadline";
    default:
      return "cancelled";
  }
}

double per_second(int64_t count, int64_t nanoseconds) {
  return nanoseconds > 0 ? 1e9 * static_cast<double>(count) / static_cast<double>(nanoseconds) : 0;
}

using ReadTokens = flexq_status (*)(const flexq_generator*, int32_t*, int32_t, int32_t*);

flexq_status read_tokens(ReadTokens read, const Generator& generator,
                         std::vector<int32_t>& tokens) {
  int32_t n_tokens = 0;
  flexq_status status = read(generator.get(), nullptr, 0, &n_tokens);
  if (status == FLEXQ_ERROR_BUFFER_TOO_SMALL) {
    tokens.resize(static_cast<size_t>(n_tokens));
    status = read(generator.get(), tokens.data(), n_tokens, &n_tokens);
  }
  return status;
}

flexq_status read_text(const Generator& generator, std::string& text) {
  int64_t n_bytes = 0;
  flexq_status status = flexq_generator_text(generator.get(), nullptr, 0, &n_bytes);
  if (status == FLEXQ_ERROR_BUFFER_TOO_SMALL) {
    text.resize(static_cast<size_t>(n_bytes));
    status = flexq_generator_text(generator.get(), text.data(), n_bytes, &n_bytes);
  }
  return status;
}

}  // namespace

int make_generator_options(const RunCommand& command, GeneratorOptions& options) {
  Sampling sampling;
  if (const int code = make_sampling(command, sampling); code != kExitOk) return code;
  flexq_status status = flexq_generator_options_create(Out(options));
  if (status != FLEXQ_OK) return report_failure("generator options", status);
  flexq_generator_options* o = options.get();
  status = flexq_generator_options_set_sampling(o, sampling.get());
  if (status != FLEXQ_OK) return report_failure("sampling", status);
  if (flexq_generator_options_set_max_tokens(o, command.max_tokens) != FLEXQ_OK) {
    return report_usage("--max-tokens");
  }
  if (flexq_generator_options_set_deadline(o, command.deadline_ms) != FLEXQ_OK) {
    return report_usage("--deadline-ms");
  }
  if (flexq_generator_options_set_format(o, command.format.c_str()) != FLEXQ_OK) {
    return report_usage("--format");
  }
  if (command.n_log_probs >= 0 &&
      flexq_generator_options_set_log_probs(o, command.n_log_probs) != FLEXQ_OK) {
    return report_usage("--log-probs");
  }
  for (const std::string& stop : command.stop) {
    if (flexq_generator_options_add_stop(o, stop.data(), static_cast<int64_t>(stop.size())) !=
        FLEXQ_OK) {
      return report_usage("--stop");
    }
  }
  flexq_generator_options_set_ignore_end(o, command.ignore_eos ? 1 : 0);
  return kExitOk;
}

int collect_result(const Context& context, const Generator& generator, RunResult& result) {
  result.stats.struct_size = sizeof result.stats;
  result.plan.struct_size = sizeof result.plan;
  flexq_context_counters counters = {};
  counters.struct_size = sizeof counters;
  flexq_status status = flexq_generator_get_stats(generator.get(), &result.stats);
  if (status == FLEXQ_OK) status = flexq_context_get_plan(context.get(), &result.plan);
  if (status == FLEXQ_OK) status = flexq_context_get_counters(context.get(), &counters);
  if (status == FLEXQ_OK) {
    status = read_tokens(flexq_generator_prompt_tokens, generator, result.prompt_tokens);
  }
  if (status == FLEXQ_OK) status = read_tokens(flexq_generator_tokens, generator, result.tokens);
  if (status == FLEXQ_OK) status = read_text(generator, result.text);
  if (status != FLEXQ_OK) return report_failure("result", status);
  result.finish_reason = finish_reason_name(result.stats.finish_reason);
  result.prefill_tokens_per_second =
      per_second(result.stats.n_prompt_tokens, result.stats.prefill_ns);
  // The first token comes out of the prompt's logits, so decoding computes fewer tokens than it
  // generates.
  result.decode_tokens_per_second =
      per_second(counters.tokens_computed - result.stats.n_prompt_tokens, result.stats.decode_ns);
  return kExitOk;
}

int print_run_json(const RunCommand& command, const RunResult& result) {
  nlohmann::ordered_json json = {{"text", result.text},
                                 {"prompt_tokens", result.prompt_tokens},
                                 {"tokens", result.tokens},
                                 {"finish_reason", result.finish_reason},
                                 {"prefill_tokens_per_second", result.prefill_tokens_per_second},
                                 {"decode_tokens_per_second", result.decode_tokens_per_second}};
  if (command.n_log_probs >= 0) {
    json["log_probs"] = nlohmann::ordered_json::array();
    for (const TokenLogProbs& entry : result.log_probs) {
      nlohmann::ordered_json alternatives = nlohmann::ordered_json::array();
      for (const auto& [token, log_prob] : entry.alternatives) {
        alternatives.push_back({{"token", token}, {"log_prob", log_prob}});
      }
      json["log_probs"].push_back({{"token", entry.token},
                                   {"log_prob", entry.log_prob},
                                   {"alternatives", std::move(alternatives)}});
    }
  }
  return print_json(json);
}

void print_run_stats(const RunResult& result) {
  const flexq_generator_stats& stats = result.stats;
  const flexq_plan& plan = result.plan;
  const auto milliseconds = [](int64_t ns) { return fixed(static_cast<double>(ns) / 1e6, 1); };
  Table speed({"", "tokens", "ms", "tokens/s"});
  speed.add({"prefill", std::to_string(stats.n_prompt_tokens), milliseconds(stats.prefill_ns),
             fixed(result.prefill_tokens_per_second, 1)});
  speed.add({"decode", std::to_string(stats.n_generated_tokens), milliseconds(stats.decode_ns),
             fixed(result.decode_tokens_per_second, 1)});
  speed.add({"first token", "", milliseconds(stats.time_to_first_token_ns), ""});
  Table memory({"memory on " + std::string(plan.device), ""});
  memory.add({"weights", format_bytes(plan.weight_bytes)});
  memory.add({"KV cache, " + std::to_string(plan.context_tokens) + " tokens",
              format_bytes(plan.kv_bytes)});
  memory.add({"workspace", format_bytes(plan.workspace_bytes)});
  memory.add({"total", format_bytes(plan.total_bytes)});
  (void)write_all(STDERR_FILENO,
                  speed.text() + memory.text() + "finish reason: " + result.finish_reason + "\n");
}

}  // namespace flexq_tool
