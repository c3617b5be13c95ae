// flexq bench serve: speed and waiting times under load, of an engine in this process or of a
// server.
#include <algorithm>

#include "commands.h"
#include "device_rates.h"
#include "http/http_library.h"
#include "interrupt.h"
#include "load/engine_target.h"
#include "load/load_report.h"
#include "load/url_target.h"
#include "model_costs.h"
#include "precision_options.h"
#include "serve/engine_totals.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

struct BenchServeCommand {
  CommonOptions common;
  PrecisionOptions precision;
  EngineSettings engine = {.queue = 1 << 20};
  std::string model;  // path
  std::string shape;  // of a synthetic model
  std::string url;
  std::string api_key;
  LoadShape load;
  int32_t n_warm_up = 8;
  int32_t concurrency = 8;
};

LoadResult run_load(const BenchServeCommand& command, LoadTarget& target,
                    const std::vector<LoadRequest>& requests) {
  return command.load.rate > 0 ? run_open_loop(target, requests)
                               : run_closed_loop(target, requests, command.concurrency);
}

// Requests that do not count: threads start, caches fill. Other prompts than those that are
// measured, but for what these share.
void warm_up(const BenchServeCommand& command, LoadTarget& target) {
  if (command.n_warm_up == 0) return;
  LoadShape shape = command.load;
  shape.n_requests = command.n_warm_up;
  shape.rate = 0;
  ++shape.seed;
  (void)run_closed_loop(target, plan_load(shape), std::min(command.concurrency, command.n_warm_up));
}

flexq_engine_metrics difference(const flexq_engine_metrics& after,
                                const flexq_engine_metrics& before) {
  flexq_engine_metrics metrics = after;
  metrics.n_preemptions -= before.n_preemptions;
  metrics.reused_tokens -= before.reused_tokens;
  metrics.computed_tokens -= before.computed_tokens;
  metrics.generated_tokens -= before.generated_tokens;
  metrics.n_steps -= before.n_steps;
  metrics.step_ns -= before.step_ns;
  return metrics;
}

// The weights once a step; of every generated token but the first, whose logits the prompt gives,
// the keys and values before it and its own.
double least_bytes(const ServedModel& model, const flexq_engine_metrics& metrics,
                   const std::vector<LoadRequest>& requests, const LoadResult& result) {
  double n_positions = 0;
  for (size_t i = 0; i < result.samples.size(); ++i) {
    const double n_decoded =
        static_cast<double>(std::max<int64_t>(result.samples[i].n_generated - 1, 0));
    const double n_prompt = static_cast<double>(requests[i].prompt.size());
    n_positions += n_decoded * (n_prompt + (n_decoded + 1) / 2);
  }
  const ModelCosts costs(*model.model(), model.info());
  const int64_t kv_bytes = model.plan().kv_bytes_per_token;
  return static_cast<double>(metrics.n_steps) * costs.decode_bytes(0, 0, kv_bytes) +
         n_positions * static_cast<double>(kv_bytes);
}

int measure_engine(BenchServeCommand command, LoadReport& report) {
  Source source;
  const bool is_synthetic = !command.shape.empty();
  const std::string name = is_synthetic ? command.shape : command.model;
  int code = is_synthetic ? open_synthetic_source(command.shape, command.precision, source)
                          : open_source(command.model, command.common, source);
  if (code != kExitOk) return code;
  if (command.engine.context_tokens == 0) {
    command.engine.context_tokens = command.load.prompt.max + command.load.generate.max;
  }
  if (command.engine.n_sequences == 0 && command.load.rate == 0) {
    command.engine.n_sequences = command.concurrency;
  }
  EngineTotals totals;
  const std::shared_ptr<ServedModel> model =
      ServedModel::load(source, name, command.common, command.engine, totals, code);
  if (code != kExitOk) return code;
  DeviceRates rates;
  code = measure_rates(model->info(), rates);
  if (code != kExitOk) return code;
  command.load.n_vocab = model->info().n_vocab;
  EngineTarget target(*model);
  warm_up(command, target);
  const std::vector<LoadRequest> requests = plan_load(command.load);
  const double bandwidth_before = rates.read_bandwidth();
  const flexq_engine_metrics before = totals.sum();
  const LoadResult result = run_load(command, target, requests);
  EngineWork work;
  work.metrics = difference(totals.sum(), before);
  work.read_bandwidth = (bandwidth_before + rates.read_bandwidth()) / 2;
  work.bytes = least_bytes(*model, work.metrics, requests, result);
  report = summarize(requests, result);
  report.name = name;
  report.device = model->info().device;
  report.engine = work;
  return kExitOk;
}

