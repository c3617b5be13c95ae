// The tokenizer of a checkpoint as the bytes of a bundle's section.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "text/tokenizer_data.h"

namespace flexq {

// `name` names the tokenizer's folder in messages. The tokenizer may have fewer pieces than the
// model has embeddings, `n_vocab` (checkpoints pad their vocabulary), never more:
// kUnsupportedModel.
Result<std::vector<uint8_t>> make_tokenizer_section(const TokenizerData& tokenizer, int32_t n_vocab,
                                                    const std::string& name);

}  // namespace flexq
