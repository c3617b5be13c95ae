#include "text/tiktoken_model.h"

#include <charconv>

#include "base/base64.h"
#include "text/llama3_tokens.h"

namespace flexq {
namespace {

struct RankedToken {
  std::string bytes;
  int64_t rank = -1;
};

// "IQ== 0".
bool parse_line(std::string_view line, RankedToken& token) {
  const size_t space = line.find(' ');
  if (space == line.npos || space == 0) return false;
  token.bytes.clear();
  if (!decode_base64(line.substr(0, space), token.bytes)) return false;
  const std::string_view digits = line.substr(space + 1);
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), token.rank);
  return parsed.ec == std::errc() && parsed.ptr == digits.data() + digits.size() && token.rank >= 0;
}

// Takes the next line off `rest`, without its line break ("\n" or "\r\n").
std::string_view take_line(std::string_view& rest) {
  const size_t end = std::min(rest.find('\n'), rest.size());
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// The tokens by rank.
Result<std::vector<std::string>> read_ranks(std::string_view bytes, const std::string& name) {
  std::vector<std::string> tokens;
  size_t n_tokens = 0;
  RankedToken token;
  for (int64_t line_number = 1; !bytes.empty(); ++line_number) {
    const std::string_view line = take_line(bytes);
    if (line.empty()) continue;
    if (!parse_line(line, token))
      return Status::error(StatusCode::kCorrupt,
                           "%s: line %lld: expected a token in base64, a space and its rank",
                           name.c_str(), static_cast<long long>(line_number));
    if (token.rank >= kMaxVocabPieces)
      return Status::error(StatusCode::kLimitExceeded,
                           "%s: line %lld: rank %lld, at most %d tokens are supported",
                           name.c_str(), static_cast<long long>(line_number),
                           static_cast<long long>(token.rank), kMaxVocabPieces);
    const auto rank = static_cast<size_t>(token.rank);
    if (rank >= tokens.size()) tokens.resize(rank + 1);
    if (!tokens[rank].empty())
      return Status::error(StatusCode::kCorrupt, "%s: line %lld: rank %zu is listed twice",
                           name.c_str(), static_cast<long long>(line_number), rank);
    tokens[rank] = token.bytes;
    ++n_tokens;
  }
  if (n_tokens < tokens.size())
    return Status::error(StatusCode::kCorrupt, "%s: %zu tokens, expected %zu: some rank is missing",
                         name.c_str(), n_tokens, tokens.size());
  return tokens;
}

// LLaMA-3's special tokens behind `n_ranks` others, with those of `added` in their places.
std::vector<AddedToken> special_tokens(int32_t n_ranks, const std::vector<AddedToken>& added) {
  std::vector<AddedToken> tokens;
  auto next = added.begin();
  while (next != added.end() && next->id < n_ranks)
    tokens.push_back(*next++);
  for (int32_t i = 0; i < kNumLlama3SpecialTokens; ++i) {
    if (next != added.end() && next->id == n_ranks + i)
      tokens.push_back(*next++);
    else
      tokens.push_back({n_ranks + i, llama3_special_token(i), true});
  }
  tokens.insert(tokens.end(), next, added.end());
  return tokens;
}

int32_t find_control_piece(const TokenizerData& data, std::string_view piece) {
  for (int32_t id = data.n_vocab() - 1; id >= 0; --id)
    if (data.types[static_cast<size_t>(id)] == PieceType::kControl && data.piece(id) == piece)
      return id;
  return -1;
}

Result<TokenizerData> read_data(std::string_view bytes, const std::vector<AddedToken>& added,
                                const std::string& name) {
  FLEXQ_ASSIGN_OR_RETURN(const std::vector<std::string> ranks, read_ranks(bytes, name));
  TokenizerData data;
  data.kind = TokenizerKind::kByteLevelBpe;
  data.add_dummy_prefix = false;
  data.escape_whitespaces = false;
  data.merge_by_id = true;
  data.ignore_merges = true;  // as tiktoken: a part that is a token is not merged from bytes
  data.split_pattern = kLlama3SplitPattern;
  for (const std::string& token : ranks)
    FLEXQ_RETURN_IF_ERROR(data.add_piece(token, 0, PieceType::kNormal));
  FLEXQ_RETURN_IF_ERROR(
      apply_added_tokens(special_tokens(data.n_vocab(), added), "added tokens", data));
  data.bos_id = find_control_piece(data, "<|begin_of_text|>");
  data.eos_id = find_control_piece(data, "<|end_of_text|>");
  data.add_bos = data.bos_id >= 0;
  FLEXQ_RETURN_IF_ERROR(validate_tokenizer(data));
  return data;
}

}  // namespace

bool is_tiktoken_model(std::string_view bytes) {
  RankedToken token;
  constexpr size_t kMaxLineBytes = 4096;
  bytes = bytes.substr(0, kMaxLineBytes);
  return parse_line(take_line(bytes), token);
}

Result<TokenizerData> read_tiktoken_model(std::string_view bytes,
                                          const std::vector<AddedToken>& added,
                                          const std::string& name) {
  Result<TokenizerData> data = read_data(bytes, added, name);
  if (data.ok()) return data;
  Status status = std::move(data).status();
  return status.message().starts_with(name) ? status : std::move(status).with_context(name);
}

}  // namespace flexq
