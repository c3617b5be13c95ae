#include "runtime/small_session.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "base/checked.h"
#include "base/little_endian.h"
#include "model/synthetic_source.h"
#include "runtime/session_header.h"

namespace flexq::test {
namespace {

template <typename T>
T checked(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.status().message());
  return std::move(result).value();
}
void check(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

// The header's fields as they stand, whatever they are.
SessionHeader fields_of(std::span<const uint8_t> bytes) {
  SessionHeader header;
  header.n_tokens = load_little_endian<int32_t>(bytes, 24);
  header.kv_type = static_cast<KvType>(load_little_endian<int32_t>(bytes, 28));
  header.n_layers = load_little_endian<int32_t>(bytes, 32);
  header.n_kv_heads = load_little_endian<int32_t>(bytes, 36);
  header.head_dim = load_little_endian<int32_t>(bytes, 40);
  header.note_bytes = load_little_endian<int64_t>(bytes, 48);
  return header;
}

}  // namespace

ModelConfig small_session_config() {
  ModelConfig config;
  config.n_layers = 2;
  config.n_embd = 8;
  config.n_heads = 2;
  config.n_kv_heads = 1;
  config.head_dim = 4;
  config.n_ff = 8;
  config.n_vocab = 24;
  config.context_tokens = 64;
  config.bos_token_id = 1;
  return config;
}

std::shared_ptr<const LoadedModel> small_session_model(uint64_t seed) {
  const ModelConfig config = small_session_config();
  ModelSource source;
  source.weights = std::make_shared<SyntheticSource>(config, unquantized_tensors(config), seed);
  source.policy = "fp16";
  LoadOptions options;
  options.device = "cpu";
  options.n_threads = 1;
  return checked(load_model(source, options, [](int64_t, int64_t) { return false; }));
}

std::shared_ptr<Context> session_context(std::shared_ptr<const LoadedModel> model, KvType kv_type,
                                         int32_t context_tokens, int32_t n_sequences,
                                         int32_t cache_tokens) {
  ContextOptions options;
  options.kv_type = kv_type;
  options.context_tokens = context_tokens;
  options.n_sequences = n_sequences;
  options.cache_tokens = cache_tokens;
  return checked(Context::create(std::move(model), options));
}

void fill_sequence(Context& context, int32_t sequence, int32_t n_tokens) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < n_tokens; ++i)
    tokens.push_back((i * 7 + 3) % context.plan().shape.n_vocab);
  const BatchItem item{sequence, tokens, OutputRows::kLast};
  check(context.decode({&item, 1}, [] { return Status(); }));
}

std::vector<uint8_t> saved_sequence(Context& context, int32_t sequence) {
  std::vector<uint8_t> bytes(static_cast<size_t>(checked(context.saved_bytes(sequence))));
  check(
      context.save_sequence(sequence, [&](int64_t offset, std::span<const uint8_t> part) -> Status {
        std::copy(part.begin(), part.end(), bytes.begin() + offset);
        return Status();
      }));
  return bytes;
}

Status restore_bytes(Context& context, int32_t sequence, std::span<const uint8_t> bytes) {
  return context.restore_sequence(sequence, *make_memory_source(bytes));
}

void seal_session(std::span<uint8_t> bytes) {
  if (std::ssize(bytes) < kSessionHeaderBytes) return;
  const SessionLayout layout = session_layout(fields_of(bytes));
  const int64_t block_bytes = CheckedSize(layout.token_bytes).mul(kSessionBlockTokens).value();
  const bool has_blocks = layout.hashes_begin >= 0 && layout.blocks_begin >= layout.hashes_begin &&
                          layout.blocks_begin <= std::ssize(bytes) && block_bytes > 0;
  const auto blocks_begin = has_blocks ? layout.blocks_begin : std::ssize(bytes);
  int64_t hash_begin = layout.hashes_begin;
  for (int64_t at = blocks_begin; has_blocks && at < std::ssize(bytes) && hash_begin < blocks_begin;
       at += block_bytes, hash_begin += 32) {
    const auto block = bytes.subspan(static_cast<size_t>(at));
    const Sha256Digest hash =
        sha256(block.first(std::min(block.size(), static_cast<size_t>(block_bytes))));
    std::memcpy(bytes.data() + hash_begin, hash.data(), hash.size());
  }
  const auto front = bytes.first(static_cast<size_t>(blocks_begin));
  put_session_hash(bytes, session_hash(front, front.subspan(kSessionHeaderBytes)));
}

}  // namespace flexq::test
