#include "load/load_report.h"

#include <algorithm>
#include <cmath>

#include "text_format.h"

namespace flexq_tool {
namespace {

using nlohmann::ordered_json;

double seconds_between(LoadSample::Clock::time_point begin, LoadSample::Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

ordered_json to_json(const Percentiles& values) {
  return {{"p50", values.p50}, {"p90", values.p90}, {"p95", values.p95}, {"p99", values.p99}};
}

double rate(int64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

}  // namespace

Percentiles percentiles(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&values](double percent) {
    const double rank = std::ceil(percent / 100 * static_cast<double>(values.size()));
    return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
  };
  return {at(50), at(90), at(95), at(99)};
}

LoadReport summarize(const std::vector<LoadRequest>& requests, const LoadResult& result) {
  LoadReport report;
  report.seconds = result.seconds;
  std::vector<double> to_first_token;
  std::vector<double> per_output_token;
  std::vector<double> whole;
  for (size_t i = 0; i < result.samples.size(); ++i) {
    const LoadSample& sample = result.samples[i];
    if (sample.is_refused) {
      ++report.n_refused;
      continue;
    }
    if (!sample.error.empty() || sample.n_generated == 0) {
      if (report.n_failed++ == 0) report.first_error = sample.error;
      continue;
    }
    ++report.n_done;
    report.n_prompt_tokens += static_cast<int64_t>(requests[i].prompt.size());
    report.n_generated_tokens += sample.n_generated;
    to_first_token.push_back(seconds_between(sample.begin, sample.first_token));
    whole.push_back(seconds_between(sample.begin, sample.end));
    if (sample.n_generated > 1) {
      per_output_token.push_back(seconds_between(sample.first_token, sample.end) /
                                 static_cast<double>(sample.n_generated - 1));
    }
  }
  report.to_first_token = percentiles(std::move(to_first_token));
  report.per_output_token = percentiles(std::move(per_output_token));
  report.whole = percentiles(std::move(whole));
  return report;
}

ordered_json load_report_json(const LoadReport& report) {
  ordered_json json = {
      {"model", report.name},
      {"device", report.device},
      {"requests", report.n_done},
      {"refused", report.n_refused},
      {"failed", report.n_failed},
      {"seconds", report.seconds},
      {"requests_per_second", rate(report.n_done, report.seconds)},
      {"prompt_tokens_per_second", rate(report.n_prompt_tokens, report.seconds)},
      {"generated_tokens_per_second", rate(report.n_generated_tokens, report.seconds)},
      {"time_to_first_token_seconds", to_json(report.to_first_token)},
      {"time_per_output_token_seconds", to_json(report.per_output_token)},
      {"latency_seconds", to_json(report.whole)}};
  if (report.device.empty()) json["device"] = nullptr;
  if (report.engine) {
    const flexq_engine_metrics& metrics = report.engine->metrics;
    json["steps"] = metrics.n_steps;
    json["step_seconds"] = static_cast<double>(metrics.step_ns) / 1e9;
    json["reused_prompt_tokens"] = metrics.reused_tokens;
    json["computed_tokens"] = metrics.computed_tokens;
    json["preemptions"] = metrics.n_preemptions;
    json["read_bandwidth_bytes_per_second"] = report.engine->read_bandwidth;
    json["floor_ratio"] = report.engine->floor_ratio();
  }
  return json;
}

std::string load_report_text(const LoadReport& report) {
  Table times({"milliseconds", "p50", "p90", "p95", "p99"});
  const auto add = [&times](const char* name, const Percentiles& values) {
    times.add({name, fixed(values.p50 * 1e3, 2), fixed(values.p90 * 1e3, 2),
               fixed(values.p95 * 1e3, 2), fixed(values.p99 * 1e3, 2)});
  };
  add("time to first token", report.to_first_token);
  add("time per output token", report.per_output_token);
  add("latency", report.whole);
  std::string text = one_line(report.name) + (report.device.empty() ? "" : " on " + report.device) +
                     ": " + std::to_string(report.n_done) + " requests in " +
                     fixed(report.seconds, 2) + " s, " + std::to_string(report.n_refused) +
                     " refused, " + std::to_string(report.n_failed) + " failed\n" + times.text();
  text += "per second: " + fixed(rate(report.n_done, report.seconds), 2) + " requests, " +
          fixed(rate(report.n_generated_tokens, report.seconds), 1) + " generated tokens, " +
          fixed(rate(report.n_prompt_tokens, report.seconds), 1) + " prompt tokens\n";
  if (!report.engine) return text;
  const flexq_engine_metrics& metrics = report.engine->metrics;
  return text + std::to_string(metrics.n_steps) + " steps, " +
         std::to_string(metrics.reused_tokens) + " prompt tokens reused, " +
         std::to_string(metrics.n_preemptions) + " preemptions, " +
         fixed(report.engine->floor_ratio(), 3) + " of the floor at " +
         format_bytes(static_cast<int64_t>(report.engine->read_bandwidth)) + "/s\n";
}

}  // namespace flexq_tool
