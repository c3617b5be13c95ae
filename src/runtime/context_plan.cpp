#include <algorithm>

#include "base/checked.h"
#include "runtime/context.h"

namespace flexq {
namespace {

Status out_of_range(const char* what, int64_t low, int64_t high, int64_t found) {
  return Status::error(StatusCode::kUnsupportedValue, "%s: expected %lld to %lld, found %lld", what,
                       static_cast<long long>(low), static_cast<long long>(high),
                       static_cast<long long>(found));
}

}  // namespace

Result<ContextPlan> plan_context(const Device& device, const ModelConfig& config,
                                 std::span<const StoredTensor> tensors, bool quantized,
                                 int32_t n_threads, const ContextOptions& options) {
  ContextPlan plan;
  plan.shape = executor_shape(config, tensors);
  ExecutorShape& shape = plan.shape;
  shape.n_threads = n_threads;
  const bool wants_f16 = quantized || !device.supports(KvType::kF32);
  shape.kv_type = options.kv_type.value_or(wants_f16 ? KvType::kF16 : KvType::kF32);
  if (!device.supports(shape.kv_type)) {
    return Status::error(StatusCode::kUnsupportedValue,
                         "kv_type: expected f16 or i8 on device %s, found f32",
                         device.describe().id.c_str());
  }

  const int32_t trained = config.context_tokens;
  shape.context_tokens = options.context_tokens > 0 ? options.context_tokens
                                                    : std::min(kDefaultContextTokens, trained);
  if (shape.context_tokens < 1 || shape.context_tokens > trained) {
    return out_of_range("context tokens", 1, trained, shape.context_tokens);
  }
  shape.n_sequences = options.n_sequences;
  if (shape.n_sequences < 1 || shape.n_sequences > kMaxSequences) {
    return out_of_range("sequences", 1, kMaxSequences, shape.n_sequences);
  }
  const int32_t chunk_tokens =
      options.chunk_tokens != 0 ? options.chunk_tokens : device.default_chunk_tokens();
  if (chunk_tokens < 1 || chunk_tokens > kMaxChunkTokens) {
    return out_of_range("chunk tokens", 1, kMaxChunkTokens, chunk_tokens);
  }
  const int64_t most_tokens = int64_t{shape.context_tokens} * shape.n_sequences;
  // A pass can hold no more tokens than fit the context.
  shape.chunk_tokens = static_cast<int32_t>(std::min<int64_t>(chunk_tokens, most_tokens));
  shape.n_outputs = options.n_outputs > 0 ? options.n_outputs : shape.n_sequences;
  if (shape.n_outputs > kMaxChunkTokens) {
    return out_of_range("outputs", 1, kMaxChunkTokens, shape.n_outputs);
  }

  const int64_t most_pages = int64_t{shape.pages_per_sequence()} * shape.n_sequences;
  const int64_t n_pages = options.cache_tokens > 0
                              ? std::min(ceil_div(options.cache_tokens, kPageTokens), most_pages)
                              : most_pages;
  if (n_pages > INT32_MAX) return out_of_range("KV cache pages", 1, INT32_MAX, n_pages);
  plan.n_pages = static_cast<int32_t>(n_pages);
  const CheckedSize kv_bytes = CheckedSize(page_bytes(shape)).mul(n_pages);
  if (!kv_bytes.valid()) {
    return Status::error(
        StatusCode::kLimitExceeded, "KV cache of %lld pages of %lld bytes does not fit memory",
        static_cast<long long>(n_pages), static_cast<long long>(page_bytes(shape)));
  }
  plan.kv_bytes = kv_bytes.value();
  plan.kv_bytes_per_token = page_bytes(shape) / kPageTokens;
  FLEXQ_ASSIGN_OR_RETURN(plan.workspace_bytes, device.workspace_bytes(shape));
  return plan;
}

}  // namespace flexq
