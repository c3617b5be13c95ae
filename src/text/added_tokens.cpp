#include "text/added_tokens.h"

#include <algorithm>
#include <charconv>

#include "text/piece_name.h"

namespace flexq {
namespace {

// The member `key` of an entry, false where it is absent.
Result<bool> read_flag(const Json& entry, const char* key, const std::string& where) {
  const auto found = entry.find(key);
  if (found == entry.end()) return false;
  if (found->is_boolean()) return *found->get_ptr<const bool*>();
  return Status::error(StatusCode::kCorrupt, "%s.%s: expected true or false", where.c_str(), key);
}

// A non-negative number below kMaxVocabPieces; -1 for anything else.
int64_t id_of(const Json& value) {
  if (!value.is_number_unsigned()) return -1;
  const uint64_t id = *value.get_ptr<const uint64_t*>();
  return id < static_cast<uint64_t>(kMaxVocabPieces) ? static_cast<int64_t>(id) : -1;
}

int64_t id_of(const std::string& text) {
  int64_t id = -1;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, id);
  const bool is_number = parsed.ec == std::errc() && parsed.ptr == end;
  return is_number && id >= 0 && id < kMaxVocabPieces ? id : -1;
}

}  // namespace

PieceType AddedToken::type() const {
  const bool is_marker = content.size() > 4 && content.starts_with("<|") && content.ends_with("|>");
  return special || is_marker ? PieceType::kControl : PieceType::kUserDefined;
}

Result<AddedToken> parse_added_token(const Json& entry, int64_t id, const std::string& where) {
  if (!entry.is_object())
    return Status::error(StatusCode::kCorrupt, "%s: expected an object", where.c_str());
  if (id < 0)
    return Status::error(StatusCode::kCorrupt, "%s: expected an id of 0 to %d", where.c_str(),
                         kMaxVocabPieces - 1);
  AddedToken token;
  token.id = static_cast<int32_t>(id);
  const auto content = entry.find("content");
  if (content == entry.end() || !content->is_string())
    return Status::error(StatusCode::kCorrupt, "%s.content: expected a string", where.c_str());
  token.content = *content->get_ptr<const std::string*>();
  if (token.content.empty())
    return Status::error(StatusCode::kCorrupt, "%s.content: expected some text", where.c_str());
  FLEXQ_ASSIGN_OR_RETURN(token.special, read_flag(entry, "special", where));
  for (const char* key : {"lstrip", "rstrip", "single_word"}) {
    FLEXQ_ASSIGN_OR_RETURN(const bool is_set, read_flag(entry, key, where));
    if (is_set)
      return Status::error(StatusCode::kUnsupportedModel,
                           "%s: added token %s has %s; only tokens that do not depend on the text "
                           "around them are supported",
                           where.c_str(), PieceName(token.content).c_str(), key);
  }
  return token;
}

Result<std::vector<AddedToken>> parse_added_tokens(const Json& list, const std::string& where) {
  std::vector<AddedToken> tokens;
  if (list.is_array()) {
    for (const Json& entry : list) {
      const auto id = entry.is_object() ? entry.find("id") : entry.end();
      FLEXQ_ASSIGN_OR_RETURN(AddedToken token,
                             parse_added_token(entry, id == entry.end() ? -1 : id_of(*id),
                                               where + "[" + std::to_string(tokens.size()) + "]"));
      tokens.push_back(std::move(token));
    }
  } else if (list.is_object()) {
    for (const auto& [key, entry] : list.items()) {
      FLEXQ_ASSIGN_OR_RETURN(
          AddedToken token,
          parse_added_token(entry, id_of(key), where + " " + PieceName(key).c_str()));
      tokens.push_back(std::move(token));
    }
  } else {
    return Status::error(StatusCode::kCorrupt, "%s: expected a list of tokens", where.c_str());
  }
  std::sort(tokens.begin(), tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  for (size_t i = 1; i < tokens.size(); ++i)
    if (tokens[i].id == tokens[i - 1].id)
      return Status::error(StatusCode::kCorrupt, "%s: id %d is listed twice", where.c_str(),
                           tokens[i].id);
  return tokens;
}

Status apply_added_tokens(const std::vector<AddedToken>& tokens, const std::string& name,
                          TokenizerData& data) {
  for (const AddedToken& token : tokens) {
    if (token.id > data.n_vocab())
      return Status::error(StatusCode::kCorrupt,
                           "%s: added token %s has id %d, but there is none of id %d", name.c_str(),
                           PieceName(token.content).c_str(), token.id, data.n_vocab());
    if (token.id == data.n_vocab()) {
      FLEXQ_RETURN_IF_ERROR(data.add_piece(token.content, 0, token.type()));
      continue;
    }
    if (data.piece(token.id) != token.content)
      return Status::error(
          StatusCode::kCorrupt, "%s: added token %d is %s, but %s in the vocabulary", name.c_str(),
          token.id, PieceName(token.content).c_str(), PieceName(data.piece(token.id)).c_str());
    PieceType& type = data.types[static_cast<size_t>(token.id)];
    if (type == PieceType::kNormal || type == PieceType::kUserDefined) type = token.type();
  }
  return {};
}

}  // namespace flexq
