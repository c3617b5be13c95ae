// Uses a tokenizer that untrusted bytes gave.
#pragma once

#include <memory>

#include "fuzz/fuzz_target.h"
#include "text/tokenizer.h"

namespace flexq::test {

// Builds the tokenizer of data that a reader accepted, writes it as a bundle's section and reads it
// again, and runs a few texts through it, and answers in JSON. False where the reader refused.
bool use_tokenizer(Result<TokenizerData> data);

// Encodes and decodes, whole and streamed; what comes out fits together. False when the
// tokenizer's split pattern takes too many steps for this text.
bool use_text(const std::shared_ptr<const Tokenizer>& tokenizer, std::string_view text,
              const EncodeOptions& options);

}  // namespace flexq::test
