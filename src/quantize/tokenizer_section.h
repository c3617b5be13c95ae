// The tokenizer of a checkpoint as the bytes of a bundle's section.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace flexq {

// `model` is the content of tokenizer.model, `name` its name for messages. The tokenizer may have
// fewer pieces than the model has embeddings, `n_vocab` (checkpoints pad their vocabulary), never
// more: kUnsupportedModel.
Result<std::vector<uint8_t>> make_tokenizer_section(std::string_view model, int32_t n_vocab,
                                                    const std::string& name);

}  // namespace flexq
