#include "runtime/generator.h"

#include <algorithm>
#include <chrono>

#include "base/memory_guard.h"

namespace flexq {
namespace {

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Result<std::unique_ptr<Generator>> Generator::create(std::shared_ptr<Context> context,
                                                     GeneratorOptions options) {
  const ExecutorShape& shape = context->plan().shape;
  if (options.sequence < 0 || options.sequence >= shape.n_sequences) {
    return Status::error(StatusCode::kInvalidArgument,
                         "generator sequence: expected 0 to %d, found %d", shape.n_sequences - 1,
                         options.sequence);
  }
  // Reports a bad stop string now rather than at the start.
  FLEXQ_ASSIGN_OR_RETURN(const StopMatcher checked, StopMatcher::create(options.stop_strings));
  static_cast<void>(checked);
  std::unique_ptr<Generator> generator(new Generator);
  generator->context_ = std::move(context);
  generator->options_ = std::move(options);
  generator->sampler_.reserve(
      shape.n_vocab, std::min(shape.context_tokens, generator->options_.sampling.penalty_window));
  return generator;
}

Status Generator::start_text(std::string_view prompt, const EncodeOptions& encode) {
  const std::shared_ptr<const Tokenizer>& tokenizer = context_->model().tokenizer;
  if (tokenizer == nullptr) {
    return Status::error(StatusCode::kNotFound,
                         "generator: the model has no tokenizer; start with token ids");
  }
  EncodeOptions adjusted = encode;
  if (context_->cache().length(options_.sequence) > 0) adjusted.add_bos = false;
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, tokenizer->encode(prompt, adjusted));
  return start_tokens(tokens);
}

Status Generator::start_tokens(std::span<const int32_t> tokens) {
  if (state_ != State::kCreated) {
    return Status::error(StatusCode::kInvalidState,
                         "generator: expected one start, found a second");
  }
  const KvCache& cache = context_->cache();
  const int32_t history = cache.length(options_.sequence);
  const int32_t context_tokens = context_->plan().shape.context_tokens;
  if (tokens.empty()) {
    return Status::error(StatusCode::kInvalidArgument,
                         "prompt: expected at least one token, found none");
  }
  const int64_t n_total = history + static_cast<int64_t>(tokens.size());
  if (n_total > context_tokens) {
    return Status::error(StatusCode::kContextFull,
                         "prompt: expected at most %d tokens (the context length), found %lld%s",
                         context_tokens, static_cast<long long>(n_total),
                         history > 0 ? " with the sequence's history" : "");
  }
  const int32_t n_vocab = context_->plan().shape.n_vocab;
  for (const int32_t token : tokens) {
    if (token < 0 || token >= n_vocab) {
      return Status::error(StatusCode::kInvalidArgument, "prompt token: expected 0 to %d, found %d",
                           n_vocab - 1, token);
    }
  }
  std::vector<int32_t> prompt(tokens.begin(), tokens.end());
  if (context_->model().tokenizer != nullptr) {
    // The stream needs everything before the answer, history included. Ids that the model has but
    // its tokenizer lacks (padded vocabularies) stand for no text.
    std::vector<int32_t> before;
    const int32_t n_pieces = context_->model().tokenizer->n_vocab();
    for (const int32_t token : cache.tokens(options_.sequence)) {
      if (token < n_pieces) before.push_back(token);
    }
    for (const int32_t token : tokens) {
      if (token < n_pieces) before.push_back(token);
    }
    FLEXQ_ASSIGN_OR_RETURN(TokenStream stream, TokenStream::create(context_->model().tokenizer,
                                                                   before, options_.stop_strings));
    stream_.emplace(std::move(stream));
  }
  prompt_ = std::move(prompt);
  start_ns_ = now_ns();
  deadline_ns_ = options_.deadline_ms > 0 ? start_ns_ + options_.deadline_ms * 1'000'000 : 0;
  state_ = State::kStarted;
  return Status();
}

Status Generator::check_stop() const {
  if (cancelled_.load(std::memory_order_relaxed)) {
    return Status::error(StatusCode::kCancelled, "generation was cancelled");
  }
  if (deadline_ns_ != 0 && now_ns() >= deadline_ns_) {
    return Status::error(StatusCode::kDeadlineExceeded, "generation did not finish within %lld ms",
                         static_cast<long long>(options_.deadline_ms));
  }
  return Status();
}

bool Generator::ends_answer(int32_t token) const {
  if (options_.ignore_end) return false;
  const std::vector<int32_t>& stops = options_.stop_tokens;
  return context_->model().is_end_token(token) ||
         std::find(stops.begin(), stops.end(), token) != stops.end();
}

Status Generator::advance() {
  const bool is_prompt = state_ == State::kStarted;
  BatchItem item;
  item.sequence = options_.sequence;
  item.tokens =
      is_prompt ? std::span<const int32_t>(prompt_) : std::span<const int32_t>(generated_).last(1);
  item.output = OutputRows::kLast;
  const int64_t begin = now_ns();
  Status status = context_->decode({&item, 1}, [this] { return check_stop(); });
  (is_prompt ? stats_.prefill_ns : stats_.decode_ns) += now_ns() - begin;
  if (status.ok()) state_ = State::kRunning;
  return status;
}

// The answer is over before its last text is added: that may fail for want of memory.
std::string_view Generator::end(FinishReason reason) {
  stats_.finish_reason = reason;
  state_ = State::kFinished;
  if (!stream_) return {};
  const std::string_view text = stream_->finish();
  text_ += text;
  return text;
}

Status Generator::fail(Status status) {
  const FinishReason reason = status.code() == StatusCode::kCancelled ? FinishReason::kCancelled
                              : status.code() == StatusCode::kDeadlineExceeded
                                  ? FinishReason::kDeadline
                                  : FinishReason::kError;
  // Held-back text that finds no memory is lost; the error that ended the answer is what counts.
  static_cast<void>(guard_memory("text of an answer", [&]() -> Status {
    end(reason);
    return Status();
  }));
  return status;
}

void Generator::stop_by_callback() {
  if (state_ != State::kFinished) end(FinishReason::kCancelled);
}

TokenEvent Generator::finish(FinishReason reason) {
  TokenEvent event;
  event.finish_reason = reason;
  event.text = end(reason);
  return event;
}

Result<TokenEvent> Generator::next() {
  if (state_ == State::kCreated || state_ == State::kFinished) {
    return Status::error(StatusCode::kInvalidState,
                         state_ == State::kCreated ? "generator: expected a start before next"
                                                   : "generator: expected a running answer, found "
                                                     "a finished one");
  }
  const size_t n_generated = generated_.size();
  const int32_t n_cached = context_->cache().length(options_.sequence);
  TokenEvent event;
  Status status = guard_memory("generator", [&] { return step(&event); });
  if (status.ok()) return event;
  // A step that fails leaves no trace: neither a token without its text nor its keys and values.
  generated_.resize(n_generated);
  FLEXQ_RETURN_IF_ERROR(context_->rewind(options_.sequence, n_cached));
  return fail(std::move(status));
}

Result<SampledToken> Generator::sample(std::span<const int32_t> history, int32_t position) {
  if (options_.n_alternatives == 0 && context_->can_sample(options_.sampling)) {
    return context_->sample(0, options_.sampling, position);
  }
  FLEXQ_ASSIGN_OR_RETURN(const float* row, context_->logits_row(0));
  const std::span<const float> logits(row, static_cast<size_t>(context_->plan().shape.n_vocab));
  FLEXQ_ASSIGN_OR_RETURN(const SampledToken sampled,
                         sampler_.sample(options_.sampling, logits, history, position));
  if (options_.n_alternatives > 0) {
    sampler_.most_probable(logits, options_.n_alternatives, alternatives_);
  }
  return sampled;
}

Status Generator::step(TokenEvent* event) {
  if (pending_ != FinishReason::kNone) {
    *event = finish(pending_);
    return Status();
  }
  FLEXQ_RETURN_IF_ERROR(advance());
  const int64_t begin = now_ns();
  const ExecutorShape& shape = context_->plan().shape;
  const std::span<const int32_t> history = context_->cache().tokens(options_.sequence);
  const auto position = static_cast<int32_t>(history.size());
  FLEXQ_ASSIGN_OR_RETURN(const SampledToken sampled, sample(history, position));
  const int32_t token = sampled.token;
  if (stats_.time_to_first_token_ns == 0) stats_.time_to_first_token_ns = now_ns() - start_ns_;
  if (ends_answer(token)) {
    *event = finish(FinishReason::kStop);
    return Status();
  }

  generated_.push_back(token);
  event->token = token;
  event->position = position;
  event->log_prob = sampled.log_prob;
  event->alternatives = alternatives_;
  if (stream_ && token < context_->model().tokenizer->n_vocab()) {
    FLEXQ_ASSIGN_OR_RETURN(event->text, stream_->push(token));
    text_ += event->text;
  }
  const auto n_generated = static_cast<int64_t>(generated_.size());
  if (stream_ && stream_->stopped()) {
    pending_ = FinishReason::kStop;
  } else if (n_generated == options_.max_tokens || position + 1 >= shape.context_tokens) {
    pending_ = FinishReason::kLength;
  }
  stats_.decode_ns += now_ns() - begin;
  return Status();
}

}  // namespace flexq
