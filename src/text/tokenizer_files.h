// The tokenizer of a folder: a checkpoint, or tokenizer files alone.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"
#include "text/tokenizer_data.h"

namespace flexq {

struct TokenizerFiles {
  TokenizerData data;
  std::optional<std::string> chat_template;  // Jinja text, verbatim
};

// Whether the folder has a tokenizer.model or a tokenizer.json.
Result<bool> has_tokenizer_files(const std::string& directory);

// Reads tokenizer.model, which is SentencePiece's or tiktoken's as its content says, or else
// tokenizer.json; then, where they exist, tokenizer_config.json and chat_template.jinja (which wins
// over the template in the former).
//
// Added tokens are those of tokenizer_config.json; where it lists none, those of tokenizer.json.
// The config's add_bos_token, bos_token, eos_token and pad_token, where given, replace what the
// vocabulary's file says; they must be tokens of the vocabulary, and BOS and EOS then are control
// tokens. Errors: kNotFound without a tokenizer, those of the readers, kLimitExceeded for files of
// more than 64 MiB (a template: 1 MiB).
Result<TokenizerFiles> read_tokenizer_directory(const std::string& directory);

}  // namespace flexq
