// Token ids to text, one id at a time: the definition behind Tokenizer::decode and TokenStream.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "text/tokenizer.h"

namespace flexq {

// Holds back the bytes of an unfinished character, so every string it appends to is extended by
// whole characters. Bytes that cannot become a valid character are handed out as U+FFFD each, as
// soon as that is certain. Copyable; the tokenizer must outlive it.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  // Appends to `text` what `id` completes. kInvalidArgument for an id outside the vocabulary,
  // which changes nothing.
  Status push(int32_t id, std::string& text);

  // The end of the text: the bytes still held back become U+FFFD each. The detokenizer may then
  // be used on: the next id continues the text.
  void finish(std::string& text);

  // Forgets the bytes still held back: the next id begins a character of its own.
  void drop_unfinished() { n_pending_ = 0; }

 private:
  void push_byte(char byte, std::string& text);

  const Tokenizer* tokenizer_;
  std::array<char, 4> pending_{};  // the beginning of a character, from byte tokens
  int n_pending_ = 0;
  bool at_start_ = true;  // no text yet: the space that encode() puts in front is still to come
};

}  // namespace flexq
