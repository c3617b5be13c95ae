#include "serve/server_metrics.h"

#include <algorithm>

#include "text_format.h"

namespace flexq_tool {
namespace {

std::string head(const std::string& name, const char* type, const std::string& help) {
  return "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

std::string sample(const std::string& name, const std::string& labels, const std::string& value) {
  return name + (labels.empty() ? "" : "{" + labels + "}") + " " + value + "\n";
}

std::string counter(const std::string& name, const std::string& help, int64_t value) {
  return head(name, "counter", help) + sample(name, "", std::to_string(value));
}

std::string gauge(const std::string& name, const std::string& help, int64_t value) {
  return head(name, "gauge", help) + sample(name, "", std::to_string(value));
}

std::string engine_text(const flexq_engine_metrics& m) {
  std::string text =
      gauge("flexq_requests_waiting", "Engine requests without a place.", m.n_waiting) +
      gauge("flexq_requests_running", "Engine requests with a place.", m.n_running) +
      gauge("flexq_kv_pages", "KV cache pages.", m.pages_total) +
      gauge("flexq_kv_pages_used", "KV cache pages that requests use.", m.pages_used) +
      gauge("flexq_kv_pages_cached", "KV cache pages kept for prompts to come.", m.pages_cached);
  const std::string ended = "flexq_requests_ended_total";
  text += head(ended, "counter", "Engine requests that ended.");
  const std::pair<const char*, int64_t> outcomes[] = {{"finished", m.n_finished},
                                                      {"cancelled", m.n_cancelled},
                                                      {"deadline", m.n_deadline},
                                                      {"failed", m.n_failed},
                                                      {"refused", m.n_refused}};
  for (const auto& [outcome, count] : outcomes) {
    text += sample(ended, "outcome=" + metric_label(outcome), std::to_string(count));
  }
  return text +
         counter("flexq_requests_submitted_total", "Engine requests that were accepted.",
                 m.n_submitted) +
         counter("flexq_preemptions_total", "Requests whose pages were given up for others.",
                 m.n_preemptions) +
         counter("flexq_prompt_tokens_total", "Prompt tokens of requests that had a place.",
                 m.prompt_tokens) +
         counter("flexq_reused_prompt_tokens_total", "Prompt tokens that were in the cache.",
                 m.reused_tokens) +
         counter("flexq_computed_tokens_total", "Tokens through the model.", m.computed_tokens) +
         counter("flexq_generated_tokens_total", "Tokens generated.", m.generated_tokens) +
         counter("flexq_steps_total", "Steps of the engine.", m.n_steps) +
         head("flexq_step_seconds_total", "counter", "Time in steps.") +
         sample("flexq_step_seconds_total", "",
                short_number(static_cast<double>(m.step_ns) / 1e9, 12));
}

}  // namespace

std::string metric_label(const std::string& value) {
  std::string text = "\"";
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + "\"";
}

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::add(double value) {
  const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<size_t>(bound - bounds_.begin())];
  sum_ += value;
  ++n_;
}

std::string Histogram::text(const std::string& name, const std::string& help) const {
  std::string text = head(name, "histogram", help);
  int64_t count = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    count += counts_[i];
    text += sample(name + "_bucket", "le=" + metric_label(short_number(bounds_[i])),
                   std::to_string(count));
  }
  return text + sample(name + "_bucket", "le=\"+Inf\"", std::to_string(n_)) +
         sample(name + "_sum", "", short_number(sum_, 12)) +
         sample(name + "_count", "", std::to_string(n_));
}

ServerMetrics::ServerMetrics()
    : to_first_token_({.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}),
      per_output_token_({.001, .0025, .005, .01, .02, .03, .05, .075, .1, .2, .5, 1}),
      whole_({.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}) {}

void ServerMetrics::add_http_request(const std::string& route, int status) {
  const std::lock_guard lock(mutex_);
  ++http_requests_[{route, status}];
}

void ServerMetrics::add_completion(const std::vector<double>& seconds_to_first_token,
                                   const std::vector<double>& seconds_per_output_token,
                                   double seconds) {
  const std::lock_guard lock(mutex_);
  for (const double value : seconds_to_first_token)
    to_first_token_.add(value);
  for (const double value : seconds_per_output_token)
    per_output_token_.add(value);
  whole_.add(seconds);
}

std::string ServerMetrics::text(const flexq_engine_metrics& engines,
                                const std::string& model_labels, int64_t n_reloads,
                                int64_t n_failed_reloads) const {
  const std::lock_guard lock(mutex_);
  std::string text = head("flexq_model_info", "gauge", "The model that new requests go to.") +
                     sample("flexq_model_info", model_labels, "1");
  text +=
      head("flexq_model_reloads_total", "counter", "Models loaded after the first.") +
      sample("flexq_model_reloads_total", "result=\"done\"", std::to_string(n_reloads)) +
      sample("flexq_model_reloads_total", "result=\"failed\"", std::to_string(n_failed_reloads));
  text += engine_text(engines);
  text += gauge("flexq_http_requests_in_flight", "HTTP requests being answered.", n_in_flight);
  text += counter("flexq_http_disconnects_total", "Completions whose client went before the end.",
                  n_disconnected);
  text += head("flexq_http_requests_total", "counter", "HTTP requests answered.");
  for (const auto& [key, count] : http_requests_) {
    text += sample(
        "flexq_http_requests_total",
        "route=" + metric_label(key.first) + ",status=" + metric_label(std::to_string(key.second)),
        std::to_string(count));
  }
  return text +
         to_first_token_.text("flexq_time_to_first_token_seconds",
                              "From the request to the first token of an answer.") +
         per_output_token_.text("flexq_time_per_output_token_seconds",
                                "Mean time between the tokens of an answer.") +
         whole_.text("flexq_completion_seconds", "From the request to the end of its answers.");
}

}  // namespace flexq_tool
