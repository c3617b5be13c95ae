#include "runtime/context.h"

#include <algorithm>

#include "base/clock.h"
#include "base/floating_point.h"
#include "runtime/philox.h"

namespace flexq {
bool LoadedModel::is_end_token(int32_t token) const {
  const std::vector<int32_t>& ends = llama->config().eos_token_ids;
  return std::find(ends.begin(), ends.end(), token) != ends.end();
}

Status ContextUse::status() const {
  if (ok_) return Status();
  return Status::error(StatusCode::kInvalidState,
                       "context: expected one thread at a time, found another call in progress");
}

Result<std::shared_ptr<Context>> Context::create(std::shared_ptr<const LoadedModel> model,
                                                 const ContextOptions& options) {
  std::shared_ptr<Context> context(new Context);
  const LlamaModel& llama = *model->llama;
  FLEXQ_ASSIGN_OR_RETURN(context->plan_,
                         plan_context(llama.device(), llama.config(), llama.tensors(),
                                      model->policy != "none", model->pool->n_threads(), options));
  const ContextPlan& plan = context->plan_;
  context->model_ = std::move(model);
  context->poison_workspace_ = options.poison_workspace;
  FLEXQ_ASSIGN_OR_RETURN(context->pages_, llama.device().allocate(plan.kv_bytes, "KV cache"));
  FLEXQ_ASSIGN_OR_RETURN(context->workspace_,
                         llama.device().allocate(plan.workspace_bytes, "workspace"));
  const auto span_of = [](DeviceBuffer& buffer) {
    return std::span<uint8_t>(buffer.data(), static_cast<size_t>(buffer.size()));
  };
  FLEXQ_ASSIGN_OR_RETURN(
      context->executor_,
      llama.device().create_executor(plan.shape, span_of(*context->workspace_),
                                     span_of(*context->pages_), *context->model_->pool));
  context->cache_ =
      KvCache(plan.shape.n_sequences, plan.shape.context_tokens, kPageTokens, plan.n_pages);
  context->notes_.resize(static_cast<size_t>(plan.shape.n_sequences));
  const auto chunk = static_cast<size_t>(plan.shape.chunk_tokens);
  context->chunk_tokens_.resize(chunk);
  context->chunk_positions_.resize(chunk);
  context->chunk_sequences_.resize(chunk);
  context->chunk_outputs_.reserve(chunk);
  context->chunk_targets_.reserve(chunk);
  context->samplings_.reserve(static_cast<size_t>(plan.shape.n_outputs));
  context->samples_.reserve(static_cast<size_t>(plan.shape.n_outputs));
  context->rope_rows_ = RopeRows(context->model_->rope, plan.shape.context_tokens);
  context->chunk_cos_.resize(chunk * static_cast<size_t>(plan.shape.head_dim / 2));
  context->chunk_sin_.resize(context->chunk_cos_.size());
  return context;
}

Status Context::check_sequence(int32_t sequence) const {
  if (sequence >= 0 && sequence < cache_.n_sequences()) return Status();
  return Status::error(StatusCode::kInvalidArgument, "sequence: expected 0 to %d, found %d",
                       cache_.n_sequences() - 1, sequence);
}

Status Context::check_token(int32_t token) const {
  if (token >= 0 && token < plan_.shape.n_vocab) return Status();
  return Status::error(StatusCode::kInvalidArgument, "token: expected 0 to %d, found %d",
                       plan_.shape.n_vocab - 1, token);
}

Status Context::check_items(std::span<const BatchItem> items) const {
  int64_t n_tokens = 0;
  int64_t n_rows = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const BatchItem& item = items[i];
    FLEXQ_RETURN_IF_ERROR(check_sequence(item.sequence));
    for (size_t j = 0; j < i; ++j) {
      if (items[j].sequence == item.sequence) {
        return Status::error(StatusCode::kInvalidArgument,
                             "batch: expected each sequence once, found sequence %d twice",
                             item.sequence);
      }
    }
    for (const int32_t token : item.tokens)
      FLEXQ_RETURN_IF_ERROR(check_token(token));
    const auto count = static_cast<int64_t>(item.tokens.size());
    n_tokens += count;
    n_rows += item.output == OutputRows::kAll ? count : item.output == OutputRows::kLast ? 1 : 0;
  }
  if (n_tokens == 0) {
    return Status::error(StatusCode::kInvalidArgument, "batch: expected at least one token");
  }
  if (n_rows > plan_.shape.n_outputs) {
    return Status::error(
        StatusCode::kInvalidArgument,
        "batch: expected at most %d output rows (flexq_context_options_set_outputs),"
        " found %lld",
        plan_.shape.n_outputs, static_cast<long long>(n_rows));
  }
  return Status();
}

