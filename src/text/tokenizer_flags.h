// The options of a tokenizer as bits: what a bundle stores, and which kind has which.
#pragma once

#include <cstdint>

#include "text/tokenizer_data.h"

namespace flexq {

enum TokenizerFlag : uint32_t {
  kFlagAddBos = 1u << 0,
  kFlagAddDummyPrefix = 1u << 1,
  kFlagRemoveExtraWhitespaces = 1u << 2,
  kFlagByteFallback = 1u << 3,
  kFlagEscapeWhitespaces = 1u << 4,
  kFlagIgnoreMerges = 1u << 5,
  kFlagMergeById = 1u << 6,
  kFlagFuseUnk = 1u << 7,
  kFlagPrefixUnlessSpace = 1u << 8,
  kFlagPrefixAtStartOnly = 1u << 9,
};

struct TokenizerOption {
  TokenizerFlag flag;
  bool TokenizerData::*field;
};

inline constexpr TokenizerOption kTokenizerOptions[] = {
    {kFlagAddBos, &TokenizerData::add_bos},
    {kFlagAddDummyPrefix, &TokenizerData::add_dummy_prefix},
    {kFlagRemoveExtraWhitespaces, &TokenizerData::remove_extra_whitespaces},
    {kFlagByteFallback, &TokenizerData::byte_fallback},
    {kFlagEscapeWhitespaces, &TokenizerData::escape_whitespaces},
    {kFlagIgnoreMerges, &TokenizerData::ignore_merges},
    {kFlagMergeById, &TokenizerData::merge_by_id},
    {kFlagFuseUnk, &TokenizerData::fuse_unk},
    {kFlagPrefixUnlessSpace, &TokenizerData::prefix_unless_space},
    {kFlagPrefixAtStartOnly, &TokenizerData::prefix_at_start_only},
};

inline uint32_t flags_of(const TokenizerData& data) {
  uint32_t flags = 0;
  for (const TokenizerOption& option : kTokenizerOptions)
    if (data.*option.field) flags |= option.flag;
  return flags;
}

inline void set_flags(TokenizerData& data, uint32_t flags) {
  for (const TokenizerOption& option : kTokenizerOptions)
    data.*option.field = (flags & option.flag) != 0;
}

// The options that a kind has; 0 for an unknown one.
constexpr uint32_t flags_of_kind(TokenizerKind kind) {
  switch (kind) {
    case TokenizerKind::kSentencePieceBpe:
      return kFlagAddBos | kFlagAddDummyPrefix | kFlagRemoveExtraWhitespaces | kFlagByteFallback |
             kFlagEscapeWhitespaces;
    case TokenizerKind::kByteLevelBpe:
      return kFlagAddBos | kFlagIgnoreMerges | kFlagMergeById;
    case TokenizerKind::kCharacterBpe:
      return kFlagAddBos | kFlagAddDummyPrefix | kFlagByteFallback | kFlagEscapeWhitespaces |
             kFlagIgnoreMerges | kFlagFuseUnk | kFlagPrefixUnlessSpace | kFlagPrefixAtStartOnly;
  }
  return 0;
}

}  // namespace flexq
