// Reads SentencePiece's `tokenizer.model` (a protobuf ModelProto) without libprotobuf.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "text/tokenizer_data.h"

namespace flexq {

// `bytes` is the whole file, `name` its name for messages. add_bos is set when the model has a
// BOS piece, as LLaMA expects.
//
// kCorrupt: malformed protobuf (with the byte position) or parts that do not fit together;
// kLimitExceeded: more or longer pieces than validate_tokenizer() allows; kUnsupportedModel: a
// SentencePiece model that is not plain BPE (unigram, word or character models, normalization
// tables, spaces as suffixes), by name. Unknown fields are skipped.
Result<TokenizerData> read_sentencepiece_model(std::span<const uint8_t> bytes,
                                               const std::string& name);

}  // namespace flexq
