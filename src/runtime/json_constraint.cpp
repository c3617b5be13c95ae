#include "runtime/json_constraint.h"

#include <utility>

namespace flexq {

Result<JsonConstraint> JsonConstraint::create(std::shared_ptr<const Tokenizer> tokenizer,
                                              int32_t n_vocab, int64_t room_tokens) {
  if (tokenizer == nullptr) {
    return Status::error(StatusCode::kNotFound,
                         "format json: expected a model with a tokenizer, found none");
  }
  JsonConstraint constraint;
  const int32_t least_tokens = constraint.state_.closing_bytes();
  if (room_tokens < least_tokens) {
    return Status::error(StatusCode::kInvalidArgument,
                         "format json: expected room for at least %d tokens, found %lld",
                         least_tokens, static_cast<long long>(room_tokens));
  }
  constraint.vocabulary_ = &tokenizer->json_vocabulary();
  FLEXQ_RETURN_IF_ERROR(constraint.vocabulary_->check_closing(n_vocab));
  constraint.remaining_tokens_ = room_tokens;
  constraint.tokenizer_ = std::move(tokenizer);
  constraint.states_.resize(constraint.vocabulary_->n_states());
  constraint.allowed_.resize((static_cast<size_t>(n_vocab) + 63) / 64);
  return constraint;
}

std::span<const uint64_t> JsonConstraint::allowed() {
  states_[0] = state_;
  // Behind the next token there must be room for one more for each byte that closes the object.
  n_asked_ = vocabulary_->allow(states_, remaining_tokens_ - 1, allowed_);
  return allowed_;
}

void JsonConstraint::accept(int32_t token) {
  for (const char byte : tokenizer_->piece_bytes(token))
    state_.accept(static_cast<uint8_t>(byte));
  --remaining_tokens_;
}

}  // namespace flexq
