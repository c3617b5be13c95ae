// Models of random weights, and the options that give the precision of a model.
#include <cmath>
#include <filesystem>
#include <string>

#include "api/api_fixture.h"
#include "support/test_data.h"

using namespace flexq::test;

namespace {

constexpr char kShape[] = "tinyllama-1.1b";

// A flexq_progress_callback that cancels at the first call; user_data counts the calls.
int32_t cancel_at_once(int64_t done, int64_t total, void* user_data) {
  CHECK(done <= total);
  ++*static_cast<int*>(user_data);
  return 1;
}

QuantizeOptions make_options(const char* policy, const char* embedding_bits,
                             const char* lm_head_bits) {
  QuantizeOptions options;
  REQUIRE_OK(flexq_quantize_options_create(options.out()));
  REQUIRE_OK(flexq_quantize_options_set_policy(options, policy));
  REQUIRE_OK(flexq_quantize_options_set(options, "embedding_bits", embedding_bits));
  REQUIRE_OK(flexq_quantize_options_set(options, "lm_head_bits", lm_head_bits));
  return options;
}

int64_t planned_weight_bytes(const char* shape, const flexq_quantize_options* options) {
  Source source;
  REQUIRE_OK(flexq_source_synthetic(shape, options, source.out()));
  flexq_plan plan = {};
  plan.struct_size = sizeof plan;
  REQUIRE_OK(flexq_model_plan(source, nullptr, nullptr, 0, &plan));
  return plan.weight_bytes;
}

}  // namespace

TEST_CASE("quantize options by name") {
  QuantizeOptions options;
  REQUIRE_OK(flexq_quantize_options_create(options.out()));
  CHECK_INVALID(flexq_quantize_options_set(nullptr, "lm_head_bits", "8"), "options");
  CHECK_INVALID(flexq_quantize_options_set(options, nullptr, "8"), "key");
  CHECK_INVALID(flexq_quantize_options_set(options, "lm_head_bits", nullptr), "value");
  for (const char* key : {"", "lm_head", "LM_HEAD_BITS", "policy"})
    CHECK_ERROR(flexq_quantize_options_set(options, key, "8"), "UNKNOWN_OPTION", key);
  for (const char* key : {"embedding_bits", "lm_head_bits"}) {
    for (const char* value : {"", "6", "32", "08", "8 ", "eight"})
      CHECK_ERROR(flexq_quantize_options_set(options, key, value), "UNSUPPORTED_VALUE", key);
    for (const char* value : {"8", "16"})
      CHECK(flexq_quantize_options_set(options, key, value) == FLEXQ_OK);
  }
  for (const char* policy : {"flexq", "w6a6", "w6a8", "w6a16", "w8a8", "w8a16", "fp16"})
    CHECK(flexq_quantize_options_set_policy(options, policy) == FLEXQ_OK);
}

TEST_CASE("synthetic models check their arguments") {
  Source source;
  CHECK_INVALID(flexq_source_synthetic(nullptr, nullptr, source.out()), "shape");
  CHECK_INVALID(flexq_source_synthetic(kShape, nullptr, nullptr), "source");
  for (const char* shape : {"", "llama-9", "TINYLLAMA-1.1B", "tinyllama-1.1b "})
    CHECK_ERROR(flexq_source_synthetic(shape, nullptr, source.out()), "UNSUPPORTED_VALUE",
                "llama-2-7b");
  CHECK(source.get() == nullptr);

  const TemporaryDirectory directory;
  const std::string output = directory.file("x.flexq");
  CHECK_INVALID(flexq_quantize_synthetic(nullptr, output.c_str(), nullptr), "shape");
  CHECK_INVALID(flexq_quantize_synthetic(kShape, nullptr, nullptr), "output_path");
  CHECK_INVALID(flexq_quantize_synthetic(kShape, directory.path().c_str(), nullptr), "folder");
  CHECK_ERROR(flexq_quantize_synthetic("llama-9", output.c_str(), nullptr), "UNSUPPORTED_VALUE",
              "llama-9");
  CHECK_ERROR(flexq_quantize_synthetic(kShape, directory.file("absent/x").c_str(), nullptr),
              "NOT_FOUND", "absent");
  // Found out before the first progress of the work.
  QuantizeOptions options;
  int n_calls = 0;
  REQUIRE_OK(flexq_quantize_options_create(options.out()));
  REQUIRE_OK(flexq_quantize_options_set_progress(options, cancel_at_once, &n_calls));
  CHECK_ERROR(flexq_quantize_synthetic(kShape, directory.file("absent/x").c_str(), options),
              "NOT_FOUND", "absent");
  CHECK_ERROR(flexq_quantize(source_path("samples/data/stories260k").c_str(),
                             directory.file("absent/x").c_str(), options),
              "NOT_FOUND", "absent");
  CHECK(n_calls == 0);
  CHECK(std::filesystem::is_empty(directory.path()));

  // Neither a bundle nor a tokenizer is behind such a source.
  REQUIRE_OK(flexq_source_synthetic(kShape, nullptr, source.out()));
  Bundle bundle;
  CHECK_INVALID(flexq_bundle_open(source, bundle.out()), "synthetic");
  Tokenizer tokenizer;
  CHECK_ERROR(flexq_tokenizer_open(source, tokenizer.out()), "NOT_FOUND", "no tokenizer");
  CHECK(tokenizer.get() == nullptr);
}

