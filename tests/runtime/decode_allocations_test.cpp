// After a context was created, decoding allocates nothing: neither through operator new nor
// through the allocation funnel.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

#include "base/memory.h"
#include "runtime/generator.h"
#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace {

std::atomic<int64_t> n_allocations{0};

void* count_and_allocate(size_t bytes, size_t alignment) {
  n_allocations.fetch_add(1, std::memory_order_relaxed);
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

bool count_buffer(int64_t, void*) {
  n_allocations.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace

// The library's other forms of new and delete end in these.
void* operator new(size_t bytes) {
  return count_and_allocate(bytes, alignof(std::max_align_t));
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  return count_and_allocate(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace flexq::test {

TEST_CASE("decoding allocates nothing") {
  const TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), {});
  for (const char* policy : {"none", "flexq", "w6a16"}) {
    CAPTURE(std::string(policy));
    const auto model =
        open_test_model(quantized_copy(directory.path(), policy, directory.path()), "auto", 2);
    ContextOptions options;
    options.n_sequences = 2;
    options.chunk_tokens = 16;
    const auto context = value_of(Context::create(model, options));
    const std::vector<int32_t> tokens = random_tokens(100, 320, 6);
    SamplingParams sampling;
    sampling.temperature = 0.9f;
    sampling.top_k = 40;
    sampling.top_p = 0.9f;
    sampling.repetition_penalty = 1.1f;
    Sampler sampler;
    sampler.reserve(320, sampling.penalty_window);
    // Warm-up: starts the pool's workers.
    const BatchItem warm_up{0, std::span(tokens).first(40), OutputRows::kLast};
    require_ok(context->decode({&warm_up, 1}, kNeverStop));
    require_ok(context->fork(0, 1));

    set_allocation_gate(count_buffer, nullptr);
    const int64_t before = n_allocations.load();
    bool all_ok = true;
    for (size_t i = 0; i < 32; ++i) {
      const BatchItem items[] = {{0, std::span(tokens).subspan(40 + i, 1), OutputRows::kLast},
                                 {1, std::span(tokens).subspan(41 + i, 1), OutputRows::kLast}};
      all_ok = context->decode(items, kNeverStop).ok() && all_ok;
      all_ok = sampler
                   .sample(sampling, {*context->logits_row(0), 320}, context->cache().tokens(0),
                           context->cache().length(0))
                   .ok() &&
               all_ok;
    }
    const int64_t after = n_allocations.load();
    set_allocation_gate(nullptr, nullptr);
    CHECK(all_ok);
    CHECK(after - before == 0);
  }
}

TEST_CASE("keeping an answer to JSON allocates nothing") {
  const TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), {});
  const auto model = open_test_model(directory.path());
  constexpr int32_t kTokens = 64;
  std::vector<JsonConstraint> answers;
  for (int i = 0; i < 16; ++i)
    answers.push_back(value_of(JsonConstraint::create(model->tokenizer, 320, kTokens)));
  Sampler sampler;
  sampler.reserve(320, 64);
  SamplingParams sampling;
  sampling.temperature = 1.0f;
  sampling.top_k = 40;
  sampling.repetition_penalty = 1.1f;
  const std::vector<float> logits(320, 0.0f);
  const std::vector<int32_t> history = random_tokens(20, 320, 7);

  const int64_t before = n_allocations.load();
  bool all_ok = true;
  int32_t n_tokens = 0;
  for (JsonConstraint& answer : answers) {
    while (all_ok && !answer.complete()) {
      const auto token = sampler.sample(sampling, logits, history, n_tokens++, answer.allowed());
      all_ok = token.ok();
      if (all_ok) answer.accept(token->token);
    }
  }
  const int64_t after = n_allocations.load();
  CHECK(all_ok);
  CHECK(n_tokens > 64);
  CHECK(n_tokens <= 16 * kTokens);
  CHECK(after - before == 0);
}

TEST_CASE("the counter of this program counts") {
  const int64_t before = n_allocations.load();
  const auto made = std::make_unique<std::vector<int>>(10);
  CHECK(made->size() == 10);
  CHECK(n_allocations.load() - before >= 2);
}

}  // namespace flexq::test
