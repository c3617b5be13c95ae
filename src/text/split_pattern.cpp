#include "text/split_pattern.h"

#include <pcre2.h>

#include <algorithm>
#include <string>

#include "text/piece_name.h"
#include "text/tokenizer_data.h"
#include "text/utf8.h"

namespace flexq {
namespace {

// Nested parentheses; the patterns in use have two.
constexpr uint32_t kMaxNesting = 32;
// How far a pattern may look behind, and the largest count in {m,n}.
constexpr uint32_t kMaxLookbehind = 255;
constexpr int32_t kMaxRepeat = 255;
// For the backtracking points of one match; a match that needs more is refused.
constexpr uint32_t kMatchHeapKib = 32 * 1024;
// Work allowed per byte of text, in units of WorkMeter. Known patterns take less than 48.
constexpr int64_t kWorkPerByte = 256;
constexpr int64_t kMinWork = 4096;

// Counts the work of PCRE2, which calls it before every item of the pattern: one for the item and
// one for each byte that the position in the text has moved by, forth or back. An item that fails
// has looked at no more bytes than kMaxRepeat characters have. So the work of all matches in a text
// is bounded, whatever the pattern does.
struct WorkMeter {
  int64_t left = 0;
  size_t position = 0;

  static int on_item(pcre2_callout_block* block, void* data) {
    WorkMeter& meter = *static_cast<WorkMeter*>(data);
    const size_t position = block->current_position;
    meter.left -= 1 + static_cast<int64_t>(position > meter.position ? position - meter.position
                                                                     : meter.position - position);
    meter.position = position;
    return meter.left >= 0 ? 0 : PCRE2_ERROR_CALLOUT;
  }
};

// Whether some {m}, {m,} or {m,n} counts beyond kMaxRepeat. Takes what only looks like one, in a
// character class, for one too.
bool has_large_repeat(std::string_view pattern) {
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '{') continue;
    int32_t count = 0;
    for (++i; i < pattern.size() && pattern[i] != '}'; ++i) {
      const char c = pattern[i];
      count = c >= '0' && c <= '9' ? std::min(count * 10 + (c - '0'), kMaxRepeat + 1) : 0;
      if (count > kMaxRepeat) return true;
    }
  }
  return false;
}

// \s in PCRE2 matches U+180E, which has not been white space since Unicode 6.3.
std::string with_unicode_spaces(std::string_view pattern) {
  std::string out;
  out.reserve(pattern.size() + 64);
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '\\' || i + 1 == pattern.size()) {
      out.push_back(pattern[i]);
      continue;
    }
    const char escaped = pattern[++i];
    if (escaped == 's')
      out.append("\\p{White_Space}");
    else if (escaped == 'S')
      out.append("\\P{White_Space}");
    else
      out.append({'\\', escaped});
  }
  return out;
}

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using CodeOwner = std::unique_ptr<pcre2_code, Freer<pcre2_code_free>>;
using MatchDataOwner = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;
using MatchContextOwner = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;
using CompileContextOwner =
    std::unique_ptr<pcre2_compile_context, Freer<pcre2_compile_context_free>>;

