// Generated tokens in, text out: what a streaming caller sees.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "text/detokenizer.h"
#include "text/stop_matcher.h"
#include "text/tokenizer.h"

namespace flexq {

// All text handed out, put together, is decode(prompt + pushed ids) minus decode(prompt), up to
// the first stop string. (A prompt that ends within a character, which no encoded text does, hands
// that character to the stream.) Never splits a UTF-8 character. One thread at a time.
class TokenStream {
 public:
  // `prompt`: the ids in front of the generated ones; empty when the stream starts the text.
  // Errors of StopMatcher::create(); kInvalidArgument for a prompt id outside the vocabulary.
  static Result<TokenStream> create(std::shared_ptr<const Tokenizer> tokenizer,
                                    std::span<const int32_t> prompt = {},
                                    std::span<const std::string> stop_strings = {});

  // Before the first push: a character that the prompt ends within is left to the prompt, where
  // decode() shows it as U+FFFD unless the next token completes it.
  void drop_unfinished() { detokenizer_.drop_unfinished(); }

  // The text that `id` makes certain, possibly empty; the view is valid until the next call.
  // After a stop string was found nothing more comes. kInvalidArgument for an id outside the
  // vocabulary, which changes nothing.
  Result<std::string_view> push(int32_t id);

  // The end: the rest of the text, in which bytes of an unfinished character are U+FFFD each.
  // Call once, after the last push.
  std::string_view finish();

  // A stop string was found: the caller should generate no more.
  bool stopped() const { return stop_matcher_.matched() >= 0; }
  // Its index in create()'s list, or -1.
  int32_t stop_index() const { return stop_matcher_.matched(); }

 private:
  TokenStream(std::shared_ptr<const Tokenizer> tokenizer, StopMatcher stop_matcher)
      : tokenizer_(std::move(tokenizer)),
        detokenizer_(*tokenizer_),
        stop_matcher_(std::move(stop_matcher)) {}

  std::shared_ptr<const Tokenizer> tokenizer_;
  Detokenizer detokenizer_;
  StopMatcher stop_matcher_;
  std::string decoded_;  // scratch: what the detokenizer made of one id
  std::string out_;      // what push() and finish() return views of
};

}  // namespace flexq
