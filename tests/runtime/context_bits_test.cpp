// One request, one result: the same bits whatever the kernel table, the number of threads, the
// chunk size, the neighbours in the batch, and the way the cache came to hold its tokens.
#include <doctest/doctest.h>

#include <optional>

#include "kernels/cpu/cpu_kernels.h"
#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr int32_t kTokens = 67;  // four pages and a bit

struct TestModel {
  std::string path;
  std::optional<KvType> kv_type;  // empty: the default of the model
};

struct Setting {
  const char* kernels = "portable";
  int32_t n_threads = 1;
  int32_t chunk_tokens = 256;
};

std::shared_ptr<Context> make_context(const TestModel& model, const Setting& setting,
                                      int32_t n_sequences = 1) {
  ContextOptions options;
  options.context_tokens = 96;
  options.chunk_tokens = setting.chunk_tokens;
  options.n_sequences = n_sequences;
  options.n_outputs = 96 * n_sequences;
  options.kv_type = model.kv_type;
  return value_of(
      Context::create(open_test_model(model.path, setting.kernels, setting.n_threads), options));
}

void check_same(const OutputRowsCopy& found, const OutputRowsCopy& expected,
                const ModelConfig& config, const std::string& what) {
  const std::string difference = first_difference(found, expected, config);
  CHECK_MESSAGE(difference.empty(), what << ": " << difference);
}

void check_settings(const TestModel& model, const std::vector<int32_t>& tokens,
                    const OutputRowsCopy& expected, const ModelConfig& config) {
  const std::string best = select_cpu_kernels(nullptr)->name;
  for (const std::string kernels : cpu_kernel_names()) {
    if (select_cpu_kernels(kernels.c_str()) == nullptr) continue;
    for (const int32_t n_threads : {1, 2, 3}) {
      for (const int32_t chunk_tokens : {1, 3, 16, 64, 256}) {
        // All pairs with the best table; with the others each thread count and each chunk once.
        if (kernels != best && n_threads != 1 + chunk_tokens % 3) continue;
        const auto context = make_context(model, {kernels.c_str(), n_threads, chunk_tokens});
        check_same(decode_rows(*context, 0, tokens), expected, config,
                   kernels + ", threads " + std::to_string(n_threads) + ", chunk " +
                       std::to_string(chunk_tokens));
      }
    }
  }
}

void check_steps(const TestModel& model, const std::vector<int32_t>& tokens,
                 const OutputRowsCopy& expected, const ModelConfig& config) {
  const auto context = make_context(model, {"auto", 2, 16});
  OutputRowsCopy rows = decode_rows(*context, 0, std::span(tokens).first(20));
  for (size_t i = 20; i < tokens.size(); ++i)
    rows.append(decode_rows(*context, 0, std::span(tokens).subspan(i, 1)));
  check_same(rows, expected, config, "prefill and single tokens");
}

// The sequence between two others of other lengths, while chunks cut across all three.
void check_batch(const TestModel& model, const std::vector<int32_t>& tokens,
                 const OutputRowsCopy& expected, const ModelConfig& config) {
  const std::vector<int32_t> other = random_tokens(90, config.n_vocab, 1000);
  for (const int32_t chunk_tokens : {3, 16, 256}) {
    const auto context = make_context(model, {"auto", 2, chunk_tokens}, 3);
    const std::span<const int32_t> all(tokens);
    const std::span<const int32_t> others(other);
    const BatchItem first[] = {{2, others.first(5), OutputRows::kNone},
                               {0, all.first(30), OutputRows::kAll},
                               {1, others.first(40), OutputRows::kNone}};
    OutputRowsCopy rows = decode_rows(*context, first);
    const BatchItem second[] = {{1, others.subspan(40, 33), OutputRows::kLast},
                                {0, all.subspan(30), OutputRows::kAll},
                                {2, others.subspan(5, 1), OutputRows::kLast}};
    const OutputRowsCopy mixed = decode_rows(*context, second);
    REQUIRE(context->output_count() == kTokens - 30 + 2);
    // Rows come in the order of the items: one of sequence 1, ours, one of sequence 2.
    const size_t n_ours = tokens.size() - 30;
    OutputRowsCopy ours = mixed.last(config, n_ours + 1);
    ours.logits.resize(n_ours * static_cast<size_t>(config.n_vocab));
    ours.embeddings.resize(n_ours * static_cast<size_t>(config.n_embd));
    rows.append(ours);
    check_same(rows, expected, config, "in a batch, chunk " + std::to_string(chunk_tokens));
  }
}

