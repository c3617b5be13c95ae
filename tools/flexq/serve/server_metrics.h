// What the server counts and times, in Prometheus' text format.
#pragma once

#include <flexq.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace flexq_tool {

// Counts of values up to each bound, and their sum. For one thread at a time.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);
  void add(double value);
  // With its HELP and TYPE lines.
  std::string text(const std::string& name, const std::string& help) const;

 private:
  std::vector<double> bounds_;   // ascending
  std::vector<int64_t> counts_;  // one more: beyond the last bound
  double sum_ = 0;
  int64_t n_ = 0;
};

// For any number of threads.
class ServerMetrics {
 public:
  ServerMetrics();

  void add_http_request(const std::string& route, int status);
  void add_completion(const std::vector<double>& seconds_to_first_token,
                      const std::vector<double>& seconds_per_output_token, double seconds);

  // All of it with what the engines say. model_labels: "model=\"...\",device=\"...\"".
  std::string text(const flexq_engine_metrics& engines, const std::string& model_labels,
                   int64_t n_reloads, int64_t n_failed_reloads) const;

  std::atomic<int64_t> n_in_flight = 0;     // HTTP requests
  std::atomic<int64_t> n_disconnected = 0;  // completions whose client went

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> http_requests_;
  Histogram to_first_token_;
  Histogram per_output_token_;
  Histogram whole_;
};

// A label's value, quoted.
std::string metric_label(const std::string& value);

}  // namespace flexq_tool