std::string error_text(int error) {
  PCRE2_UCHAR text[128];
  if (pcre2_get_error_message(error, text, sizeof(text)) < 0)
    return "error " + std::to_string(error);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct SplitPattern::Code {
  CodeOwner code;
};

// What PCRE2 needs while it matches.
struct TextSplitter::Scratch {
  MatchDataOwner match_data;
  MatchContextOwner context;
  WorkMeter meter;
};

Result<SplitPattern> SplitPattern::compile(std::string_view pattern) {
  if (pattern.size() > static_cast<size_t>(kMaxSplitPatternBytes))
    return Status::error(StatusCode::kLimitExceeded,
                         "split pattern of %zu bytes, at most %d are supported", pattern.size(),
                         kMaxSplitPatternBytes);
  if (!is_valid_utf8(pattern))
    return Status::error(StatusCode::kCorrupt, "the split pattern is not valid UTF-8");
  if (has_large_repeat(pattern))
    return Status::error(StatusCode::kUnsupportedModel, "split pattern %s: a repeat count above %d",
                         PieceName(pattern).c_str(), kMaxRepeat);
  const CompileContextOwner context(pcre2_compile_context_create(nullptr));
  if (context == nullptr) return Status::out_of_memory("split pattern", 0);
  pcre2_set_parens_nest_limit(context.get(), kMaxNesting);
  const std::string translated = with_unicode_spaces(pattern);
  // No start optimization: it would scan the text without being counted.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C |
                                PCRE2_AUTO_CALLOUT | PCRE2_NO_START_OPTIMIZE;
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  auto code = std::make_shared<Code>();
  code->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                 kOptions, &error, &error_offset, context.get()));
  if (code->code == nullptr && error == PCRE2_ERROR_HEAP_FAILED)
    return Status::out_of_memory("split pattern", 0);
  if (code->code == nullptr)
    return Status::error(StatusCode::kUnsupportedModel, "split pattern %s: not taken by PCRE2: %s",
                         PieceName(pattern).c_str(), error_text(error).c_str());
  uint32_t last_reference = 0;
  uint32_t lookbehind = 0;
  pcre2_pattern_info(code->code.get(), PCRE2_INFO_BACKREFMAX, &last_reference);
  pcre2_pattern_info(code->code.get(), PCRE2_INFO_MAXLOOKBEHIND, &lookbehind);
  if (last_reference > 0 || lookbehind > kMaxLookbehind)
    return Status::error(StatusCode::kUnsupportedModel, "split pattern %s: %s",
                         PieceName(pattern).c_str(),
                         last_reference > 0 ? "a back reference" : "looks far behind");
  SplitPattern compiled;
  compiled.code_ = std::move(code);
  return compiled;
}

TextSplitter::TextSplitter(const SplitPattern& pattern, std::string_view text)
    : pattern_(&pattern), text_(text), scratch_(std::make_unique<Scratch>()) {
  scratch_->match_data.reset(pcre2_match_data_create(1, nullptr));
  scratch_->context.reset(pcre2_match_context_create(nullptr));
  scratch_->meter.left = kMinWork + kWorkPerByte * static_cast<int64_t>(text.size());
  if (scratch_->context == nullptr) return;
  pcre2_match_context* context = scratch_->context.get();
  pcre2_set_heap_limit(context, kMatchHeapKib);
  // PCRE2's own count of steps does not see how long they are: the meter does.
  pcre2_set_match_limit(context, UINT32_MAX);
  pcre2_set_depth_limit(context, UINT32_MAX);
  pcre2_set_callout(context, WorkMeter::on_item, &scratch_->meter);
}

TextSplitter::~TextSplitter() = default;

Result<std::string_view> TextSplitter::next() {
  if (at_ == text_.size()) return std::string_view();
  if (match_end_ <= at_) FLEXQ_RETURN_IF_ERROR(find_match());
  const size_t end = at_ < match_begin_ ? match_begin_ : match_end_;
  const std::string_view part = text_.substr(at_, end - at_);
  at_ = end;
  return part;
}

// Sets match_begin_ and match_end_ to the first match at or after at_.
Status TextSplitter::find_match() {
  if (scratch_->match_data == nullptr || scratch_->context == nullptr)
    return Status::out_of_memory("regular expression match", 0);
  scratch_->meter.position = at_;
  const int result = pcre2_match(
      pattern_->code_->code.get(), reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(), at_,
      PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, scratch_->match_data.get(), scratch_->context.get());
  if (result >= 0) {
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch_->match_data.get());
    // \K can move the beginning, even behind the end.
    if (bounds[0] < at_ || bounds[1] <= bounds[0])
      return Status::error(StatusCode::kUnsupportedModel,
                           "the split pattern gives a match from byte %zu to %zu, expected one at "
                           "byte %zu or later",
                           bounds[0], bounds[1], at_);
    match_begin_ = bounds[0];
    match_end_ = bounds[1];
    return {};
  }
  switch (result) {
    case PCRE2_ERROR_NOMATCH:
      match_begin_ = match_end_ = text_.size();
      return {};
    case PCRE2_ERROR_CALLOUT:
    case PCRE2_ERROR_MATCHLIMIT:
    case PCRE2_ERROR_DEPTHLIMIT:
    case PCRE2_ERROR_HEAPLIMIT:
      return Status::error(StatusCode::kLimitExceeded,
                           "the split pattern takes too much work at byte %zu of a text of %zu "
                           "bytes",
                           at_, text_.size());
    case PCRE2_ERROR_NOMEMORY:
      return Status::out_of_memory("regular expression match", 0);
    default:
      return Status::error(StatusCode::kUnsupportedModel, "the split pattern fails at byte %zu: %s",
                           at_, error_text(result).c_str());
  }
}

}  // namespace flexq
