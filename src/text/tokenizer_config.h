// Reads what Hugging Face's tokenizer_config.json adds to a vocabulary.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/added_tokens.h"

namespace flexq {

struct TokenizerConfig {
  std::optional<bool> add_bos_token;
  std::optional<std::string> bos_token;  // how the token is spelled; absent also for null
  std::optional<std::string> eos_token;
  std::optional<std::string> pad_token;
  std::vector<AddedToken> added_tokens;      // in the order of ids
  std::optional<std::string> chat_template;  // of several named ones "default"
};

// `text` is the whole file, `name` its name for messages. Other keys are skipped. kCorrupt for
// malformed JSON and for keys of another type than expected; errors of parse_added_tokens().
Result<TokenizerConfig> parse_tokenizer_config(std::string_view text, const std::string& name);

}  // namespace flexq