// The tokens of a batch in the cache: taken out again at the end of the scope, by an exception too,
// unless they were kept.
class Context::Appended {
 public:
  Appended(Context& context, std::span<const BatchItem> items) : context_(context), items_(items) {}
  ~Appended() {
    for (const BatchItem& item : items_.first(n_appended_)) {
      const auto added = static_cast<int32_t>(item.tokens.size());
      context_.cache_.rewind(item.sequence, context_.cache_.length(item.sequence) - added);
    }
  }
  Appended(const Appended&) = delete;
  Appended& operator=(const Appended&) = delete;

  Status append() {
    for (const BatchItem& item : items_) {
      FLEXQ_RETURN_IF_ERROR(context_.cache_.append(
          item.sequence, item.tokens,
          [&](int32_t from, int32_t to) { return context_.executor_->copy_page(from, to); }));
      ++n_appended_;
    }
    return Status();
  }
  void keep() { n_appended_ = 0; }

 private:
  Context& context_;
  const std::span<const BatchItem> items_;
  size_t n_appended_ = 0;
};

Status Context::decode(std::span<const BatchItem> items, StopCheck stop) {
  const DefaultFloatingPoint environment;
  n_output_rows_ = 0;
  FLEXQ_RETURN_IF_ERROR(check_items(items));
  FLEXQ_RETURN_IF_ERROR(stop());
  Appended appended(*this, items);
  FLEXQ_RETURN_IF_ERROR(appended.append());
  if (poison_workspace_) FLEXQ_RETURN_IF_ERROR(executor_->poison_workspace());
  const int64_t start = now_ns();
  Status status = run_items(items, stop);
  counters_.compute_ns += now_ns() - start;
  if (status.ok()) appended.keep();
  return status;
}

void Context::stage_token(int32_t index, int32_t sequence, int32_t position) {
  const auto i = static_cast<size_t>(index);
  chunk_tokens_[i] = cache_.tokens(sequence)[static_cast<size_t>(position)];
  chunk_positions_[i] = position;
  chunk_sequences_[i] = sequence;
  const size_t half = static_cast<size_t>(plan_.shape.head_dim / 2);
  rope_rows_.copy(position, &chunk_cos_[i * half], &chunk_sin_[i * half]);
}

Status Context::run_chunk(int32_t n_tokens, StopCheck stop) {
  ForwardBatch batch;
  batch.n_tokens = n_tokens;
  batch.tokens = chunk_tokens_.data();
  batch.positions = chunk_positions_.data();
  batch.sequences = chunk_sequences_.data();
  batch.block_tables = cache_.block_tables();
  batch.rope_cos = chunk_cos_.data();
  batch.rope_sin = chunk_sin_.data();
  FLEXQ_RETURN_IF_ERROR(forward(*model_->llama, *executor_, batch, stop));
  ++counters_.forward_calls;
  counters_.tokens_computed += n_tokens;
  return Status();
}

