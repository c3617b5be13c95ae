// T30: weights that are finite but overflow at run time end in a status, never in a quiet token 0.
#include <doctest/doctest.h>

#include "runtime/generator.h"
#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr float kHuge = 3e38f;  // finite in F32 and BF16
constexpr int32_t kBadToken = 7;

struct Overflow {
  std::string what;
  std::vector<PlantedValue> planted;
};

std::vector<PlantedValue> whole_row(const std::string& tensor, int64_t row, int64_t n_cols,
                                    float value) {
  std::vector<PlantedValue> planted;
  for (int64_t col = 0; col < n_cols; ++col)
    planted.push_back({tensor, row, col, value});
  return planted;
}

std::vector<Overflow> overflows() {
  const int64_t n_embd = small_model_config().n_embd;
  return {
      {"final norm", whole_row("model.norm.weight", 0, n_embd, kHuge)},
      {"attention norm", whole_row("model.layers.0.input_layernorm.weight", 0, n_embd, kHuge)},
      {"ffn norm", whole_row("model.layers.1.post_attention_layernorm.weight", 0, n_embd, kHuge)},
      // One row of logits out of 320.
      {"lm_head", whole_row("lm_head.weight", 11, n_embd, kHuge)},
      // The sum of squares of the first norm overflows: a norm that then gives 0 would hide it.
      {"embedding", whole_row("model.embed_tokens.weight", kBadToken, n_embd, 1e30f)},
      {"one element of an embedding", {{"model.embed_tokens.weight", kBadToken, 3, 1e25f}}},
  };
}

void check_refused(const std::string& path, int32_t n_threads) {
  const auto model = open_test_model(path, "auto", n_threads);
  const auto portable = open_test_model(path, "portable", 1);
  for (const auto& used : {model, portable}) {
    ContextOptions options;
    options.chunk_tokens = 4;
    options.n_outputs = 3;
    const auto context = value_of(Context::create(used, options));
    const std::vector<int32_t> tokens = {1, 300, 5, 12, kBadToken, 9, kBadToken};

    const BatchItem item{0, tokens, OutputRows::kLast};
    const Status decoded = context->decode({&item, 1}, kNeverStop);
    CHECK_MESSAGE(decoded.code() == StatusCode::kNonFinite, decoded.message());
    CHECK(context->output_count() == 0);
    CHECK(context->cache().length(0) == 0);
    CHECK(context->cache().pages_used() == 0);

    std::vector<float> log_probs(tokens.size() - 1);
    const Status scored =
        context->score(tokens, log_probs.data(), [](int64_t, int64_t) { return false; });
    CHECK_MESSAGE(scored.code() == StatusCode::kNonFinite, scored.message());
    CHECK(context->cache().length(0) == 0);

    const auto generator = value_of(Generator::create(context, {}));
    require_ok(generator->start_tokens(tokens));
    const auto event = generator->next();
    CHECK(event.status().code() == StatusCode::kNonFinite);
    CHECK(generator->stats().finish_reason == FinishReason::kError);
    CHECK(generator->tokens().empty());
    CHECK(generator->next().status().code() == StatusCode::kInvalidState);
    CHECK(context->cache().length(0) == 0);
  }
}

}  // namespace

TEST_CASE("T30_non_finite: decode, score and generator report overflow under every policy") {
  for (const Overflow& overflow : overflows()) {
    CAPTURE(overflow.what);
    SyntheticOptions synthetic;
    synthetic.planted = overflow.planted;
    const TemporaryDirectory directory;
    write_synthetic_checkpoint(directory.path(), synthetic);
    for (const char* policy : {"none", "fp16", "w6a16", "w6a8", "w6a6", "flexq"}) {
      CAPTURE(std::string(policy));
      check_refused(quantized_copy(directory.path(), policy, directory.path()), 2);
    }
  }
}

TEST_CASE("T30_non_finite: a prompt without the bad token still works") {
  SyntheticOptions synthetic;
  synthetic.planted = {{"model.embed_tokens.weight", kBadToken, 3, 1e30f}};
  const TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), synthetic);
  const auto context = value_of(Context::create(open_test_model(directory.path()), {}));
  const std::vector<int32_t> bad = {1, kBadToken};
  const std::vector<int32_t> good = {1, 2, 3};
  const BatchItem item{0, bad, OutputRows::kLast};
  CHECK(context->decode({&item, 1}, kNeverStop).code() == StatusCode::kNonFinite);
  const BatchItem next{0, good, OutputRows::kLast};
  CHECK(context->decode({&next, 1}, kNeverStop).ok());
  CHECK(context->cache().length(0) == 3);
}

}  // namespace flexq::test
