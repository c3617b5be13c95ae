#include "load/url_target.h"

#include <nlohmann/json.hpp>

#include "interrupt.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

using nlohmann::json;

// Reads a stream of server-sent events as it comes.
class EventReader {
 public:
  explicit EventReader(LoadSample& sample) : sample_(sample) {}

  bool add(std::string_view bytes) {
    buffer_ += bytes;
    for (size_t end; (end = buffer_.find("\n\n")) != std::string::npos;) {
      if (buffer_.starts_with("data: {"))
        read(json::parse(buffer_.substr(6, end - 6), nullptr, false));
      buffer_.erase(0, end + 2);
    }
    return interrupt_signal() == 0;
  }

 private:
  void read(const json& event) {
    if (!event.is_object()) return;
    if (const auto error = event.find("error"); error != event.end()) {
      sample_.error = error->dump(-1, ' ', false, json::error_handler_t::replace);
    }
    if (const auto usage = event.find("usage"); usage != event.end() && usage->is_object()) {
      sample_.n_generated = usage->value("completion_tokens", int64_t{0});
    }
    const auto choices = event.find("choices");
    if (choices == event.end() || !choices->is_array() || choices->empty()) return;
    sample_.end = LoadSample::Clock::now();
    if (!has_token_) sample_.first_token = sample_.end;
    has_token_ = true;
  }

  LoadSample& sample_;
  std::string buffer_;
  bool has_token_ = false;
};

class UrlClient final : public LoadClient {
 public:
  UrlClient(std::unique_ptr<HttpClient> client, const HttpHeaders& headers, std::string model)
      : client_(std::move(client)), headers_(headers), model_(std::move(model)) {}

  LoadSample run(const LoadRequest& request) override {
    LoadSample sample;
    const json body = {{"model", model_},
                       {"prompt", request.prompt},
                       {"max_tokens", request.n_generate},
                       {"temperature", 0},
                       {"ignore_eos", true},
                       {"stream", true},
                       {"stream_options", {{"include_usage", true}}}};
    const std::string text = body.dump();
    EventReader events(sample);
    std::string answer;
    sample.begin = LoadSample::Clock::now();
    const int status = client_->post(
        "/v1/completions", headers_, text,
        [&events](std::string_view bytes) { return events.add(bytes); }, answer);
    if (sample.end < sample.begin) sample.end = LoadSample::Clock::now();
    sample.is_refused = status == 429;
    if (status != 200 && !sample.is_refused) {
      sample.error = "status " + std::to_string(status) + ": " + answer;
    }
    return sample;
  }

 private:
  std::unique_ptr<HttpClient> client_;
  const HttpHeaders& headers_;
  const std::string model_;
};

}  // namespace

UrlTarget::UrlTarget(const HttpTransport& transport, std::string url, const std::string& api_key)
    : transport_(transport), url_(std::move(url)) {
  if (!api_key.empty()) headers_.emplace_back("Authorization", "Bearer " + api_key);
}

int UrlTarget::connect() {
  std::string error;
  const std::unique_ptr<HttpClient> client = transport_.create_client(url_, error);
  if (!client) {
    report_failure("--url", std::string_view(error));
    return kExitUsage;
  }
  std::string body;
  const int status = client->get("/v1/models", headers_, body);
  if (status != 200) {
    return report_failure(url_ + "/v1/models", "status " + std::to_string(status) + ": " + body);
  }
  const json models = json::parse(body, nullptr, false);
  const json::json_pointer first("/data/0/id");
  if (!models.is_object() || !models.contains(first) || !models.at(first).is_string()) {
    return report_failure(url_ + "/v1/models", std::string_view("expected a list of models"));
  }
  model_ = models.at(first).get<std::string>();
  return kExitOk;
}

std::unique_ptr<LoadClient> UrlTarget::make_client() {
  std::string error;
  return std::make_unique<UrlClient>(transport_.create_client(url_, error), headers_, model_);
}

}  // namespace flexq_tool