// After a fork (in the middle of a page and between pages) both branches go on as if alone.
void check_fork_and_rewind(const TestModel& model, const std::vector<int32_t>& tokens,
                           const OutputRowsCopy& expected, const ModelConfig& config) {
  const std::vector<int32_t> other = random_tokens(60, config.n_vocab, 1001);
  for (const size_t split : {21, 32}) {
    const auto context = make_context(model, {"auto", 2, 16}, 3);
    const auto head = std::span(tokens).first(split);
    const auto tail = std::span(tokens).subspan(split);
    const OutputRowsCopy expected_tail = expected.last(config, tail.size());
    decode_rows(*context, 1, head);
    require_ok(context->fork(1, 2));
    decode_rows(*context, 1, std::span(other).first(30));  // the original goes another way
    check_same(decode_rows(*context, 2, tail), expected_tail, config, "forked sequence");

    decode_rows(*context, 0, std::span(tokens).first(50));
    decode_rows(*context, 0, std::span(other).first(30));
    require_ok(context->rewind(0, static_cast<int32_t>(split)));
    check_same(decode_rows(*context, 0, tail), expected_tail, config, "rewound sequence");

    // A copy rewound into a page that it still shares.
    require_ok(context->fork(0, 1));
    require_ok(context->rewind(1, static_cast<int32_t>(split)));
    decode_rows(*context, 1, std::span(other).first(10));
    require_ok(context->rewind(0, 66));
    check_same(decode_rows(*context, 0, std::span(tokens).last(1)), expected.last(config, 1),
               config, "after a copy wrote to a shared page");
  }
}

void check_model(const TestModel& model) {
  CAPTURE(model.path);
  const auto context = make_context(model, {});
  const ModelConfig& config = context->model().llama->config();
  const std::vector<int32_t> tokens = random_tokens(kTokens, config.n_vocab, 3);
  const OutputRowsCopy expected = decode_rows(*context, 0, tokens);
  check_settings(model, tokens, expected, config);
  check_steps(model, tokens, expected, config);
  check_batch(model, tokens, expected, config);
  check_fork_and_rewind(model, tokens, expected, config);
}

// A precision and how the cache is kept.
struct Variant {
  Precision precision;
  std::optional<KvType> kv_type = std::nullopt;
};

}  // namespace

TEST_CASE("T29_same_bits: a synthetic model of odd sizes") {
  SyntheticOptions synthetic;
  synthetic.config.n_embd = 72;
  synthetic.config.n_heads = 6;
  synthetic.config.n_kv_heads = 2;
  synthetic.config.head_dim = 10;
  synthetic.config.n_ff = 150;
  synthetic.config.n_vocab = 301;
  synthetic.config.attention_bias = true;
  synthetic.config.mlp_bias = true;
  const TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), synthetic);
  const Variant variants[] = {{{"none"}},
                              {{"flexq"}},
                              {{"w6a8"}},
                              {{"w6a16"}},
                              {{"w8a8"}},
                              {{"w8a16"}},
                              {{"none"}, KvType::kI8},
                              {{"flexq", 8, 8}, KvType::kI8},
                              {{"w8a8", 8, 16}, KvType::kI8},
                              {{"w8a16", 16, 8}, KvType::kF32}};
  for (const Variant& variant : variants)
    check_model(
        {quantized_copy(directory.path(), variant.precision, directory.path()), variant.kv_type});
}

TEST_CASE("T29_same_bits: wiki-tiny-1m in every precision") {
  const TemporaryDirectory directory;
  const std::string checkpoint = source_path("tests/data/wiki-tiny-1m");
  const Variant variants[] = {{{"none"}},
                              {{"flexq"}},
                              {{"w6a6"}},
                              {{"w6a8"}},
                              {{"w6a16"}},
                              {{"fp16"}},
                              {{"w8a8"}},
                              {{"w8a16"}},
                              {{"w6a16", 8, 8}},
                              {{"w8a8", 8, 8}, KvType::kI8},
                              {{"flexq"}, KvType::kI8}};
  for (const Variant& variant : variants)
    check_model({quantized_copy(checkpoint, variant.precision, directory.path()), variant.kv_type});
}

TEST_CASE("T18_poison: a workspace full of NaN changes no bit") {
  const TemporaryDirectory directory;
  const std::string checkpoint = source_path("tests/data/wiki-tiny-1m");
  const Variant variants[] = {{{"none"}},
                              {{"flexq"}},
                              {{"w6a16"}},
                              {{"w8a16"}},
                              {{"flexq"}, KvType::kI8},
                              {{"w8a8", 8, 8}, KvType::kI8}};
  for (const Variant& variant : variants) {
    const std::string path = quantized_copy(checkpoint, variant.precision, directory.path());
    CAPTURE(path);
    const auto model = open_test_model(path, "auto", 2);
    const ModelConfig& config = model->llama->config();
    const std::vector<int32_t> tokens = random_tokens(kTokens, config.n_vocab, 3);
    OutputRowsCopy rows[2];
    std::vector<float> scores[2];
    for (const bool poison : {false, true}) {
      ContextOptions options;
      options.context_tokens = 96;
      options.chunk_tokens = 16;
      options.n_outputs = 40;
      options.kv_type = variant.kv_type;
      options.poison_workspace = poison;
      const auto context = value_of(Context::create(model, options));
      scores[poison].resize(tokens.size() - 1);
      require_ok(
          context->score(tokens, scores[poison].data(), [](int64_t, int64_t) { return false; }));
      rows[poison] = decode_rows(*context, 0, std::span(tokens).first(40));
      for (size_t i = 40; i < tokens.size(); ++i)
        rows[poison].append(decode_rows(*context, 0, std::span(tokens).subspan(i, 1)));
    }
    check_same(rows[1], rows[0], config, "poisoned");
    CHECK(scores[0] == scores[1]);
  }
}

}  // namespace flexq::test
