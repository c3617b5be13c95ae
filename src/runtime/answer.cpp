#include "runtime/answer.h"

#include <algorithm>

#include "base/memory_guard.h"

namespace flexq {

FinishReason finish_reason_of(StatusCode code) {
  return code == StatusCode::kCancelled          ? FinishReason::kCancelled
         : code == StatusCode::kDeadlineExceeded ? FinishReason::kDeadline
                                                 : FinishReason::kError;
}

Result<Answer> Answer::create(std::shared_ptr<const LoadedModel> model, const ExecutorShape& shape,
                              GeneratorOptions options) {
  // Reports a bad stop string now rather than at the start.
  FLEXQ_RETURN_IF_ERROR(StopMatcher::create(options.stop_strings).status());
  Answer answer;
  answer.model_ = std::move(model);
  answer.options_ = std::move(options);
  answer.context_tokens_ = shape.context_tokens;
  answer.n_vocab_ = shape.n_vocab;
  return answer;
}

Status Answer::check_prompt(std::span<const int32_t> history,
                            std::span<const int32_t> prompt) const {
  if (prompt.empty()) {
    return Status::error(StatusCode::kInvalidArgument,
                         "prompt: expected at least one token, found none");
  }
  const auto n_total = static_cast<int64_t>(history.size() + prompt.size());
  if (n_total > context_tokens_) {
    return Status::error(StatusCode::kContextFull,
                         "prompt: expected at most %d tokens (the context length), found %lld%s",
                         context_tokens_, static_cast<long long>(n_total),
                         history.empty() ? "" : " with the sequence's history");
  }
  for (const int32_t token : prompt) {
    if (token < 0 || token >= n_vocab_) {
      return Status::error(StatusCode::kInvalidArgument, "prompt token: expected 0 to %d, found %d",
                           n_vocab_ - 1, token);
    }
  }
  return Status();
}

Status Answer::start(std::span<const int32_t> history, std::span<const int32_t> prompt) {
  FLEXQ_RETURN_IF_ERROR(check_prompt(history, prompt));
  std::optional<JsonConstraint> json;
  if (options_.format == AnswerFormat::kJson) {
    // A prompt that fills the context still gets the token after it.
    const auto n_before = static_cast<int64_t>(history.size() + prompt.size());
    int64_t room_tokens = std::max<int64_t>(context_tokens_ - n_before, 1);
    if (options_.max_tokens > 0) room_tokens = std::min<int64_t>(room_tokens, options_.max_tokens);
    FLEXQ_ASSIGN_OR_RETURN(json, JsonConstraint::create(model_->tokenizer, n_vocab_, room_tokens));
  }
  std::vector<int32_t> kept(prompt.begin(), prompt.end());
  if (model_->tokenizer != nullptr) {
    // The stream needs everything before the answer, history included. Ids that the model has but
    // its tokenizer lacks (padded vocabularies) stand for no text.
    std::vector<int32_t> before;
    const int32_t n_pieces = model_->tokenizer->n_vocab();
    for (const std::span<const int32_t> part : {history, prompt}) {
      for (const int32_t token : part) {
        if (token < n_pieces) before.push_back(token);
      }
    }
    FLEXQ_ASSIGN_OR_RETURN(TokenStream stream,
                           TokenStream::create(model_->tokenizer, before, options_.stop_strings));
    if (json) stream.drop_unfinished();
    stream_.emplace(std::move(stream));
  }
  json_ = std::move(json);
  prompt_ = std::move(kept);
  return Status();
}

bool Answer::ends_answer(int32_t token) const {
  // An object ends with its brace: a token that it goes on with is no end, whatever else it is.
  if (options_.ignore_end || json_) return false;
  const std::vector<int32_t>& stops = options_.stop_tokens;
  return model_->is_end_token(token) || std::find(stops.begin(), stops.end(), token) != stops.end();
}

Result<SampledToken> Answer::draw(Context& context, int32_t row, std::span<const int32_t> history,
                                  Sampler& sampler) {
  const auto position = static_cast<int32_t>(history.size());
  if (sampled_by_device(context)) return context.sample(row, options_.sampling, position);
  FLEXQ_ASSIGN_OR_RETURN(const float* values, context.logits_row(row));
  const std::span<const float> logits(values, static_cast<size_t>(n_vocab_));
  const auto allowed = json_ ? json_->allowed() : std::span<const uint64_t>();
  FLEXQ_ASSIGN_OR_RETURN(const SampledToken sampled,
                         sampler.sample(options_.sampling, logits, history, position, allowed));
  if (options_.n_alternatives > 0) {
    sampler.most_probable(logits, options_.n_alternatives, alternatives_);
  }
  return sampled;
}

Status Answer::take(const SampledToken& sampled, int32_t position, TokenEvent* event) {
  const int32_t token = sampled.token;
  if (ends_answer(token)) {
    *event = finish(FinishReason::kStop);
    return Status();
  }
  generated_.push_back(token);
  event->token = token;
  event->position = position;
  event->log_prob = sampled.log_prob;
  event->alternatives = alternatives_;
  if (stream_ && token < model_->tokenizer->n_vocab()) {
    FLEXQ_ASSIGN_OR_RETURN(event->text, stream_->push(token));
    text_ += event->text;
  }
  if (json_) json_->accept(token);
  const auto n_generated = static_cast<int64_t>(generated_.size());
  if ((stream_ && stream_->stopped()) || (json_ && json_->complete())) {
    pending_ = FinishReason::kStop;
  } else if (n_generated == options_.max_tokens || position + 1 >= context_tokens_) {
    pending_ = FinishReason::kLength;
  }
  return Status();
}

// The answer is over before its last text is added: that may fail for want of memory.
TokenEvent Answer::finish(FinishReason reason) {
  finish_reason_ = reason;
  TokenEvent event;
  event.finish_reason = reason;
  if (stream_) {
    event.text = stream_->finish();
    text_ += event.text;
  }
  return event;
}

void Answer::fail(StatusCode code) {
  static_cast<void>(guard_memory("text of an answer", [&]() -> Status {
    finish(finish_reason_of(code));
    return Status();
  }));
}

}  // namespace flexq
