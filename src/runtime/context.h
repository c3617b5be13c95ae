// KV cache, workspace and executor of one context: decodes batches of (sequence, tokens).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/byte_source.h"
#include "base/status.h"
#include "model/forward.h"
#include "model/rope_table.h"
#include "runtime/kv_cache.h"
#include "runtime/loaded_model.h"
#include "runtime/sampler.h"
#include "runtime/session_header.h"

namespace flexq {

// What the caller asked for; 0 means the default that flexq.h documents.
struct ContextOptions {
  int32_t context_tokens = 0;
  int32_t n_sequences = 1;
  int32_t chunk_tokens = 0;
  int32_t cache_tokens = 0;
  int32_t n_outputs = 0;
  std::optional<KvType> kv_type;  // empty: f16, or f32 for an unquantized checkpoint
  bool poison_workspace = false;
};

inline constexpr int32_t kMaxSequences = 4096;
inline constexpr int32_t kMaxChunkTokens = 1 << 16;
inline constexpr int32_t kDefaultContextTokens = 4096;

// Options resolved against a model, and the exact sizes of the context's two device buffers.
struct ContextPlan {
  ExecutorShape shape;
  int32_t n_pages = 0;
  int64_t kv_bytes = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t workspace_bytes = 0;
};

Result<ContextPlan> plan_context(const Device& device, const ModelConfig& config,
                                 std::span<const StoredTensor> tensors, bool quantized,
                                 int32_t n_threads, const ContextOptions& options);

enum class OutputRows : int32_t { kNone = 0, kLast = 1, kAll = 2 };

struct BatchItem {
  int32_t sequence = 0;
  std::span<const int32_t> tokens;
  OutputRows output = OutputRows::kLast;
};

// What followed the tokens of a BatchItem in a text, from its token `first` on.
struct ScoreTargets {
  int32_t first = 0;
  std::span<const int32_t> tokens;
};

// How to draw from a row of logits the token that `position` will have.
struct RowSampling {
  int32_t row = 0;
  const SamplingParams* params = nullptr;
  int32_t position = 0;
};
Status non_finite_sampling();

// Takes the bytes of a saved sequence, each once; the first ones come last, since they have the
// hash of the others.
using SessionSink = FunctionRef<Status(int64_t offset, std::span<const uint8_t> bytes)>;

struct ContextCounters {
  int64_t tokens_computed = 0;
  int64_t forward_calls = 0;
  int64_t compute_ns = 0;
};

// One thread at a time; see ContextUse.
class Context {
 public:
  static Result<std::shared_ptr<Context>> create(std::shared_ptr<const LoadedModel> model,
                                                 const ContextOptions& options);

  const LoadedModel& model() const { return *model_; }
  const std::shared_ptr<const LoadedModel>& shared_model() const { return model_; }
  const ContextPlan& plan() const { return plan_; }
  const KvCache& cache() const { return cache_; }
  const ContextCounters& counters() const { return counters_; }

  // flexq_context_decode: all or nothing. `stop` is asked before every layer.
  Status decode(std::span<const BatchItem> items, StopCheck stop);
  int32_t output_count() const { return n_output_rows_; }
  // Rows of the last decode, valid until the next one.
  Result<const float*> logits_row(int32_t row) { return executor_->logits_row(row); }
  Result<const float*> hidden_row(int32_t row) { return executor_->hidden_row(row); }

  // Whether sample() is to be preferred to a Sampler over logits_row(), and knows these parameters.
  bool can_sample(const SamplingParams& params) const;
  // Draws a token from each of the rows of logits, as Sampler does; token -1 where that would be
  // non_finite_sampling(). As many rows as there are outputs at most.
  Status sample(std::span<const RowSampling> rows, std::span<SampledToken> tokens);
  Result<SampledToken> sample(int32_t row, const SamplingParams& params, int32_t position);

  // flexq_context_score. log_probs: (tokens.size() - 1). progress(done, total): true cancels.
  Status score(std::span<const int32_t> tokens, float* log_probs,
               FunctionRef<bool(int64_t done, int64_t total)> progress);
  // Puts the items' tokens behind their sequences, as decode() does, and writes the log-probability
  // of every target behind the tokens before it: (tokens of all targets), item after item. The
  // items' own outputs do not count. progress(tokens computed so far): true cancels. All or
  // nothing.
  Status score(std::span<const BatchItem> items, std::span<const ScoreTargets> targets,
               float* log_probs, FunctionRef<bool(int64_t n_computed)> progress);

