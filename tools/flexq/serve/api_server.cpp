#include "serve/api_server.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "serve/api_error.h"
#include "serve/api_key.h"
#include "serve/completion_response.h"
#include "serve/json_fields.h"

namespace flexq_tool {
namespace {

using nlohmann::ordered_json;

// Of nginx: the client closed the connection. Nobody sees it but the log.
constexpr int kStatusClientClosed = 499;

std::string random_id() {
  static constexpr char kDigits[] = "0123456789abcdef";
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::string id;
  for (int i = 0; i < 2; ++i) {
    for (uint64_t bits = random(), n = 0; n < 12; ++n, bits >>= 4)
      id += kDigits[bits & 15];
  }
  return id;
}

void set_error(HttpResponse& response, const ApiError& error) {
  response.status = error.status;
  response.content_type = "application/json";
  response.body = error.json();
  response.stream = nullptr;
  // Both pass within seconds.
  if (error.status == 429 || error.status == 503) response.headers.emplace_back("Retry-After", "1");
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
}

// Of the exception that is being handled.
ApiError current_error() {
  try {
    throw;
  } catch (const ApiError& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return ApiError(503, "no memory for this request");
  } catch (const std::exception& error) {
    return ApiError(500, error.what());
  }
}

ApiError shutting_down() {
  return ApiError(503, "the server is shutting down");
}

}  // namespace

ApiServer::ApiServer(const ServeOptions& options, std::string api_key, ModelSlot& models,
                     const AccessLog& log)
    : options_(options), api_key_(std::move(api_key)), models_(models), log_(log) {}

const ApiServer::Route* ApiServer::find_route(const std::string& path) {
  static constexpr Route kRoutes[] = {
      {"/v1/completions", "POST", false, &ApiServer::completions},
      {"/v1/chat/completions", "POST", false, &ApiServer::chat_completions},
      {"/v1/models", "GET", false, &ApiServer::models},
      {"/health", "GET", true, &ApiServer::health},
      {"/metrics", "GET", false, &ApiServer::metrics},
      {"/admin/reload", "POST", false, &ApiServer::reload},
  };
  const auto* route = std::find_if(std::begin(kRoutes), std::end(kRoutes),
                                   [&path](const Route& r) { return path == r.path; });
  return route == std::end(kRoutes) ? nullptr : route;
}

std::string ApiServer::error_body(int status) {
  return ApiError(status, "the request could not be read as HTTP/1.1").json();
}

void ApiServer::handle(HttpRequest& request, HttpResponse& response) {
  const auto record = std::make_shared<AccessRecord>();
  record->request_id = random_id();
  record->remote_address = request.remote_address();
  record->method = request.method();
  record->path = request.path();
  response.headers.emplace_back("X-Request-Id", record->request_id);
  ++metrics_.n_in_flight;
  response.done = [this, record](int64_t n_bytes, bool whole) {
    record->n_bytes = n_bytes;
    record->is_whole = record->is_whole && whole;
    --metrics_.n_in_flight;
    metrics_.add_http_request(record->route, record->status);
    log_.write(*record);
  };
  try {
    dispatch(request, response, record);
  } catch (const std::exception&) {
    set_error(response, current_error());
  }
  record->status = response.status;
}

void ApiServer::dispatch(HttpRequest& request, HttpResponse& response, const Record& record) {
  const Route* route = find_route(request.path());
  const bool is_admin = request.path().starts_with("/admin/");
  record->route = route != nullptr ? route->path : "other";
  if (route == nullptr || !route->is_open) check_key(request);
  // Without a key anyone who reaches the port could change the model.
  if (route == nullptr || (is_admin && api_key_.empty())) {
    throw ApiError(404, "no such endpoint: " + request.path());
  }
  const bool is_head = request.method() == "HEAD" && std::string_view(route->method) == "GET";
  if (request.method() != route->method && !is_head) {
    response.headers.emplace_back("Allow", route->method);
    throw ApiError(405, "expected " + std::string(route->method) + " for " + request.path() +
                            ", found " + request.method());
  }
  (this->*route->handler)(request, response, record);
}

void ApiServer::check_key(const HttpRequest& request) const {
  if (api_key_.empty()) return;
  const std::vector<std::string> values = request.header_values("Authorization");
  if (values.size() == 1 && is_authorized(values.front(), api_key_)) return;
  throw ApiError(401, "expected the header Authorization: Bearer with this server's API key", "",
                 "invalid_api_key");
}

std::string ApiServer::read_json_body(HttpRequest& request) const {
  for (const std::string& type : request.header_values("Content-Type")) {
    if (type != "application/json" && !type.starts_with("application/json;")) {
      throw ApiError(415, "Content-Type: expected application/json, found " + type);
    }
  }
  if (!request.header_values("Content-Encoding").empty()) {
    throw ApiError(415, "Content-Encoding: expected none");
  }
  std::string body;
  switch (request.read_body(options_.max_request_bytes, body)) {
    case HttpRequest::Body::kTooLarge:
      throw ApiError(413, "the request's body: expected at most " +
                              std::to_string(options_.max_request_bytes) + " bytes");
    case HttpRequest::Body::kBroken:
      throw ApiError(400, "the request's body did not come as its headers say");
    case HttpRequest::Body::kWhole:
      break;
  }
  return body;
}

void ApiServer::health(HttpRequest&, HttpResponse& response, const Record&) {
  if (is_draining_) throw shutting_down();
  response.body = R"({"status":"ok"})";
}

void ApiServer::metrics(HttpRequest&, HttpResponse& response, const Record&) {
  const std::shared_ptr<ServedModel> model = models_.current();
  const std::string labels = "model=" + metric_label(models_.name()) +
                             ",policy=" + metric_label(model->info().policy) +
                             ",device=" + metric_label(model->info().device);
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body =
      metrics_.text(models_.metrics(), labels, models_.n_reloads(), models_.n_failed_reloads());
}

void ApiServer::models(HttpRequest&, HttpResponse& response, const Record&) {
  const std::shared_ptr<ServedModel> model = models_.current();
  const ordered_json entry = {{"id", models_.name()},
                              {"object", "model"},
                              {"created", models_.created()},
                              {"owned_by", "flexq"},
                              {"max_model_len", model->plan().context_tokens}};
  response.body = json_text({{"object", "list"}, {"data", ordered_json::array({entry})}});
}

void ApiServer::reload(HttpRequest& request, HttpResponse& response, const Record&) {
  const std::string body = read_json_body(request);
  std::string path;
  if (!body.empty()) {
    const nlohmann::json object = parse_request_object(body);
    path = JsonFields(object).text("path").value_or("");
  }
  if (is_draining_) throw shutting_down();
  models_.reload(path);
  response.body = json_text({{"model", models_.name()}, {"created", models_.created()}});
}

void ApiServer::completions(HttpRequest& request, HttpResponse& response, const Record& record) {
  const nlohmann::json object = parse_request_object(read_json_body(request));
  complete(request, response, record, read_completion_request(object));
}

void ApiServer::chat_completions(HttpRequest& request, HttpResponse& response,
                                 const Record& record) {
  const nlohmann::json object = parse_request_object(read_json_body(request));
  complete(request, response, record, read_chat_request(object));
}

void ApiServer::complete(HttpRequest& request, HttpResponse& response, const Record& record,
                         CompletionRequest completion) {
  if (is_draining_) throw shutting_down();
  if (!completion.model.empty() && completion.model != models_.name()) {
    throw ApiError(404, "model: expected " + models_.name() + ", found " + completion.model,
                   "model", "model_not_found");
  }
  const char* const chat_template =
      options_.chat_template.empty() ? nullptr : options_.chat_template.c_str();
  const auto timeout_ms = static_cast<int64_t>(options_.timeout_seconds * 1000);
  auto answers =
      std::make_shared<Answers>(models_.current(), completion, chat_template, timeout_ms);
  if (!completion.streams) {
    complete_whole(request, response, record, completion, *answers);
    return;
  }
  response.content_type = "text/event-stream; charset=utf-8";
  response.headers.emplace_back("Cache-Control", "no-cache");
  response.headers.emplace_back("X-Accel-Buffering", "no");  // nginx passes every event on at once
  // Shared, since std::function wants to be copied.
  auto shared = std::make_shared<CompletionRequest>(std::move(completion));
  response.stream = [this, &request, record, shared, answers](HttpStream& stream) {
    complete_stream(request, stream, record, *shared, *answers);
  };
}

bool ApiServer::is_over(const HttpRequest& request) const {
  return is_cancelling_ || request.is_disconnected();
}

void ApiServer::note(const Record& record, const Answers& answers, bool is_whole) {
  const Usage usage = answers.usage();
  record->has_tokens = true;
  record->is_whole = is_whole;
  record->n_prompt_tokens = usage.prompt_tokens;
  record->n_cached_tokens = usage.cached_tokens;
  record->n_completion_tokens = usage.completion_tokens;
  const std::vector<double> first = answers.seconds_to_first_token();
  if (!first.empty()) {
    record->seconds_to_first_token = *std::min_element(first.begin(), first.end());
  }
  if (!is_whole) return;
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - record->begin;
  metrics_.add_completion(first, answers.seconds_per_output_token(), whole.count());
}

void ApiServer::complete_whole(HttpRequest& request, HttpResponse& response, const Record& record,
                               const CompletionRequest& completion, Answers& answers) {
  const bool is_chat = completion.is_chat;
  CompletionResponse body(completion, answers.model(), models_.name(),
                          (is_chat ? "chatcmpl-" : "cmpl-") + record->request_id);
  const bool is_whole = answers.run(
      [&](const AnswerPiece& piece) {
        body.add(piece);
        return true;
      },
      [&] { return is_over(request); });
  note(record, answers, is_whole);
  if (is_whole) {
    response.body = body.whole(answers.usage());
    return;
  }
  if (is_cancelling_) throw shutting_down();
  ++metrics_.n_disconnected;
  throw ApiError(kStatusClientClosed, "the client closed the connection");
}

void ApiServer::complete_stream(HttpRequest& request, HttpStream& stream, const Record& record,
                                const CompletionRequest& completion, Answers& answers) {
  const bool is_chat = completion.is_chat;
  CompletionResponse events(completion, answers.model(), models_.name(),
                            (is_chat ? "chatcmpl-" : "cmpl-") + record->request_id);
  bool is_whole = false;
  const auto write = [&stream](const std::string& text) {
    return text.empty() || stream.write(text);
  };
  try {
    is_whole = write(events.first_events()) &&
               answers.run([&](const AnswerPiece& piece) { return write(events.events(piece)); },
                           [&] { return is_over(request); });
    if (is_whole) {
      is_whole = write(events.last_events(answers.usage()) + kLastServerSentEvent);
    } else if (is_cancelling_) {
      write(server_sent_event(shutting_down().json()));
    } else {
      ++metrics_.n_disconnected;
    }
  } catch (const std::exception&) {
    // The status line is out: the error is an event, as in OpenAI's streams.
    const ApiError error = current_error();
    record->status = error.status;
    write(server_sent_event(error.json()));
  }
  note(record, answers, is_whole);
}

}  // namespace flexq_tool
