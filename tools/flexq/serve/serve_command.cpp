// flexq serve: an HTTP server with the OpenAI API.
#include <csignal>
#include <thread>

#include "commands.h"
#include "http/http_library.h"
#include "serve/access_log.h"
#include "serve/api_error.h"
#include "serve/api_key.h"
#include "serve/api_server.h"
#include "serve/model_slot.h"
#include "serve/serve_options.h"
#include "serve/serve_signals.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

// "http://127.0.0.1:8080", with an IPv6 address in brackets.
std::string address(const std::string& host, int port) {
  const bool is_v6 = host.find(':') != std::string::npos;
  return "http://" + (is_v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

int print_ready(const ServeOptions& options, const ModelSlot& models, int port) {
  const std::shared_ptr<ServedModel> model = models.current();
  const flexq_plan& plan = model->plan();
  const int64_t cache_tokens = plan.kv_bytes / std::max<int64_t>(plan.kv_bytes_per_token, 1);
  const std::string url = address(options.host, port);
  if (options.common.json) {
    return print_json({{"address", url},
                       {"port", port},
                       {"model", models.name()},
                       {"device", model->info().device},
                       {"context_tokens", plan.context_tokens},
                       {"sequences", plan.n_sequences},
                       {"cache_tokens", cache_tokens},
                       {"memory_bytes",
                        {{"weights", plan.weight_bytes},
                         {"kv", plan.kv_bytes},
                         {"workspace", plan.workspace_bytes}}}});
  }
  return print("serving " + one_line(models.name()) + " on " + url + " (" + model->info().device +
               ", " + std::to_string(plan.n_sequences) + " sequences, context " +
               std::to_string(plan.context_tokens) + ", KV cache of " +
               std::to_string(cache_tokens) + " tokens in " + format_bytes(plan.kv_bytes) + ")\n");
}

void reload(ModelSlot& models) {
  try {
    models.reload("");
  } catch (const ApiError& error) {
    report_failure("SIGHUP", std::string_view(error.message));
  }
}

// The chat template's name exists: requests would all fail otherwise.
int check_chat_template(const ServeOptions& options, const ModelSlot& models) {
  const flexq_tokenizer* tokenizer = models.current()->tokenizer();
  if (options.chat_template.empty() || tokenizer == nullptr) return kExitOk;
  int32_t n_tokens = 0;
  const flexq_status status = flexq_tokenizer_chat_stop_tokens(
      tokenizer, options.chat_template.c_str(), nullptr, 0, &n_tokens);
  const bool is_known = status == FLEXQ_OK || status == FLEXQ_ERROR_BUFFER_TOO_SMALL;
  return is_known ? kExitOk : report_usage("--chat-template");
}

int serve(const ServeOptions& options) {
  std::string api_key;
  if (const int code = read_api_key(options, api_key); code != kExitOk) return code;
  const HttpTransport* transport = load_http_transport();
  if (transport == nullptr) return kExitFailed;
  AccessLog log;
  if (const int code = log.open(options.access_log); code != kExitOk) return code;
  ServeSignals signals;
  ModelSlot models(options);
  if (const int code = models.load_first(); code != kExitOk) return code;
  if (const int code = check_chat_template(options, models); code != kExitOk) return code;

  ApiServer api(options, api_key, models, log);
  std::string error;
  const std::unique_ptr<HttpServer> server = transport->create_server(
      {.host = options.host,
       .port = options.port,
       .max_connections = options.max_concurrent,
       .handle = [&api](HttpRequest& request,
                        HttpResponse& response) { api.handle(request, response); },
       .error_body = ApiServer::error_body},
      error);
  if (!server) {
    return report_failure(options.host + ":" + std::to_string(options.port),
                          std::string_view(error));
  }
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread serving([&] {
    server->run();
    signals.wake();
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);

  const int code = print_ready(options, models, server->port());
  while (code == kExitOk && signals.wait() == ServeSignals::Event::kReload)
    reload(models);
  api.drain();
  server->stop();
  const auto drain_ms =
      std::chrono::milliseconds(static_cast<int64_t>(options.drain_seconds * 1000));
  if (!signals.wait_for_wake(drain_ms)) api.cancel_all();
  serving.join();
  return code;
}

void add_http_options(CLI::App& app, ServeOptions& options) {
  const auto group = [](CLI::Option* option) { return option->group("HTTP"); };
  group(app.add_option("--host", options.host, "Address to listen on; 0.0.0.0: every one")
            ->capture_default_str()
            ->type_name("ADDRESS"));
  group(add_number(app, "--port", options.port, "N", "0: one that is free, which is printed")
            ->check(integer_from(0, 65535)));
  CLI::Option* key = group(app.add_option("--api-key", options.api_key,
                                          "Key that requests must bring; others see it in the "
                                          "list of processes: better in a file, or in the "
                                          "environment variable FLEXQ_API_KEY")
                               ->type_name("KEY"));
  group(app.add_option("--api-key-file", options.api_key_file, "File with the key")
            ->type_name("FILE")
            ->excludes(key));
  group(add_number(app, "--max-request-bytes", options.max_request_bytes, "N",
                   "Largest body of a request")
            ->check(integer_from(1, 1 << 30)));
  group(add_number(app, "--max-concurrent", options.max_concurrent, "N",
                   "Connections served at once, a thread each; more wait")
            ->check(integer_from(1, 1 << 15)));
  group(add_number(app, "--timeout", options.timeout_seconds, "S",
                   "Longest time of a request in seconds, in the queue too; 0: none")
            ->check(CLI::Range(0.0, 1e6)));
  group(add_number(app, "--drain-seconds", options.drain_seconds, "S",
                   "After SIGTERM, time for what is under way")
            ->check(CLI::Range(0.0, 1e6)));
  group(app.add_option("--access-log", options.access_log,
                       "Append a JSON line for every request; - : standard output")
            ->type_name("FILE"));
}

void add_engine_options(CLI::App& app, ServeOptions& options) {
  const auto group = [](CLI::Option* option) { return option->group("Engine"); };
  group(app.add_option("--model-name", options.model_name,
                       "What requests call the model; default: the file's name")
            ->type_name("NAME"));
  group(app.add_option("--chat-template", options.chat_template,
                       "Format of conversations: llama-2, llama-3, chatml, zephyr or vicuna; "
                       "default: the model's own")
            ->type_name("NAME"));
  group(add_number(app, "--context", options.context_tokens, "N",
                   "Longest prompt and answer together, in tokens; 0: what the model was trained "
                   "for, at most 4096")
            ->check(integer_from(0, INT32_MAX)));
  group(add_number(app, "--sequences", options.n_sequences, "N",
                   "Answers computed side by side; 0: 64 on CUDA, 8 on the CPU")
            ->check(integer_from(0, 1 << 16)));
  group(add_number(app, "--cache-tokens", options.cache_tokens, "N",
                   "Tokens in the KV cache, over all sequences; 0: what fits into 90% of the GPU's "
                   "free memory, a quarter of the CPU's")
            ->check(integer_from(0, INT32_MAX)));
  group(add_number(app, "--step-tokens", options.step_tokens, "N",
                   "Most tokens of a step: fewer make answers under way smoother, prompts slower; "
                   "0: 1024 on CUDA, 256 on the CPU")
            ->check(integer_from(0, INT32_MAX)));
  group(add_number(app, "--queue", options.queue, "N", "Requests that may wait; more get 429")
            ->check(integer_from(0, 1 << 20)));
  add_kv_type_option(app, options.kv_type);
  app.get_option("--kv-type")->group("Engine");
}

}  // namespace

void add_serve_command(CLI::App& parent, Work& selected) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* app = parent.add_subcommand("serve", "Answer requests over HTTP, with the OpenAI API");
  app->add_option("MODEL", options->model, "Bundle, or checkpoint folder (runs unquantized)")
      ->required()
      ->type_name("");
  add_http_options(*app, *options);
  add_engine_options(*app, *options);
  add_public_key_option(*app, options->common);
  add_common_options(*app, options->common);
  app->footer(
      "POST /v1/completions, POST /v1/chat/completions, GET /v1/models, GET /health, GET /metrics\n"
      "(Prometheus). With a key also POST /admin/reload {\"path\": FILE}: loads FILE, which must "
      "lie\n"
      "in MODEL's folder, beside the present model, and gives it the requests that come then;\n"
      "SIGHUP does the same with the file that is served. SIGTERM and Ctrl-C end the server when\n"
      "what is under way is answered; the same signal again ends it at once.\n"
      "Plain HTTP: put a proxy with TLS in front of it where others reach the port.\n"
      "Examples:\n"
      "  flexq serve llama-2-7b-chat.flexq\n"
      "  flexq serve llama-2-7b-chat.flexq --host 0.0.0.0 --api-key-file key.txt --access-log -\n"
      "  curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \\\n"
      "    -d '{\"prompt\": \"Once upon a time\", \"max_tokens\": 32, \"stream\": true}'\n"
      "JSON: {\"address\", \"port\", \"model\", \"device\", \"context_tokens\", \"sequences\",\n"
      "\"cache_tokens\", \"memory_bytes\": {\"weights\", \"kv\", \"workspace\"}} when the server "
      "is "
      "ready");
  app->callback([options, &selected] { selected = [options] { return serve(*options); }; });
}

}  // namespace flexq_tool