int measure_url(const BenchServeCommand& command, LoadReport& report) {
  const HttpTransport* transport = load_http_transport();
  if (transport == nullptr) return kExitFailed;
  UrlTarget target(*transport, command.url, command.api_key);
  if (const int code = target.connect(); code != kExitOk) return code;
  warm_up(command, target);
  const std::vector<LoadRequest> requests = plan_load(command.load);
  report = summarize(requests, run_load(command, target, requests));
  report.name = target.model();
  return kExitOk;
}

int bench_serve(const BenchServeCommand& command) {
  LoadReport report;
  const int code =
      command.url.empty() ? measure_engine(command, report) : measure_url(command, report);
  if (code != kExitOk) return code;
  if (interrupt_signal() != 0) return report_interrupt();
  if (report.n_done == 0) {
    return report_failure("requests", report.first_error.empty()
                                          ? std::string_view("none was answered")
                                          : std::string_view(report.first_error));
  }
  return command.common.json ? print_json(load_report_json(report))
                             : print(load_report_text(report));
}

void add_length_option(CLI::App& app, const char* name, LengthRange& range,
                       const char* default_text, const char* help) {
  app.add_option_function<std::string>(
         name,
         [name, &range](const std::string& text) {
           if (parse_length_range(text, range)) return;
           throw CLI::ValidationError(name, "expected N or MIN-MAX, found \"" + text + "\"");
         },
         help)
      ->default_str(default_text)
      ->type_name("N|MIN-MAX");
}

void add_load_options(CLI::App& app, BenchServeCommand& command) {
  add_number(app, "--requests", command.load.n_requests, "N", "Requests that are measured")
      ->check(integer_from(1, 1000000));
  add_number(app, "--warm-up", command.n_warm_up, "N", "Requests before that")
      ->check(integer_from(0, 1000000));
  CLI::Option* concurrency =
      add_number(app, "--concurrency", command.concurrency, "N",
                 "Clients that send the next request when they have their answer")
          ->check(integer_from(1, 1 << 14));
  add_number(app, "--rate", command.load.rate, "R",
             "Instead: requests per second on the average, at random times (a Poisson process), "
             "whether earlier ones are answered or not")
      ->check(CLI::Range(1e-3, 1e6))
      ->excludes(concurrency);
  app.get_option("--rate")->default_str("");
  add_length_option(app, "--prompt", command.load.prompt, "128", "Tokens of the prompts");
  add_length_option(app, "--generate", command.load.generate, "64", "Tokens of the answers");
  add_number(app, "--shared-prefix", command.load.n_shared, "N",
             "Tokens with which all prompts begin")
      ->check(integer_from(0, 1 << 22));
  add_number(app, "--seed", command.load.seed, "S", "Same seed, same requests")
      ->check(integer_from(0, INT64_MAX));
}

