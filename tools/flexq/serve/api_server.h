// The endpoints: what a request to each path is answered with.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "http/http_transport.h"
#include "serve/access_log.h"
#include "serve/answers.h"
#include "serve/model_slot.h"
#include "serve/serve_options.h"
#include "serve/server_metrics.h"

namespace flexq_tool {

class ApiServer {
 public:
  ApiServer(const ServeOptions& options, std::string api_key, ModelSlot& models,
            const AccessLog& log);

  // Answers one request; called by any number of threads at once.
  void handle(HttpRequest& request, HttpResponse& response);
  // The answer to what is not HTTP.
  static std::string error_body(int status);

  // From now on completions are refused; those under way go on.
  void drain() { is_draining_ = true; }
  // Ends those under way.
  void cancel_all() { is_cancelling_ = true; }

 private:
  using Record = std::shared_ptr<AccessRecord>;
  using Handler = void (ApiServer::*)(HttpRequest&, HttpResponse&, const Record&);
  struct Route {
    const char* path;
    const char* method;
    bool is_open;  // needs no key
    Handler handler;
  };
  static const Route* find_route(const std::string& path);

  void dispatch(HttpRequest& request, HttpResponse& response, const Record& record);
  void check_key(const HttpRequest& request) const;
  std::string read_json_body(HttpRequest& request) const;

  void health(HttpRequest&, HttpResponse& response, const Record&);
  void metrics(HttpRequest&, HttpResponse& response, const Record&);
  void models(HttpRequest&, HttpResponse& response, const Record&);
  void reload(HttpRequest& request, HttpResponse& response, const Record&);
  void completions(HttpRequest& request, HttpResponse& response, const Record& record);
  void chat_completions(HttpRequest& request, HttpResponse& response, const Record& record);

  void complete(HttpRequest& request, HttpResponse& response, const Record& record,
                CompletionRequest completion);
  void complete_whole(HttpRequest& request, HttpResponse& response, const Record& record,
                      const CompletionRequest& completion, Answers& answers);
  void complete_stream(HttpRequest& request, HttpStream& stream, const Record& record,
                       const CompletionRequest& completion, Answers& answers);
  // Whether nobody waits for the answers any more.
  bool is_over(const HttpRequest& request) const;
  void note(const Record& record, const Answers& answers, bool is_whole);

  const ServeOptions& options_;
  const std::string api_key_;  // empty: none
  ModelSlot& models_;
  const AccessLog& log_;
  ServerMetrics metrics_;
  std::atomic<bool> is_draining_ = false;
  std::atomic<bool> is_cancelling_ = false;
};

}  // namespace flexq_tool
