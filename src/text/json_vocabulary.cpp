#include "text/json_vocabulary.h"

#include <algorithm>

#include "text/utf8.h"

namespace flexq {
namespace {

std::vector<int32_t> tokens_with_text(const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens;
  for (int32_t id = 0; id < tokenizer.n_vocab(); ++id) {
    if (!tokenizer.piece_bytes(id).empty() && id != tokenizer.unk_id()) tokens.push_back(id);
  }
  return tokens;
}

std::vector<int32_t> tokens_with_delimiters(const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens = tokens_with_text(tokenizer);
  std::erase_if(tokens, [&](int32_t id) {
    return JsonAutomaton::is_string_content(tokenizer.piece_bytes(id));
  });
  return tokens;
}

void set_bit(std::span<uint64_t> bits, int32_t token) {
  const auto index = static_cast<size_t>(token);
  if (index / 64 < bits.size()) bits[index / 64] |= uint64_t{1} << (index % 64);
}

}  // namespace

JsonVocabulary::JsonVocabulary(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      pieces_(tokenizer, tokens_with_text(tokenizer)),
      delimiters_(tokenizer, tokens_with_delimiters(tokenizer)),
      contents_((static_cast<size_t>(tokenizer.n_vocab()) + 63) / 64) {
  for (const int32_t id : tokens_with_text(tokenizer)) {
    if (JsonAutomaton::is_string_content(tokenizer.piece_bytes(id))) set_bit(contents_, id);
  }
}

Status JsonVocabulary::check_closing(int32_t n_vocab) const {
  bool spells_parts = false;  // of characters
  bool present[256] = {};
  for (int32_t id = 0; id < std::min(n_vocab, tokenizer_.n_vocab()); ++id) {
    const std::string_view bytes = tokenizer_.piece_bytes(id);
    if (id == tokenizer_.unk_id()) continue;
    if (bytes.size() == 1) present[static_cast<uint8_t>(bytes[0])] = true;
    spells_parts = spells_parts || !is_valid_utf8(bytes);
  }
  std::string needed(JsonAutomaton::kClosingBytes);
  if (spells_parts) needed += JsonAutomaton::kClosingTrailBytes;
  for (const char byte : needed) {
    if (present[static_cast<uint8_t>(byte)]) continue;
    return Status::error(StatusCode::kUnsupportedModel,
                         "format json: expected a token for every single byte that ends an "
                         "object, found none for 0x%02X",
                         static_cast<unsigned>(static_cast<uint8_t>(byte)));
  }
  return Status();
}

int64_t JsonVocabulary::allow(std::span<JsonAutomaton> states, int64_t max_closing,
                              std::span<uint64_t> allowed) const {
  std::fill(allowed.begin(), allowed.end(), 0);
  const auto visit = [&](int32_t token, const JsonAutomaton& after) {
    if (after.closing_bytes() <= max_closing) set_bit(allowed, token);
  };
  if (!states[0].in_string()) return pieces_.walk(states, visit);
  // Most of the vocabulary, without a look at it.
  if (states[0].closing_bytes() <= max_closing) {
    std::copy_n(contents_.begin(), std::min(contents_.size(), allowed.size()), allowed.begin());
  }
  return delimiters_.walk(states, visit);
}

}  // namespace flexq
