#include "runtime/generator.h"

#include <algorithm>

#include "base/clock.h"
#include "base/memory_guard.h"

namespace flexq {

Generator::Generator(std::shared_ptr<Context> context, Answer answer)
    : context_(std::move(context)), answer_(std::move(answer)) {
  const ExecutorShape& shape = context_->plan().shape;
  sampler_.reserve(shape.n_vocab,
                   std::min(shape.context_tokens, answer_.options().sampling.penalty_window));
}

Result<std::unique_ptr<Generator>> Generator::create(std::shared_ptr<Context> context,
                                                     GeneratorOptions options) {
  const ExecutorShape& shape = context->plan().shape;
  if (options.sequence < 0 || options.sequence >= shape.n_sequences) {
    return Status::error(StatusCode::kInvalidArgument,
                         "generator sequence: expected 0 to %d, found %d", shape.n_sequences - 1,
                         options.sequence);
  }
  FLEXQ_ASSIGN_OR_RETURN(Answer answer,
                         Answer::create(context->shared_model(), shape, std::move(options)));
  return std::unique_ptr<Generator>(new Generator(std::move(context), std::move(answer)));
}

Status Generator::start_text(std::string_view prompt, const EncodeOptions& encode) {
  const std::shared_ptr<const Tokenizer>& tokenizer = context_->model().tokenizer;
  if (tokenizer == nullptr) {
    return Status::error(StatusCode::kNotFound,
                         "generator: the model has no tokenizer; start with token ids");
  }
  EncodeOptions adjusted = encode;
  if (context_->cache().length(answer_.options().sequence) > 0) adjusted.add_bos = false;
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, tokenizer->encode(prompt, adjusted));
  return start_tokens(tokens);
}

Status Generator::start_tokens(std::span<const int32_t> tokens) {
  if (state_ != State::kCreated) {
    return Status::error(StatusCode::kInvalidState,
                         "generator: expected one start, found a second");
  }
  FLEXQ_RETURN_IF_ERROR(
      answer_.start(context_->cache().tokens(answer_.options().sequence), tokens));
  start_ns_ = now_ns();
  const int64_t deadline_ms = answer_.options().deadline_ms;
  deadline_ns_ = deadline_ms > 0 ? start_ns_ + deadline_ms * 1'000'000 : 0;
  state_ = State::kStarted;
  return Status();
}

Status Generator::check_stop() const {
  if (cancelled_.load(std::memory_order_relaxed)) {
    return Status::error(StatusCode::kCancelled, "generation was cancelled");
  }
  if (deadline_ns_ != 0 && now_ns() >= deadline_ns_) {
    return Status::error(StatusCode::kDeadlineExceeded, "generation did not finish within %lld ms",
                         static_cast<long long>(answer_.options().deadline_ms));
  }
  return Status();
}

Status Generator::advance() {
  const bool is_prompt = state_ == State::kStarted;
  BatchItem item;
  item.sequence = answer_.options().sequence;
  item.tokens = is_prompt ? answer_.prompt() : answer_.generated().last(1);
  item.output = OutputRows::kLast;
  const int64_t begin = now_ns();
  Status status = context_->decode({&item, 1}, [this] { return check_stop(); });
  (is_prompt ? stats_.prefill_ns : stats_.decode_ns) += now_ns() - begin;
  if (status.ok()) state_ = State::kRunning;
  return status;
}

void Generator::note_end() {
  stats_.finish_reason = answer_.finish_reason();
  state_ = State::kFinished;
}

Status Generator::fail(Status status) {
  answer_.fail(status.code());
  note_end();
  return status;
}

void Generator::stop_by_callback() {
  if (state_ == State::kFinished) return;
  answer_.fail(StatusCode::kCancelled);
  note_end();
}

Result<TokenEvent> Generator::next() {
  if (state_ == State::kCreated || state_ == State::kFinished) {
    return Status::error(StatusCode::kInvalidState,
                         state_ == State::kCreated ? "generator: expected a start before next"
                                                   : "generator: expected a running answer, found "
                                                     "a finished one");
  }
  const int32_t sequence = answer_.options().sequence;
  const size_t n_generated = answer_.generated().size();
  const int32_t n_cached = context_->cache().length(sequence);
  TokenEvent event;
  Status status = guard_memory("generator", [&] { return step(&event); });
  if (status.ok()) return event;
  // A step that fails leaves no trace: neither a token without its text nor its keys and values.
  answer_.truncate(n_generated);
  FLEXQ_RETURN_IF_ERROR(context_->rewind(sequence, n_cached));
  return fail(std::move(status));
}

Status Generator::step(TokenEvent* event) {
  if (answer_.pending() != FinishReason::kNone) {
    *event = answer_.finish(answer_.pending());
    note_end();
    return Status();
  }
  FLEXQ_RETURN_IF_ERROR(advance());
  const int64_t begin = now_ns();
  const std::span<const int32_t> history = context_->cache().tokens(answer_.options().sequence);
  FLEXQ_ASSIGN_OR_RETURN(const SampledToken sampled, answer_.draw(*context_, 0, history, sampler_));
  if (stats_.time_to_first_token_ns == 0) stats_.time_to_first_token_ns = now_ns() - start_ns_;
  FLEXQ_RETURN_IF_ERROR(answer_.take(sampled, static_cast<int32_t>(history.size()), event));
  if (answer_.finish_reason() != FinishReason::kNone) note_end();
  stats_.decode_ns += now_ns() - begin;
  return Status();
}

}  // namespace flexq