Status Context::run_items(std::span<const BatchItem> items, StopCheck stop) {
  int32_t n_staged = 0;
  int32_t n_rows = 0;
  chunk_outputs_.clear();
  const auto flush = [&]() -> Status {
    if (n_staged == 0) return Status();
    FLEXQ_RETURN_IF_ERROR(run_chunk(n_staged, stop));
    FLEXQ_RETURN_IF_ERROR(
        executor_->final_norm(model_->llama->final_norm(), chunk_outputs_, n_rows));
    n_rows += static_cast<int32_t>(chunk_outputs_.size());
    chunk_outputs_.clear();
    n_staged = 0;
    return Status();
  };
  for (const BatchItem& item : items) {
    const auto count = static_cast<int32_t>(item.tokens.size());
    const int32_t first = cache_.length(item.sequence) - count;
    for (int32_t i = 0; i < count; ++i) {
      stage_token(n_staged, item.sequence, first + i);
      const bool wanted =
          item.output == OutputRows::kAll || (item.output == OutputRows::kLast && i + 1 == count);
      if (wanted) chunk_outputs_.push_back(n_staged);
      if (++n_staged == plan_.shape.chunk_tokens) FLEXQ_RETURN_IF_ERROR(flush());
    }
  }
  FLEXQ_RETURN_IF_ERROR(flush());
  if (n_rows > 0) {
    FLEXQ_RETURN_IF_ERROR(stop());
    FLEXQ_RETURN_IF_ERROR(executor_->logits(model_->llama->lm_head(), 0, 0, n_rows));
  }
  FLEXQ_RETURN_IF_ERROR(check_output_rows(n_rows));
  FLEXQ_RETURN_IF_ERROR(executor_->finish());
  n_output_rows_ = n_rows;
  return Status();
}

Status Context::check_output_rows(int32_t n_rows) {
  if (n_rows == 0) return Status();
  FLEXQ_ASSIGN_OR_RETURN(const int32_t row, executor_->find_nonfinite(n_rows, true));
  if (row < 0) return Status();
  return Status::error(StatusCode::kNonFinite,
                       "logits of output row %d: expected finite numbers, found NaN or infinity",
                       row);
}

bool Context::can_sample(const SamplingParams& params) const {
  return executor_->can_sample() && !params.penalizes() && params.logit_bias.empty();
}

Status non_finite_sampling() {
  return Status::error(StatusCode::kNonFinite,
                       "sampling: expected finite logits and a token that is not forbidden");
}

Status Context::sample(std::span<const RowSampling> rows, std::span<SampledToken> tokens) {
  if (rows.empty()) return Status();
  samplings_.clear();
  for (const RowSampling& row : rows) {
    const SamplingParams& params = *row.params;
    samplings_.push_back({row.row, params.temperature, params.top_k, params.top_p, params.min_p,
                          uniform_at(params.seed, row.position)});
  }
  samples_.resize(rows.size());
  FLEXQ_RETURN_IF_ERROR(executor_->sample(samplings_, samples_.data()));
  for (size_t i = 0; i < rows.size(); ++i)
    tokens[i] = {samples_[i].token, samples_[i].log_prob};
  return Status();
}

Result<SampledToken> Context::sample(int32_t row, const SamplingParams& params, int32_t position) {
  const RowSampling sampling = {row, &params, position};
  SampledToken token;
  FLEXQ_RETURN_IF_ERROR(sample({&sampling, 1}, {&token, 1}));
  if (token.token < 0) return non_finite_sampling();
  return token;
}

Status Context::score(std::span<const int32_t> tokens, float* log_probs,
                      FunctionRef<bool(int64_t, int64_t)> progress) {
  if (cache_.length(0) != 0) {
    return Status::error(StatusCode::kInvalidState,
                         "sequence 0: expected an empty sequence to score with, found %d tokens",
                         cache_.length(0));
  }
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  const BatchItem item{0, tokens, OutputRows::kNone};
  const ScoreTargets targets{0, tokens.empty() ? tokens : tokens.subspan(1)};
  FLEXQ_RETURN_IF_ERROR(score({&item, 1}, {&targets, 1}, log_probs,
                              [&](int64_t n_computed) { return progress(n_computed, n_tokens); }));
  return rewind(0, 0);
}

Status Context::score(std::span<const BatchItem> items, std::span<const ScoreTargets> targets,
                      float* log_probs, FunctionRef<bool(int64_t)> progress) {
  const DefaultFloatingPoint environment;
  n_output_rows_ = 0;
  FLEXQ_RETURN_IF_ERROR(check_items(items));
  for (const ScoreTargets& target : targets) {
    for (const int32_t token : target.tokens)
      FLEXQ_RETURN_IF_ERROR(check_token(token));
  }
  Appended appended(*this, items);
  FLEXQ_RETURN_IF_ERROR(appended.append());
  if (poison_workspace_) FLEXQ_RETURN_IF_ERROR(executor_->poison_workspace());
  const int64_t start = now_ns();
  Status status = score_items(items, targets, log_probs, progress);
  counters_.compute_ns += now_ns() - start;
  if (status.ok()) appended.keep();
  return status;
}