  Status rewind(int32_t sequence, int32_t n_tokens);
  Status fork(int32_t from, int32_t to);

  // See KvCache. The sequences exist; the one that adopts is empty.
  int32_t adopt_prefix(int32_t sequence, std::span<const int32_t> tokens) {
    return cache_.adopt_prefix(sequence, tokens);
  }
  void publish(int32_t sequence) { cache_.publish(sequence); }

  // A sequence's tokens, keys, values and note, as schema/SESSION.md describes them: how many bytes
  // they are, to a sink, and back into an empty sequence, which stays empty on any error.
  Result<int64_t> saved_bytes(int32_t sequence) const;
  Status save_sequence(int32_t sequence, SessionSink write);
  Status restore_sequence(int32_t sequence, ByteSource& source);
  // Bytes of the application that are saved with a sequence.
  std::span<const uint8_t> note(int32_t sequence) const {
    return notes_[static_cast<size_t>(sequence)];
  }
  Status set_note(int32_t sequence, std::span<const uint8_t> bytes);
  Status check_sequence(int32_t sequence) const;

 private:
  friend class ContextUse;
  class Appended;
  class Restored;
  Context() = default;
  Status check_items(std::span<const BatchItem> items) const;
  Status check_token(int32_t token) const;
  Status run_items(std::span<const BatchItem> items, StopCheck stop);
  // Forward pass over the n_tokens tokens staged in chunk_*.
  Status run_chunk(int32_t n_tokens, StopCheck stop);
  Status score_items(std::span<const BatchItem> items, std::span<const ScoreTargets> targets,
                     float* log_probs, FunctionRef<bool(int64_t)> progress);
  // log_probs: (chunk_targets_.size())
  Status score_chunk(float* log_probs);
  void stage_token(int32_t index, int32_t sequence, int32_t position);
  Status check_output_rows(int32_t n_rows);
  // Of the sequence as it is, without a hash.
  Result<SessionHeader> session_header(int32_t sequence) const;
  // Reads all blocks of a session into the pages of its tokens. front: see SessionLayout; page and
  // block_room: (page_bytes(shape)).
  Status restore_blocks(int32_t sequence, const SessionHeader& header,
                        std::span<const uint8_t> front, ByteSource& source, std::span<uint8_t> page,
                        std::span<uint8_t> block_room);

  std::shared_ptr<const LoadedModel> model_;
  ContextPlan plan_;
  bool poison_workspace_ = false;
  std::unique_ptr<DeviceBuffer> pages_;
  std::unique_ptr<DeviceBuffer> workspace_;
  std::unique_ptr<Executor> executor_;
  KvCache cache_;
  std::vector<std::vector<uint8_t>> notes_;  // (n_sequences)
  ContextCounters counters_;
  int32_t n_output_rows_ = 0;
  std::atomic_flag in_use_ = ATOMIC_FLAG_INIT;

  // Staging of one forward pass, all (chunk_tokens) but the angles.
  std::vector<int32_t> chunk_tokens_;
  std::vector<int32_t> chunk_positions_;
  std::vector<int32_t> chunk_sequences_;
  std::vector<int32_t> chunk_outputs_;     // indices into the chunk
  std::vector<int32_t> chunk_targets_;     // of score(): what followed the tokens of chunk_outputs_
  std::vector<DeviceSampling> samplings_;  // scratch of sample(), as is the next one
  std::vector<DeviceSample> samples_;
  RopeRows rope_rows_;
  std::vector<float> chunk_cos_;  // (chunk_tokens, head_dim / 2)
  std::vector<float> chunk_sin_;
};

// Marks a context as busy for the scope; ok() is false when another thread is inside it.
class ContextUse {
 public:
  explicit ContextUse(Context& context)
      : context_(context), ok_(!context.in_use_.test_and_set(std::memory_order_acquire)) {}
  ~ContextUse() {
    if (ok_) context_.in_use_.clear(std::memory_order_release);
  }
  ContextUse(const ContextUse&) = delete;
  ContextUse& operator=(const ContextUse&) = delete;
  Status status() const;

 private:
  Context& context_;
  bool ok_;
};

}  // namespace flexq
