// Models, contexts and rows of results for tests of whatever runs a model. Errors that a test does
// not expect become std::runtime_error with the status's message.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/context.h"
#include "runtime/model_loader.h"

namespace flexq::test {

template <typename T>
T value_of(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.status().message());
  return std::move(result).value();
}
void require_ok(const Status& status);

inline constexpr auto kNeverStop = [] { return Status(); };

// A checkpoint folder or a bundle, on the CPU.
std::shared_ptr<const LoadedModel> open_test_model(const std::string& path,
                                                   const std::string& cpu_kernels = "auto",
                                                   int32_t n_threads = 1);

// The path of the checkpoint's bundle under a policy, written into `folder`; for "none" the
// checkpoint itself.
std::string quantized_copy(const std::string& checkpoint, const std::string& policy,
                           const std::string& folder);

// `n` token ids of the whole vocabulary, a function of the seed only.
std::vector<int32_t> random_tokens(int64_t n, int32_t n_vocab, uint64_t seed);

// What one decode gives, copied: logits (n_rows, n_vocab), embeddings (n_rows, n_embd).
struct OutputRowsCopy {
  std::vector<float> logits;
  std::vector<float> embeddings;
  void append(const OutputRowsCopy& other);
  // The last `n_rows` rows.
  OutputRowsCopy last(const ModelConfig& config, size_t n_rows) const;
};
OutputRowsCopy decode_rows(Context& context, std::span<const BatchItem> items);
OutputRowsCopy decode_rows(Context& context, int32_t sequence, std::span<const int32_t> tokens);

// "" when both hold the same bits, or else where they differ first and by what.
std::string first_difference(const OutputRowsCopy& found, const OutputRowsCopy& expected,
                             const ModelConfig& config);

}  // namespace flexq::test
