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
// For the backtracking points of one match; a match that needs more is refused.
constexpr uint32_t kMatchHeapKib = 32 * 1024;
// A match is first looked for in a window of so many bytes, which almost every one fits in. A match
// that would look past the window's end, or takes too many steps, gets a larger one.
constexpr size_t kFirstWindowBytes = 256;
constexpr size_t kWindowGrowth = 8;
// Backtracking steps that a window allows. Known patterns take less than two per byte.
constexpr size_t kStepsPerByte = 4;
constexpr size_t kMinSteps = 1024;
// Bytes in second and larger windows, per byte of text. Known patterns consume nearly all they look
// at, so that windows which grow by 8 sum to less than 16 times the text.
constexpr int64_t kBudgetPerByte = 64;

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
};

Result<SplitPattern> SplitPattern::compile(std::string_view pattern) {
  if (pattern.size() > static_cast<size_t>(kMaxSplitPatternBytes))
    return Status::error(StatusCode::kLimitExceeded,
                         "split pattern of %zu bytes, at most %d are supported", pattern.size(),
                         kMaxSplitPatternBytes);
  if (!is_valid_utf8(pattern))
    return Status::error(StatusCode::kCorrupt, "the split pattern is not valid UTF-8");
  const CompileContextOwner context(pcre2_compile_context_create(nullptr));
  if (context == nullptr) return Status::out_of_memory("split pattern", 0);
  pcre2_set_parens_nest_limit(context.get(), kMaxNesting);
  const std::string translated = with_unicode_spaces(pattern);
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  auto code = std::make_shared<Code>();
  code->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error,
                                 &error_offset, context.get()));
  if (code->code == nullptr)
    return Status::error(StatusCode::kUnsupportedModel, "split pattern %s: not taken by PCRE2: %s",
                         PieceName(pattern).c_str(), error_text(error).c_str());
  SplitPattern compiled;
  compiled.code_ = std::move(code);
  return compiled;
}

TextSplitter::TextSplitter(const SplitPattern& pattern, std::string_view text)
    : pattern_(&pattern),
      text_(text),
      scratch_(std::make_unique<Scratch>()),
      budget_bytes_(kBudgetPerByte * static_cast<int64_t>(text.size())) {
  scratch_->match_data.reset(pcre2_match_data_create(1, nullptr));
  scratch_->context.reset(pcre2_match_context_create(nullptr));
  if (scratch_->context != nullptr) pcre2_set_heap_limit(scratch_->context.get(), kMatchHeapKib);
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

// Where a window of about `n_bytes` from at_ ends: between two characters.
size_t TextSplitter::window_end(size_t n_bytes) const {
  if (n_bytes >= text_.size() - at_) return text_.size();
  size_t end = at_ + n_bytes;
  while ((static_cast<uint8_t>(text_[end]) & 0xC0) == 0x80)
    --end;
  return end;
}

// Sets match_begin_ and match_end_ to the first match at or after at_.
Status TextSplitter::find_match() {
  if (scratch_->match_data == nullptr || scratch_->context == nullptr)
    return Status::out_of_memory("regular expression match", 0);
  size_t from = at_;
  size_t window = kFirstWindowBytes;
  for (;;) {
    const size_t end = window_end(from - at_ + window);
    const bool is_whole = end == text_.size();
    pcre2_set_match_limit(scratch_->context.get(),
                          static_cast<uint32_t>(std::min<size_t>(
                              kMinSteps + kStepsPerByte * (end - from), UINT32_MAX)));
    // A hard partial match says that the end of the window was looked at: more text might give
    // another result.
    const uint32_t options =
        PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | (is_whole ? 0u : PCRE2_PARTIAL_HARD);
    const int result =
        pcre2_match(pattern_->code_->code.get(), reinterpret_cast<PCRE2_SPTR>(text_.data()), end,
                    from, options, scratch_->match_data.get(), scratch_->context.get());
    if (result >= 0) {
      const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch_->match_data.get());
      // \K can move the beginning, even behind the end.
      if (bounds[0] < at_ || bounds[1] <= bounds[0])
        return Status::error(
            StatusCode::kUnsupportedModel,
            "the split pattern gives a match from byte %zu to %zu, expected one at "
            "byte %zu or later",
            bounds[0], bounds[1], at_);
      match_begin_ = bounds[0];
      match_end_ = bounds[1];
      return {};
    }
    switch (result) {
      case PCRE2_ERROR_NOMATCH:
        if (is_whole) {
          match_begin_ = match_end_ = text_.size();
          return {};
        }
        from = end;
        window = kFirstWindowBytes;
        continue;
      case PCRE2_ERROR_PARTIAL:
      case PCRE2_ERROR_MATCHLIMIT:
      case PCRE2_ERROR_DEPTHLIMIT:
      case PCRE2_ERROR_HEAPLIMIT:
        budget_bytes_ -= static_cast<int64_t>(end - from);
        if (is_whole || budget_bytes_ < 0)
          return Status::error(
              StatusCode::kLimitExceeded,
              "the split pattern takes too many steps at byte %zu of a text of %zu "
              "bytes",
              at_, text_.size());
        window *= kWindowGrowth;
        continue;
      case PCRE2_ERROR_NOMEMORY:
        return Status::out_of_memory("regular expression match", 0);
      default:
        return Status::error(StatusCode::kUnsupportedModel,
                             "the split pattern fails at byte %zu: %s", at_,
                             error_text(result).c_str());
    }
  }
}

}  // namespace flexq