TEST_CASE("the plan of every shape follows its precision") {
  // Parameters of the published models, in millions: linear layers, and one of the two matrices
  // (n_vocab, n_embd).
  struct Shape {
    const char* name;
    double linear;
    double matrix;
  };
  const Shape shapes[] = {{"tinyllama-1.1b", 968.9, 65.5}, {"llama-2-7b", 6476, 131.1},
                          {"llama-2-13b", 12688, 163.8},   {"llama-2-70b", 68452, 262.1},
                          {"llama-3-8b", 6979, 525.3},     {"llama-3-70b", 68452, 1050.7}};
  for (const Shape& shape : shapes) {
    CAPTURE(shape.name);
    const auto check = [&](const char* policy, double bits, const char* embedding_bits,
                           const char* lm_head_bits, double matrix_bits) {
      CAPTURE(policy);
      const double expected = 1e6 / 8 * (shape.linear * bits + shape.matrix * matrix_bits);
      const QuantizeOptions options = make_options(policy, embedding_bits, lm_head_bits);
      const auto found = static_cast<double>(planned_weight_bytes(shape.name, options));
      CHECK(found == doctest::Approx(expected).epsilon(0.002));
    };
    // A group of 128 codes shares 16 bits of scale.
    check("flexq", 6.125, "16", "16", 32);
    check("w6a16", 6.125, "16", "8", 24);
    check("w8a8", 8.125, "8", "16", 24);
    check("fp16", 16, "8", "8", 16);
  }
  CHECK(planned_weight_bytes(kShape, nullptr) ==
        planned_weight_bytes(kShape, make_options("flexq", "16", "16")));
}

TEST_CASE("making a synthetic model can be cancelled") {
  int n_calls = 0;
  Source source;
  REQUIRE_OK(flexq_source_synthetic(kShape, nullptr, source.out()));
  ModelOptions model_options;
  REQUIRE_OK(flexq_model_options_create(model_options.out()));
  REQUIRE_OK(flexq_model_options_set_progress(model_options, cancel_at_once, &n_calls));
  Model model;
  CHECK_ERROR(flexq_model_load(source, model_options, model.out()), "CANCELLED", "cancelled");
  CHECK(model.get() == nullptr);
  CHECK(n_calls >= 1);

  const TemporaryDirectory directory;
  const QuantizeOptions options = make_options("w8a8", "8", "8");
  n_calls = 0;
  REQUIRE_OK(flexq_quantize_options_set_progress(options, cancel_at_once, &n_calls));
  CHECK_ERROR(flexq_quantize_synthetic(kShape, directory.file("x.flexq").c_str(), options),
              "CANCELLED", "stopped by the progress callback");
  CHECK(n_calls >= 1);
  CHECK(std::filesystem::is_empty(directory.path()));
}

TEST_CASE("perplexity with a KV cache of every type") {
  const Model model = load_model(stories_bundle());
  const std::string text = file_bytes(source_path("samples/data/stories260k/greedy.txt"));
  const auto perplexity = [&](const char* kv_type) {
    ContextOptions options;
    REQUIRE_OK(flexq_context_options_create(options.out()));
    REQUIRE_OK(flexq_context_options_set(options, "kv_type", kv_type));
    // Lengths and sequences follow from the window, whatever these say.
    REQUIRE_OK(flexq_context_options_set_context_tokens(options, 16));
    REQUIRE_OK(flexq_context_options_set_sequences(options, 3));
    REQUIRE_OK(flexq_context_options_set_cache_tokens(options, 1));
    REQUIRE_OK(flexq_context_options_set_outputs(options, 1));
    flexq_perplexity_result result = {};
    result.struct_size = sizeof result;
    REQUIRE_OK(flexq_evaluate_perplexity(model, options, text.data(),
                                         static_cast<int64_t>(text.size()), 64, 0, nullptr, nullptr,
                                         &result));
    return result.perplexity;
  };
  const double f16 = perplexity("auto");
  CHECK(perplexity("f16") == f16);
  for (const char* kv_type : {"f32", "i8"}) {
    CAPTURE(kv_type);
    const double found = perplexity(kv_type);
    CHECK(found != f16);
    CHECK(std::abs(found / f16 - 1) < 0.05);
  }
}
