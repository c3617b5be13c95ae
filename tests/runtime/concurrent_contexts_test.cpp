// T20: contexts on several threads share one model and its pool, and give what they give alone.
#include <doctest/doctest.h>

#include <thread>

#include "runtime/generator.h"
#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr int kThreads = 8;
constexpr int kContextsPerThread = 4;
constexpr int32_t kGenerated = 200;

// Whatever is generated from the prompt of one job; some jobs are greedy, some draw.
std::vector<int32_t> run_job(const std::shared_ptr<const LoadedModel>& model, int job) {
  ContextOptions options;
  options.context_tokens = 256;
  options.chunk_tokens = 8 + job;
  const auto context = value_of(Context::create(model, options));
  GeneratorOptions generator_options;
  generator_options.max_tokens = kGenerated;
  generator_options.ignore_end = true;
  generator_options.sampling.temperature = job % 2 == 0 ? 0.0f : 0.8f;
  generator_options.sampling.seed = static_cast<uint64_t>(job);
  const auto generator = value_of(Generator::create(context, generator_options));
  require_ok(generator->start_tokens(
      random_tokens(20 + job, model->llama->config().n_vocab, static_cast<uint64_t>(job))));
  while (value_of(generator->next()).finish_reason == FinishReason::kNone) {
  }
  return {generator->tokens().begin(), generator->tokens().end()};
}

}  // namespace

TEST_CASE("T20_concurrent_contexts: several threads on one model give the serial results") {
  const TemporaryDirectory directory;
  SyntheticOptions synthetic;
  synthetic.config.context_tokens = 256;
  write_synthetic_checkpoint(directory.path(), synthetic);
  const std::string bundle = quantized_copy(directory.path(), "flexq", directory.path());
  const auto model = open_test_model(bundle, "auto", 3);
  std::vector<std::vector<int32_t>> serial, parallel(kThreads * kContextsPerThread);
  for (int job = 0; job < kThreads * kContextsPerThread; ++job) {
    serial.push_back(run_job(model, job));
    CHECK(serial.back().size() == kGenerated);
  }
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      // Contexts open and close while others run.
      for (int i = 0; i < kContextsPerThread; ++i) {
        const int job = thread * kContextsPerThread + i;
        parallel[static_cast<size_t>(job)] = run_job(model, job);
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  CHECK(parallel == serial);
}

TEST_CASE("T20_concurrent_contexts: a cancel from another thread ends the prompt") {
  const TemporaryDirectory directory;
  SyntheticOptions synthetic;
  synthetic.config.context_tokens = 4096;
  write_synthetic_checkpoint(directory.path(), synthetic);
  const auto model = open_test_model(directory.path(), "portable", 2);
  ContextOptions options;
  options.chunk_tokens = 1;
  const auto context = value_of(Context::create(model, options));
  const auto generator = value_of(Generator::create(context, {}));
  // Long enough to outlast the other thread's start many times over.
  require_ok(generator->start_tokens(random_tokens(4000, 320, 1)));
  std::thread other([&] { generator->cancel(); });
  const auto event = generator->next();
  other.join();
  CHECK(event.status().code() == StatusCode::kCancelled);
  CHECK(generator->stats().finish_reason == FinishReason::kCancelled);
  CHECK(context->cache().length(0) == 0);
}

}  // namespace flexq::test
