// An engine on CUDA: 64 requests under way at once get the tokens that each gets alone, whatever
// shares their steps, their pages and their prefixes.
#include <string>
#include <vector>

#include "cuda/gpu_fixture.h"

namespace flexq::test {
namespace {

constexpr int32_t kContextTokens = 160;
constexpr uint64_t kRequests = 64;

struct Prompt {
  std::vector<int32_t> tokens;
  GeneratorOptionsHandle options;
};

// Prompts of up to 96 tokens, many with beginnings in common; greedy and sampled on the device,
// and, with penalties or alternatives, on the host.
Prompt prompt_of(const ModelHandle& model, uint64_t i) {
  Prompt prompt;
  if (i % 2 == 0) prompt.tokens = some_tokens(model, 16 * static_cast<int32_t>(1 + i % 5), 77);
  const std::vector<int32_t> own =
      some_tokens(model, 1 + static_cast<int32_t>(i * 7 % 16), 1000 + i);
  prompt.tokens.insert(prompt.tokens.end(), own.begin(), own.end());
  REQUIRE_OK(create(prompt.options, flexq_generator_options_create));
  flexq_generator_options* options = prompt.options.get();
  REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 20 + static_cast<int32_t>(i % 40)));
  REQUIRE_OK(flexq_generator_options_set_ignore_end(options, 1));
  SamplingHandle sampling;
  REQUIRE_OK(create(sampling, flexq_sampling_create));
  REQUIRE_OK(flexq_sampling_set_seed(sampling.get(), i));
  if (i % 3 != 0) REQUIRE_OK(flexq_sampling_set_temperature(sampling.get(), 0.9f));
  if (i % 4 == 1) REQUIRE_OK(flexq_sampling_set_top_k(sampling.get(), 20));
  if (i % 5 == 1) REQUIRE_OK(flexq_sampling_set_top_p(sampling.get(), 0.8f));
  if (i % 8 == 7) REQUIRE_OK(flexq_sampling_set_penalties(sampling.get(), 1.2f, 0, 0, 32));
  if (i % 8 == 6) REQUIRE_OK(flexq_generator_options_set_log_probs(options, 2));
  REQUIRE_OK(flexq_generator_options_set_sampling(options, sampling.get()));
  return prompt;
}

std::vector<int32_t> alone(const ModelHandle& model, const ContextShape& shape,
                           const Prompt& prompt) {
  ContextShape single = shape;
  single.n_sequences = 1;
  single.n_outputs = 1;
  const ContextHandle context = make_context(model, single);
  GeneratorHandle generator;
  REQUIRE_OK(create(generator, flexq_generator_create, context.get(), prompt.options.get()));
  REQUIRE_OK(flexq_generator_start_tokens(generator.get(), prompt.tokens.data(),
                                          static_cast<int32_t>(prompt.tokens.size())));
  REQUIRE_OK(flexq_generator_run(generator.get(), nullptr, nullptr));
  std::vector<int32_t> tokens(64);
  int32_t n = 0;
  REQUIRE_OK(flexq_generator_tokens(generator.get(), tokens.data(), 64, &n));
  tokens.resize(static_cast<size_t>(n));
  return tokens;
}

std::vector<int32_t> read_tokens(flexq_request* request) {
  std::vector<int32_t> tokens;
  flexq_token_event event = {};
  event.struct_size = sizeof event;
  while (event.finish_reason == FLEXQ_FINISH_NONE) {
    REQUIRE_OK(flexq_request_next(request, -1, &event));
    if (event.token >= 0) tokens.push_back(event.token);
  }
  return tokens;
}

}  // namespace

TEST_CASE("an engine on cuda gives each of 64 requests what it gets alone") {
  if (!has_gpu()) return;
  struct Setting {
    const char* policy;
    const char* kv_type;
    int32_t n_sequences;
    int32_t cache_tokens;  // 0: enough
    int32_t chunk_tokens;
  };
  const Setting settings[] = {{"flexq", "f16", 64, 0, 256},
                              {"flexq", "i8", 64, 1600, 100},
                              {"fp16", "f16", 16, 640, 64},
                              {"w8a8", "f16", 40, 0, 1024}};
  for (const char* checkpoint : {"samples/data/stories260k", "tests/data/wiki-tiny-1m"}) {
    for (const Setting& setting : settings) {
      CAPTURE(std::string(checkpoint));
      CAPTURE(std::string(setting.policy));
      CAPTURE(std::string(setting.kv_type));
      const ModelHandle model = load_on(bundle_of(source_path(checkpoint), setting.policy), "cuda");
      ContextShape shape;
      shape.context_tokens = kContextTokens;
      shape.chunk_tokens = setting.chunk_tokens;
      shape.kv_type = setting.kv_type;
      shape.n_sequences = setting.n_sequences;
      shape.n_outputs = setting.n_sequences;
      const ContextOptionsHandle options = options_of(shape);
      REQUIRE_OK(flexq_context_options_set_cache_tokens(options.get(), setting.cache_tokens));
      ContextHandle context;
      REQUIRE_OK(create(context, flexq_context_create, model.get(), options.get()));
      EngineHandle engine;
      REQUIRE_OK(create(engine, flexq_engine_create, context.get(), nullptr));

      std::vector<Prompt> prompts;
      std::vector<RequestHandle> requests(kRequests);
      for (uint64_t i = 0; i < kRequests; ++i) {
        prompts.push_back(prompt_of(model, i));
        REQUIRE_OK(create(requests[i], flexq_engine_submit_tokens, engine.get(),
                          prompts[i].options.get(), prompts[i].tokens.data(),
                          static_cast<int32_t>(prompts[i].tokens.size())));
      }
      for (uint64_t i = 0; i < kRequests; ++i) {
        CAPTURE(i);
        CHECK(read_tokens(requests[i].get()) == alone(model, shape, prompts[i]));
      }
      flexq_engine_metrics metrics = {};
      metrics.struct_size = sizeof metrics;
      REQUIRE_OK(flexq_engine_get_metrics(engine.get(), &metrics));
      MESSAGE(setting.policy << " " << setting.kv_type << ": " << metrics.n_steps << " steps, "
                             << metrics.computed_tokens << " tokens computed, "
                             << metrics.reused_tokens << " reused, " << metrics.n_preemptions
                             << " preemptions");
      CHECK(metrics.n_finished == static_cast<int64_t>(kRequests));
      CHECK(metrics.reused_tokens > 0);
      CHECK(metrics.pages_used == 0);
    }
  }
}

}  // namespace flexq::test
