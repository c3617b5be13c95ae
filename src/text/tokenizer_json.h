// Reads Hugging Face's tokenizer.json: BPE, byte-level (LLaMA-3) or over characters (LLaMA-2).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/added_tokens.h"
#include "text/tokenizer_data.h"

namespace flexq {

// `text` is the whole file, `name` its name for messages. add_bos and bos_id follow from the
// post-processor; eos_id and pad_id, which the file does not tell, are -1. "truncation" and
// "padding", which are for batches in training, are skipped.
//
// Understood: a model of type BPE without dropout, prefixes and suffixes, and
//  * byte-level: no normalizer; pre_tokenizer ByteLevel (the pattern of GPT-2), or a Sequence of
//    Split (Regex, Isolated) and ByteLevel (use_regex false); without add_prefix_space;
//  * over characters: normalizer Replace of " " by U+2581 with or without Prepend of U+2581 before
//    it and no pre_tokenizer; or no normalizer and pre_tokenizer Metaspace that does not split;
//    decoders that undo just that;
//  * post_processor null, ByteLevel, TemplateProcessing, or a Sequence of these.
//
// kCorrupt: malformed JSON, ids with gaps, merges of tokens that do not exist, parts that do not
// fit together; kLimitExceeded: sizes; kUnsupportedModel: whatever else the file asks for, by name.
Result<TokenizerData> read_tokenizer_json(std::string_view text, const std::string& name);

// Only the added tokens of such a file, for a vocabulary that comes from elsewhere.
Result<std::vector<AddedToken>> read_added_tokens_of_json(std::string_view text,
                                                          const std::string& name);

}  // namespace flexq