void add_engine_options(CLI::App& app, BenchServeCommand& command) {
  add_number(app, "--context", command.engine.context_tokens, "N",
             "Longest sequence; 0: the longest prompt and answer together")
      ->check(integer_from(0, INT32_MAX));
  add_number(app, "--sequences", command.engine.n_sequences, "N",
             "Answers computed side by side; 0: as --concurrency, with --rate 64 on CUDA and 8 on "
             "the CPU")
      ->check(integer_from(0, 1 << 16));
  add_number(app, "--cache-tokens", command.engine.cache_tokens, "N",
             "Tokens in the KV cache; 0: as flexq serve chooses")
      ->check(integer_from(0, INT32_MAX));
  add_number(app, "--step-tokens", command.engine.step_tokens, "N",
             "Most tokens of a step; 0: 1024 on CUDA, 256 on the CPU")
      ->check(integer_from(0, INT32_MAX));
  add_kv_type_option(app, command.engine.kv_type);
  add_kernels_option(app, command.common);
}

}  // namespace

void add_bench_serve_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<BenchServeCommand>();
  CLI::App* app = parent.add_subcommand("serve", "Speed and waiting times under load");
  CLI::Option* model =
      app->add_option("MODEL", command->model, "Bundle or checkpoint folder")->type_name("");
  CLI::Option* shape = app->add_option("--shape", command->shape,
                                       std::string("Random weights of the shape of ") + kShapeHelp)
                           ->type_name("NAME");
  CLI::Option* url =
      app->add_option("--url", command->url, "A server with the OpenAI API: http://HOST:PORT")
          ->type_name("URL");
  app->add_option("--policy", command->precision.policy,
                  std::string("With --shape: ") + kPolicyHelp)
      ->capture_default_str()
      ->type_name("NAME")
      ->needs(shape);
  add_matrix_bits_options(*app, command->precision);
  for (const char* name : {"--embedding-bits", "--lm-head-bits"})
    app->get_option(name)->needs(shape);
  app->add_option("--api-key", command->api_key, "With --url: the server's key")
      ->type_name("KEY")
      ->needs(url);
  add_number(*app, "--vocabulary", command->load.n_vocab, "N",
             "With --url: prompts are token ids below N")
      ->check(integer_from(1, INT32_MAX))
      ->needs(url);
  add_load_options(*app, *command);
  add_engine_options(*app, *command);
  add_common_options(*app, command->common);
  app->footer(
      "Tokens are random, answers greedy and as long as planned. With MODEL or --shape an engine "
      "in\n"
      "this process answers, else the server at --url, through /v1/completions in streams (it "
      "must\n"
      "know \"ignore_eos\", and prompts of token ids). The floor compares the time of reading the\n"
      "weights once in every step, and of every token the keys and values before it, at the speed\n"
      "of the memory measured before and after, with the time of the steps, which compute the\n"
      "prompts too.\n"
      "Examples:\n"
      "  flexq bench serve llama-2-7b.flexq --concurrency 32 --requests 256\n"
      "  flexq bench serve --shape llama-2-7b --rate 4 --prompt 64-1024 --generate 16-256\n"
      "  flexq bench serve --url http://127.0.0.1:8080 --shared-prefix 512 --prompt 640 --json\n"
      "JSON: {\"model\", \"device\", \"requests\", \"refused\", \"failed\", \"seconds\",\n"
      "\"requests_per_second\", \"prompt_tokens_per_second\", \"generated_tokens_per_second\",\n"
      "\"time_to_first_token_seconds\": {\"p50\", \"p90\", \"p95\", \"p99\"},\n"
      "\"time_per_output_token_seconds\", \"latency_seconds\"; without --url also \"steps\",\n"
      "\"step_seconds\", \"reused_prompt_tokens\", \"computed_tokens\", \"preemptions\",\n"
      "\"read_bandwidth_bytes_per_second\", \"floor_ratio\"}");
  app->callback([command, model, shape, url, &selected] {
    if (model->count() + shape->count() + url->count() != 1) {
      throw CLI::ValidationError("MODEL, --shape, --url", "expected exactly one of them");
    }
    selected = [command] { return bench_serve(*command); };
  });
}

}  // namespace flexq_tool