Status Context::score_items(std::span<const BatchItem> items, std::span<const ScoreTargets> targets,
                            float* log_probs, FunctionRef<bool(int64_t)> progress) {
  int32_t n_staged = 0;
  int64_t n_computed = 0;
  chunk_outputs_.clear();
  chunk_targets_.clear();
  const auto flush = [&]() -> Status {
    if (n_staged == 0) return Status();
    FLEXQ_RETURN_IF_ERROR(run_chunk(n_staged, [] { return Status(); }));
    FLEXQ_RETURN_IF_ERROR(score_chunk(log_probs));
    log_probs += chunk_targets_.size();
    n_computed += n_staged;
    n_staged = 0;
    chunk_outputs_.clear();
    chunk_targets_.clear();
    if (!progress(n_computed)) return Status();
    return Status::error(StatusCode::kCancelled, "scoring was cancelled by the progress callback");
  };
  for (size_t k = 0; k < items.size(); ++k) {
    const BatchItem& item = items[k];
    const auto count = static_cast<int32_t>(item.tokens.size());
    const int32_t first = cache_.length(item.sequence) - count;
    const std::span<const int32_t> wanted = targets[k].tokens;
    for (int32_t i = 0; i < count; ++i) {
      stage_token(n_staged, item.sequence, first + i);
      const auto target = static_cast<size_t>(i - targets[k].first);
      if (i >= targets[k].first && target < wanted.size()) {
        chunk_outputs_.push_back(n_staged);
        chunk_targets_.push_back(wanted[target]);
      }
      if (++n_staged == plan_.shape.chunk_tokens) FLEXQ_RETURN_IF_ERROR(flush());
    }
  }
  FLEXQ_RETURN_IF_ERROR(flush());
  return executor_->finish();
}

Status Context::score_chunk(float* log_probs) {
  const LlamaModel& llama = *model_->llama;
  FLEXQ_RETURN_IF_ERROR(executor_->final_norm(llama.final_norm(), chunk_outputs_, 0));
  const auto n_scored = static_cast<int32_t>(chunk_targets_.size());
  for (int32_t row = 0; row < n_scored; row += plan_.shape.n_outputs) {
    const int32_t n_rows = std::min(plan_.shape.n_outputs, n_scored - row);
    const auto first = static_cast<size_t>(row);
    FLEXQ_RETURN_IF_ERROR(executor_->logits(llama.lm_head(), row, 0, n_rows));
    FLEXQ_ASSIGN_OR_RETURN(const int32_t bad_row, executor_->find_nonfinite(n_rows, false));
    if (bad_row >= 0) {
      const auto bad = static_cast<size_t>(chunk_outputs_[first + static_cast<size_t>(bad_row)]);
      return Status::error(StatusCode::kNonFinite,
                           "logits of sequence %d, position %d: expected finite numbers, found NaN "
                           "or infinity",
                           chunk_sequences_[bad], chunk_positions_[bad]);
    }
    FLEXQ_RETURN_IF_ERROR(executor_->log_probs(
        std::span<const int32_t>(chunk_targets_).subspan(first, static_cast<size_t>(n_rows)),
        log_probs + first));
  }
  return Status();
}

Status Context::rewind(int32_t sequence, int32_t n_tokens) {
  FLEXQ_RETURN_IF_ERROR(check_sequence(sequence));
  if (n_tokens < 0 || n_tokens > cache_.length(sequence)) {
    return Status::error(StatusCode::kInvalidArgument,
                         "rewind of sequence %d: expected 0 to %d tokens, found %d", sequence,
                         cache_.length(sequence), n_tokens);
  }
  cache_.rewind(sequence, n_tokens);
  return Status();
}

Status Context::fork(int32_t from, int32_t to) {
  FLEXQ_RETURN_IF_ERROR(check_sequence(from));
  FLEXQ_RETURN_IF_ERROR(check_sequence(to));
  cache_.fork(from, to);
  return Status();
}

}  // namespace flexq
