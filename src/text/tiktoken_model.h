// Reads tiktoken's `tokenizer.model` of LLaMA-3: lines of a token in base64, a space and its rank.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/added_tokens.h"
#include "text/tokenizer_data.h"

namespace flexq {

// Whether the file is of this kind, as far as its first line tells.
bool is_tiktoken_model(std::string_view bytes);

// `bytes` is the whole file, `name` its name for messages. The file holds neither the special
// tokens nor the split pattern: the pattern is that of LLaMA-3, and the 256 special tokens in its
// published order follow the ranks, but for the ids that `added` lists (in the order of ids). BOS
// is
// <|begin_of_text|>, which the model expects, EOS <|end_of_text|>.
//
// kCorrupt: a malformed line (with its number), ranks that are not 0 to n - 1, a token listed
// twice, a byte without token; kLimitExceeded: more or longer tokens than validate_tokenizer()
// allows.
Result<TokenizerData> read_tiktoken_model(std::string_view bytes,
                                          const std::vector<AddedToken>& added,
                                          const std::string& name);

}  // namespace flexq
