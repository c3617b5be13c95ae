// Keeps one answer to one JSON object: which tokens may come next.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "text/json_vocabulary.h"

namespace flexq {

class JsonConstraint {
 public:
  // For an answer of at most room_tokens tokens, with logits of n_vocab. Errors: kNotFound (no
  // tokenizer), kInvalidArgument (no room for an object), kUnsupportedModel.
  static Result<JsonConstraint> create(std::shared_ptr<const Tokenizer> tokenizer, int32_t n_vocab,
                                       int64_t room_tokens);

  // The tokens that may come next: bit t % 64 of word t / 64. There is one until the object is
  // complete. Allocates nothing. Valid until the next call.
  std::span<const uint64_t> allowed();

  // Takes a token that allowed() had.
  void accept(int32_t token);

  // The object is closed; no token may come next.
  bool complete() const { return state_.complete(); }

  // How many bytes the last allowed() looked at.
  int64_t n_asked() const { return n_asked_; }

 private:
  JsonConstraint() = default;

  std::shared_ptr<const Tokenizer> tokenizer_;
  const JsonVocabulary* vocabulary_ = nullptr;  // the tokenizer's
  int64_t remaining_tokens_ = 0;                // of the answer
  JsonAutomaton state_;
  std::vector<JsonAutomaton> states_;  // scratch of JsonVocabulary::allow()
  std::vector<uint64_t> allowed_;      // (n_vocab) bits
  int64_t n_asked_ = 0;
};

}  // namespace flexq
