#include "runtime/runtime_fixtures.h"

#include <cstring>
#include <random>

#include "quantize/quantize_checkpoint.h"

namespace flexq::test {
namespace {

std::string first_difference(const char* what, const std::vector<float>& found,
                             const std::vector<float>& expected, int32_t n_cols) {
  const std::string name = what;
  if (found.size() != expected.size()) {
    return name + ": " + std::to_string(found.size()) + " values, expected " +
           std::to_string(expected.size());
  }
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::memcmp(&found[i], &expected[i], sizeof(float)) == 0) continue;
    char text[128];
    snprintf(text, sizeof text, "[%zu, %zu]: %.9g, expected %.9g", i / static_cast<size_t>(n_cols),
             i % static_cast<size_t>(n_cols), static_cast<double>(found[i]),
             static_cast<double>(expected[i]));
    return name + text;
  }
  return "";
}

void append_to(std::vector<float>& values, const float* row, int32_t n) {
  values.insert(values.end(), row, row + n);
}

}  // namespace

void require_ok(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

std::shared_ptr<const LoadedModel> open_test_model(const std::string& path,
                                                   const std::string& cpu_kernels,
                                                   int32_t n_threads) {
  ModelSource source;
  source.path = path;
  LoadOptions options;
  options.device = "cpu";
  options.device_options.cpu_kernels = cpu_kernels;
  options.n_threads = n_threads;
  return value_of(load_model(source, options, [](int64_t, int64_t) { return false; }));
}

std::string quantized_copy(const std::string& checkpoint, const Precision& precision,
                           const std::string& folder) {
  if (precision.policy == "none") return checkpoint;
  QuantizeOptions options;
  options.policy = precision.policy;
  options.embedding_bits = precision.embedding_bits;
  options.lm_head_bits = precision.lm_head_bits;
  options.n_threads = 2;
  const std::string bundle = folder + "/" + precision.policy + "-e" +
                             std::to_string(precision.embedding_bits) + "-h" +
                             std::to_string(precision.lm_head_bits) + ".flexq";
  require_ok(quantize_checkpoint(checkpoint, bundle, options));
  return bundle;
}

std::string quantized_copy(const std::string& checkpoint, const std::string& policy,
                           const std::string& folder) {
  return quantized_copy(checkpoint, Precision{policy}, folder);
}

std::vector<int32_t> random_tokens(int64_t n, int32_t n_vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i)
    tokens.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(n_vocab)));
  return tokens;
}

void OutputRowsCopy::append(const OutputRowsCopy& other) {
  logits.insert(logits.end(), other.logits.begin(), other.logits.end());
  embeddings.insert(embeddings.end(), other.embeddings.begin(), other.embeddings.end());
}

OutputRowsCopy OutputRowsCopy::last(const ModelConfig& config, size_t n_rows) const {
  const auto n_logits = static_cast<ptrdiff_t>(n_rows) * config.n_vocab;
  const auto n_values = static_cast<ptrdiff_t>(n_rows) * config.n_embd;
  return {{logits.end() - n_logits, logits.end()}, {embeddings.end() - n_values, embeddings.end()}};
}

OutputRowsCopy decode_rows(Context& context, std::span<const BatchItem> items) {
  require_ok(context.decode(items, kNeverStop));
  OutputRowsCopy rows;
  for (int32_t row = 0; row < context.output_count(); ++row) {
    append_to(rows.logits, value_of(context.logits_row(row)), context.plan().shape.n_vocab);
    append_to(rows.embeddings, value_of(context.hidden_row(row)), context.plan().shape.n_embd);
  }
  return rows;
}

OutputRowsCopy decode_rows(Context& context, int32_t sequence, std::span<const int32_t> tokens) {
  const BatchItem item{sequence, tokens, OutputRows::kAll};
  return decode_rows(context, {&item, 1});
}

std::string first_difference(const OutputRowsCopy& found, const OutputRowsCopy& expected,
                             const ModelConfig& config) {
  std::string difference =
      first_difference("logits", found.logits, expected.logits, config.n_vocab);
  if (!difference.empty()) return difference;
  return first_difference("embeddings", found.embeddings, expected.embeddings, config.n_embd);
}

}  // namespace flexq::test
