// What a load test found.
#pragma once

#include <flexq.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "load/load_run.h"

namespace flexq_tool {

// Seconds. Of n values the ceil(p n / 100)-th smallest.
struct Percentiles {
  double p50 = 0;
  double p90 = 0;
  double p95 = 0;
  double p99 = 0;
};

Percentiles percentiles(std::vector<double> values);

// What only an engine in the same process tells: its work during the test, and what reading that
// work's bytes takes at least.
struct EngineWork {
  flexq_engine_metrics metrics = {};  // during the test
  double read_bandwidth = 0;          // bytes per second
  double bytes = 0;  // the weights once a step, and the keys and values before each generated token
  double floor_ratio() const {
    return metrics.step_ns > 0
               ? bytes / read_bandwidth / (static_cast<double>(metrics.step_ns) / 1e9)
               : 0;
  }
};

struct LoadReport {
  std::string name;    // of the model
  std::string device;  // empty: not known
  int64_t n_done = 0;
  int64_t n_refused = 0;
  int64_t n_failed = 0;
  std::string first_error;
  int64_t n_prompt_tokens = 0;  // of what was done, as the rest
  int64_t n_generated_tokens = 0;
  double seconds = 0;
  Percentiles to_first_token;
  Percentiles per_output_token;
  Percentiles whole;
  std::optional<EngineWork> engine;
};

// Counts and percentiles; `requests` are those that the result is of.
LoadReport summarize(const std::vector<LoadRequest>& requests, const LoadResult& result);

nlohmann::ordered_json load_report_json(const LoadReport& report);
std::string load_report_text(const LoadReport& report);

}  // namespace flexq_tool
