// flexq run: the options, and the result of a run.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "session_file.h"
#include "tool_options.h"

namespace flexq_tool {

struct RunCommand {
  CommonOptions common;
  std::string model;
  std::string prompt;
  std::string prompt_file;
  bool reads_prompt_file = false;
  SessionFiles session;
  int32_t max_tokens = 256;
  int32_t context_tokens = 0;
  std::string kv_type = "auto";
  int64_t deadline_ms = 0;
  float temperature = 0;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  uint64_t seed = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  int32_t penalty_window = 64;
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<std::string> stop;
  std::string format = "text";
  int32_t n_log_probs = -1;  // -1: none wanted
  bool ignore_eos = false;
  bool parse_special = false;
  bool no_bos = false;
  bool echo = false;
  bool stats = false;
};

// One generated token with its alternatives, most probable first.
struct TokenLogProbs {
  int32_t token;
  float log_prob;
  std::vector<std::pair<int32_t, float>> alternatives;
};

struct RunResult {
  std::string text;
  std::vector<int32_t> prompt_tokens;
  std::vector<int32_t> tokens;
  std::vector<TokenLogProbs> log_probs;
  const char* finish_reason = "";
  double prefill_tokens_per_second = 0;  // 0 where nothing was measured
  double decode_tokens_per_second = 0;
  flexq_generator_stats stats = {};
  flexq_plan plan = {};
};

// The command line's sampling options, into `command`.
void add_sampling_options(CLI::App& app, RunCommand& command);

// --format.
void add_format_option(CLI::App& app, RunCommand& command);

// The context that --context asks for. Returns an exit code.
int create_context(const RunCommand& command, const Model& model, Context& context);

// Sampling and generator options from the command line. Values that the library refuses are
// reported as wrong usage. Returns an exit code.
int make_generator_options(const RunCommand& command, GeneratorOptions& options);

// Text, tokens, reason and speed of a generator that has ended. Returns an exit code.
int collect_result(const Context& context, const Generator& generator, RunResult& result);

// The JSON object on standard output.
int print_run_json(const RunCommand& command, const RunResult& result);

// Speed and memory, as a table on standard error.
void print_run_stats(const RunResult& result);

}  // namespace flexq_tool
