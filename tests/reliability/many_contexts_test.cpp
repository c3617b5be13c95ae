// T20: 8 threads with 4 contexts each on one model, opened and closed while others compute, give
// the results that each context gives alone.
#include <doctest/doctest.h>

#include <thread>

#include "reliability/tiny_model.h"

namespace flexq::test {
namespace {

constexpr int kThreads = 8;
constexpr int kContextsPerThread = 4;
constexpr int32_t kTokens = 200;  // generated in each context
constexpr int32_t kContextTokens = 256;

#define RETURN_IF_FAILED(call)                  \
  do {                                          \
    const flexq_status failed_status_ = (call); \
    if (failed_status_ != FLEXQ_OK) return {};  \
  } while (false)

// One job's tokens; empty when a call failed. Jobs differ in prompt, chunk size, sampling and the
// order of releases. Asserts nothing: it runs on several threads.
std::vector<int32_t> run_job(const flexq_model* model, int job) {
  ContextOptionsHandle options;
  RETURN_IF_FAILED(create(options, flexq_context_options_create));
  RETURN_IF_FAILED(flexq_context_options_set_context_tokens(options.get(), kContextTokens));
  RETURN_IF_FAILED(flexq_context_options_set_chunk_tokens(options.get(), 8 + job));
  ContextHandle context;
  RETURN_IF_FAILED(create(context, flexq_context_create, model, options.get()));

  SamplingHandle sampling;
  RETURN_IF_FAILED(create(sampling, flexq_sampling_create));
  RETURN_IF_FAILED(flexq_sampling_set_temperature(sampling.get(), job % 2 == 0 ? 0.0f : 0.9f));
  RETURN_IF_FAILED(flexq_sampling_set_seed(sampling.get(), static_cast<uint64_t>(job)));
  const int32_t n_prompt = 20 + job;
  GeneratorOptionsHandle generator_options;
  RETURN_IF_FAILED(create(generator_options, flexq_generator_options_create));
  RETURN_IF_FAILED(flexq_generator_options_set_sampling(generator_options.get(), sampling.get()));
  RETURN_IF_FAILED(flexq_generator_options_set_ignore_end(generator_options.get(), 1));
  RETURN_IF_FAILED(flexq_generator_options_set_max_tokens(generator_options.get(), kTokens));
  GeneratorHandle generator;
  RETURN_IF_FAILED(
      create(generator, flexq_generator_create, context.get(), generator_options.get()));
  const std::vector<int32_t> prompt = tiny_tokens(n_prompt, static_cast<uint64_t>(job));
  RETURN_IF_FAILED(flexq_generator_start_tokens(generator.get(), prompt.data(), n_prompt));
  // Some contexts are gone before the generator on them is.
  if (job % 3 == 0) context.reset();
  RETURN_IF_FAILED(flexq_generator_run(generator.get(), nullptr, nullptr));
  std::vector<int32_t> tokens(static_cast<size_t>(kTokens));
  int32_t n_tokens = 0;
  RETURN_IF_FAILED(flexq_generator_tokens(generator.get(), tokens.data(), kTokens, &n_tokens));
  tokens.resize(static_cast<size_t>(n_tokens));
  return tokens;
}

}  // namespace

TEST_CASE("T20_concurrent_contexts: 8 threads, 4 contexts each, 200 tokens") {
  ModelHandle model = load_tiny_model("flexq", 3);
  constexpr int kJobs = kThreads * kContextsPerThread;
  std::vector<std::vector<int32_t>> serial;
  for (int job = 0; job < kJobs; ++job) {
    serial.push_back(run_job(model.get(), job));
    REQUIRE(serial.back().size() == static_cast<size_t>(kTokens));
  }
  std::vector<std::vector<int32_t>> parallel(kJobs);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kContextsPerThread; ++i) {
        const int job = thread * kContextsPerThread + i;
        parallel[static_cast<size_t>(job)] = run_job(model.get(), job);
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  CHECK(parallel == serial);
}

}  // namespace flexq::test
