// The regular expression by which byte-level tokenizers cut a text before merging (through PCRE2).
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/status.h"

namespace flexq {

// Immutable and shareable. The pattern comes from a file and may be hostile: its length, its
// nesting, the memory of a match and the work per byte of text are bounded; what exceeds them ends
// in a status.
class SplitPattern {
 public:
  // PCRE2 syntax with Unicode properties; \s and \S mean the property White_Space, as in the regex
  // engines for which these patterns were written. kLimitExceeded beyond kMaxSplitPatternBytes,
  // kUnsupportedModel for a pattern that PCRE2 does not take, with its reason, and for what no
  // known tokenizer uses and could not be bounded: back references, looking far behind, and repeat
  // counts above 255.
  static Result<SplitPattern> compile(std::string_view pattern);

 private:
  friend class TextSplitter;
  struct Code;
  std::shared_ptr<const Code> code_;
};

// Cuts one text: its parts, put together, are the text. Matches are parts, and so is what lies
// between two of them; an empty match is none. One thread at a time.
class TextSplitter {
 public:
  // `text` must be valid UTF-8 of less than 2^31 bytes. Borrows both.
  TextSplitter(const SplitPattern& pattern, std::string_view text);
  ~TextSplitter();
  TextSplitter(const TextSplitter&) = delete;
  TextSplitter& operator=(const TextSplitter&) = delete;

  // The next part; empty at the end of the text. kLimitExceeded when the pattern needs more work
  // than known ones need at most, which is linear in the text, kOutOfMemory.
  Result<std::string_view> next();

 private:
  struct Scratch;
  Status find_match();

  const SplitPattern* pattern_;
  std::string_view text_;
  std::unique_ptr<Scratch> scratch_;
  size_t at_ = 0;           // what lies before was handed out
  size_t match_begin_ = 0;  // the next match, text_.size() when there is none
  size_t match_end_ = 0;
};

}  // namespace flexq
