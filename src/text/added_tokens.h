// Tokens that tokenizer.json and tokenizer_config.json list beside a vocabulary.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/tokenizer_data.h"

namespace flexq {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;

  // Special tokens are control pieces, others user-defined ones. A token spelled <|...|> marks
  // roles and turns whatever the file says about it: it is special, so that no user's text
  // produces it.
  PieceType type() const;
};

// One entry of either file: an object with "content" and flags. "normalized" has no meaning here:
// control pieces are looked for in the text as it is given, and so are user-defined ones. `where`
// names the entry in messages. kCorrupt for a malformed entry; kUnsupportedModel for lstrip, rstrip
// and single_word, which make a token depend on what surrounds it.
Result<AddedToken> parse_added_token(const Json& entry, int64_t id, const std::string& where);

// The whole list of tokenizer.json ("added_tokens": an array of objects with "id") or of
// tokenizer_config.json ("added_tokens_decoder": an object with ids as keys), in the order of ids.
// kCorrupt also for an id listed twice.
Result<std::vector<AddedToken>> parse_added_tokens(const Json& list, const std::string& where);

// Puts the tokens into the vocabulary: those in it must be spelled there the same way and get their
// type (unknown and byte pieces keep theirs), others must continue it without a gap. kCorrupt
// otherwise; `name` is the file with the list.
Status apply_added_tokens(const std::vector<AddedToken>& tokens, const std::string& name,
                          TokenizerData& data);

}  // namespace flexq
