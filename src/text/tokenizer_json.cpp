#include "text/tokenizer_json.h"

#include <algorithm>
#include <utility>

#include "text/byte_alphabet.h"
#include "text/piece_name.h"
#include "text/piece_table.h"

namespace flexq {
namespace {

// What ByteLevel splits by when it has no pattern of its own (the tokenizer of GPT-2).
constexpr std::string_view kGpt2SplitPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// The member `key` of an object; null for an absent one, for one that is null and where `value` is
// no object.
const Json* find_member(const Json& value, const char* key) {
  if (!value.is_object()) return nullptr;
  const auto found = value.find(key);
  return found == value.end() || found->is_null() ? nullptr : &*found;
}

// The member `key` as a string; "" where there is none.
std::string_view text_member(const Json& value, const char* key) {
  const Json* member = find_member(value, key);
  const std::string* text = member == nullptr ? nullptr : member->get_ptr<const std::string*>();
  return text == nullptr ? std::string_view() : std::string_view(*text);
}

bool is_true(const Json& value, const char* key, bool when_absent = false) {
  const Json* member = find_member(value, key);
  return member == nullptr ? when_absent : member->is_boolean() && *member->get_ptr<const bool*>();
}

std::string_view type_of(const Json& value) {
  return text_member(value, "type");
}

// A component or, for a Sequence, the components in it (`list_key` holds them). Sequences inside a
// sequence are left as they are, to be refused.
std::vector<const Json*> components(const Json* value, const char* list_key) {
  if (value == nullptr) return {};
  if (type_of(*value) != "Sequence") return {value};
  std::vector<const Json*> parts;
  const Json* list = find_member(*value, list_key);
  if (list != nullptr && list->is_array())
    for (const Json& part : *list)
      parts.push_back(&part);
  return parts;
}

// {"pattern": {"String": " "}, "content": "▁"}, or the reverse for decoding.
bool is_replace(const Json& value, std::string_view from, std::string_view to) {
  const Json* pattern = find_member(value, "pattern");
  return type_of(value) == "Replace" && pattern != nullptr &&
         text_member(*pattern, "String") == from && text_member(value, "content") == to;
}

class TokenizerJsonReader {
 public:
  TokenizerJsonReader(const Json& json, const std::string& name) : json_(json), name_(name) {}

  Result<TokenizerData> read() && {
    model_ = find_member(json_, "model");
    if (model_ == nullptr || !model_->is_object())
      return Status::error(StatusCode::kCorrupt, "%s: model: expected an object", name_.c_str());
    FLEXQ_RETURN_IF_ERROR(read_model_options());
    FLEXQ_RETURN_IF_ERROR(read_text_rules());
    FLEXQ_RETURN_IF_ERROR(check_decoder());
    if (const Json* list = find_member(json_, "added_tokens"); list != nullptr) {
      FLEXQ_ASSIGN_OR_RETURN(added_, parse_added_tokens(*list, name_ + ": added_tokens"));
    }
    FLEXQ_RETURN_IF_ERROR(read_vocabulary());
    FLEXQ_RETURN_IF_ERROR(apply_added_tokens(added_, name_, data_));
    FLEXQ_RETURN_IF_ERROR(read_merges());
    FLEXQ_RETURN_IF_ERROR(read_post_processor());
    Status status = validate_tokenizer(data_);
    if (!status.ok()) return std::move(status).with_context(name_);
    return std::move(data_);
  }

 private:
  // "tokenizer.json: normalizer NFKC: not supported".
  Status unsupported(const char* part, const Json& value) const {
    const std::string_view type = type_of(value);
    return Status::error(StatusCode::kUnsupportedModel, "%s: %s %s: not supported", name_.c_str(),
                         part, type.empty() ? "without a type" : PieceName(type).c_str());
  }
  Status unsupported_detail(const char* part, const char* detail) const {
    return Status::error(StatusCode::kUnsupportedModel, "%s: %s: %s: not supported", name_.c_str(),
                         part, detail);
  }

  bool is_byte_level() const { return data_.kind == TokenizerKind::kByteLevelBpe; }

  Status read_model_options() {
    // Files of old versions do not say the type; only BPE has merges.
    const std::string_view type = type_of(*model_);
    if (type.empty() ? find_member(*model_, "merges") == nullptr : type != "BPE")
      return unsupported("model", *model_);
    const Json* dropout = find_member(*model_, "dropout");
    if (dropout != nullptr && *dropout != 0) return unsupported_detail("model", "dropout");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (find_member(*model_, key) != nullptr && *find_member(*model_, key) != "")
        return unsupported_detail("model", key);
    data_.ignore_merges = is_true(*model_, "ignore_merges");
    data_.byte_fallback = is_true(*model_, "byte_fallback");
    data_.fuse_unk = is_true(*model_, "fuse_unk");
    return {};
  }

  // Normalizer and pre-tokenizer decide about the kind.
  Status read_text_rules() {
    const std::vector<const Json*> normalizers =
        components(find_member(json_, "normalizer"), "normalizers");
    const std::vector<const Json*> pre_tokenizers =
        components(find_member(json_, "pre_tokenizer"), "pretokenizers");
    if (!pre_tokenizers.empty() && type_of(*pre_tokenizers.back()) == "ByteLevel") {
      if (!normalizers.empty()) return unsupported("normalizer", *normalizers[0]);
      return read_byte_level(pre_tokenizers);
    }
    data_.kind = TokenizerKind::kCharacterBpe;
    data_.add_dummy_prefix = false;
    FLEXQ_RETURN_IF_ERROR(read_normalizers(normalizers));
    return read_metaspace(normalizers, pre_tokenizers);
  }

  Status read_byte_level(const std::vector<const Json*>& pre_tokenizers) {
    data_.kind = TokenizerKind::kByteLevelBpe;
    data_.add_dummy_prefix = false;
    data_.escape_whitespaces = false;
    data_.fuse_unk = false;  // every byte is known
    if (data_.byte_fallback) return unsupported_detail("model", "byte_fallback of byte-level BPE");
    const Json& byte_level = *pre_tokenizers.back();
    if (is_true(byte_level, "add_prefix_space", true))
      return unsupported_detail("pre_tokenizer ByteLevel", "add_prefix_space");
    const bool uses_own_pattern = is_true(byte_level, "use_regex", true);
    if (pre_tokenizers.size() == 1) {
      if (uses_own_pattern) data_.split_pattern = kGpt2SplitPattern;
      return {};
    }
    const Json& split = *pre_tokenizers[0];
    if (type_of(split) != "Split") return unsupported("pre_tokenizer", split);
    if (pre_tokenizers.size() > 2) return unsupported("second pre_tokenizer", *pre_tokenizers[1]);
    if (uses_own_pattern)
      return unsupported_detail("pre_tokenizer ByteLevel", "use_regex behind Split");
    const Json* pattern = find_member(split, "pattern");
    if (pattern == nullptr || text_member(*pattern, "Regex").empty())
      return unsupported_detail("pre_tokenizer Split", "a pattern that is no Regex");
    if (text_member(split, "behavior") != "Isolated")
      return unsupported_detail("pre_tokenizer Split", "a behavior other than Isolated");
    if (is_true(split, "invert")) return unsupported_detail("pre_tokenizer Split", "invert");
    data_.split_pattern = text_member(*pattern, "Regex");
    return {};
  }

  Status read_normalizers(const std::vector<const Json*>& normalizers) {
    for (size_t i = 0; i < normalizers.size(); ++i) {
      const Json& normalizer = *normalizers[i];
      const bool is_last = i + 1 == normalizers.size();
      if (!is_last && i == 0 && type_of(normalizer) == "Prepend" &&
          text_member(normalizer, "prepend") == kSpaceSymbol)
        data_.add_dummy_prefix = true;
      else if (!is_last || !is_replace(normalizer, " ", kSpaceSymbol))
        return unsupported("normalizer", normalizer);
    }
    return {};
  }

  Status read_metaspace(const std::vector<const Json*>& normalizers,
                        const std::vector<const Json*>& pre_tokenizers) {
    if (pre_tokenizers.empty() && !normalizers.empty()) return {};
    if (pre_tokenizers.empty())
      return unsupported_detail("normalizer", "none beside no pre_tokenizer");
    const Json& metaspace = *pre_tokenizers[0];
    if (type_of(metaspace) != "Metaspace") return unsupported("pre_tokenizer", metaspace);
    if (pre_tokenizers.size() > 1) return unsupported("second pre_tokenizer", *pre_tokenizers[1]);
    if (!normalizers.empty()) return unsupported_detail("normalizer", "one beside Metaspace");
    if (text_member(metaspace, "replacement") != kSpaceSymbol)
      return unsupported_detail("pre_tokenizer Metaspace", "a replacement other than U+2581");
    if (is_true(metaspace, "split", true))
      return unsupported_detail("pre_tokenizer Metaspace", "split");
    const std::string_view scheme = text_member(metaspace, "prepend_scheme");
    if (scheme != "always" && scheme != "first" && scheme != "never")
      return unsupported_detail("pre_tokenizer Metaspace",
                                "a prepend_scheme other than always, first and never");
    data_.add_dummy_prefix = scheme != "never";
    data_.prefix_unless_space = data_.add_dummy_prefix;
    data_.prefix_at_start_only = scheme == "first";
    return {};
  }

  // Decoding follows from the kind; a decoder that would do something else is refused.
  Status check_decoder() const {
    for (const Json* decoder : components(find_member(json_, "decoder"), "decoders")) {
      const std::string_view type = type_of(*decoder);
      const bool is_known = is_byte_level()
                                ? type == "ByteLevel"
                                : type == "ByteFallback" || type == "Fuse" || type == "Metaspace" ||
                                      is_replace(*decoder, kSpaceSymbol, " ") ||
                                      (type == "Strip" && text_member(*decoder, "content") == " ");
      if (!is_known) return unsupported("decoder", *decoder);
    }
    return {};
  }

  // Whether `id` is an added token of that spelling.
  bool is_added(int32_t id, const std::string& spelling) const {
    const auto token =
        std::lower_bound(added_.begin(), added_.end(), id,
                         [](const AddedToken& added, int32_t wanted) { return added.id < wanted; });
    return token != added_.end() && token->id == id && token->content == spelling;
  }

  Status read_vocabulary() {
    const Json* vocabulary = find_member(*model_, "vocab");
    if (vocabulary == nullptr || !vocabulary->is_object() || vocabulary->empty())
      return Status::error(StatusCode::kCorrupt, "%s: model.vocab: expected tokens with ids",
                           name_.c_str());
    if (vocabulary->size() > static_cast<size_t>(kMaxVocabPieces))
      return Status::error(StatusCode::kLimitExceeded,
                           "%s: model.vocab: %zu tokens, at most %d are supported", name_.c_str(),
                           vocabulary->size(), kMaxVocabPieces);
    std::vector<const std::string*> spellings(vocabulary->size(), nullptr);
    for (auto entry = vocabulary->begin(); entry != vocabulary->end(); ++entry) {
      const Json& id = entry.value();
      const uint64_t* number = id.get_ptr<const uint64_t*>();
      if (!id.is_number_unsigned() || *number >= spellings.size())
        return Status::error(StatusCode::kCorrupt,
                             "%s: model.vocab: token %s: expected an id of 0 to %zu", name_.c_str(),
                             PieceName(entry.key()).c_str(), spellings.size() - 1);
      if (spellings[*number] != nullptr)
        return Status::error(StatusCode::kCorrupt, "%s: model.vocab: %s and %s both have id %llu",
                             name_.c_str(), PieceName(*spellings[*number]).c_str(),
                             PieceName(entry.key()).c_str(),
                             static_cast<unsigned long long>(*number));
      spellings[*number] = &entry.key();
    }
    for (const std::string* spelling : spellings) {
      Status status = add_token(*spelling);
      if (!status.ok()) return std::move(status).with_context(name_);
    }
    return set_unknown();
  }

  Status add_token(const std::string& spelling) {
    if (!is_byte_level()) {
      const bool is_byte = data_.byte_fallback && byte_of_piece(spelling) >= 0;
      return data_.add_piece(spelling, 0, is_byte ? PieceType::kByte : PieceType::kNormal);
    }
    // Added tokens are spelled in plain text, also where the vocabulary has them.
    if (is_added(data_.n_vocab(), spelling))
      return data_.add_piece(spelling, 0, PieceType::kNormal);
    std::string bytes;
    if (!bytes_of_spelling(spelling, bytes))
      return Status::error(StatusCode::kCorrupt,
                           "model.vocab: token %s is not spelled in the alphabet of ByteLevel",
                           PieceName(spelling).c_str());
    return data_.add_piece(bytes, 0, PieceType::kNormal);
  }

  Status set_unknown() {
    if (is_byte_level()) return {};
    const std::string_view unknown = text_member(*model_, "unk_token");
    for (int32_t id = 0; id < data_.n_vocab() && !unknown.empty(); ++id) {
      if (data_.piece(id) != unknown) continue;
      data_.types[static_cast<size_t>(id)] = PieceType::kUnknown;
      data_.unk_id = id;
      return {};
    }
    return Status::error(StatusCode::kUnsupportedModel,
                         "%s: model.unk_token: expected a token of the vocabulary, found %s",
                         name_.c_str(), PieceName(unknown).c_str());
  }

  // The id of a token as merges spell it, or -1.
  int32_t find_token(const PieceTable& pieces, std::string_view spelling) const {
    if (!is_byte_level()) return pieces.find(spelling);
    std::string bytes;
    return bytes_of_spelling(spelling, bytes) ? pieces.find(bytes) : -1;
  }

  Status read_merges() {
    const Json* merges = find_member(*model_, "merges");
    if (merges == nullptr || !merges->is_array())
      return Status::error(StatusCode::kCorrupt, "%s: model.merges: expected an array",
                           name_.c_str());
    if (merges->size() > static_cast<size_t>(kMaxMerges))
      return Status::error(StatusCode::kLimitExceeded,
                           "%s: model.merges: %zu merges, at most %d are supported", name_.c_str(),
                           merges->size(), kMaxMerges);
    Result<PieceTable> pieces = PieceTable::build(data_);
    if (!pieces.ok()) return std::move(pieces).status().with_context(name_);
    data_.merges.reserve(merges->size());
    for (const Json& entry : *merges) {
      std::string_view left;
      std::string_view right;
      if (!split_merge(entry, left, right))
        return Status::error(StatusCode::kCorrupt,
                             "%s: model.merges[%zu]: expected \"left right\" or [\"left\", "
                             "\"right\"]",
                             name_.c_str(), data_.merges.size());
      const Merge merge{find_token(*pieces, left), find_token(*pieces, right)};
      if (merge.left < 0 || merge.right < 0)
        return Status::error(
            StatusCode::kCorrupt, "%s: model.merges[%zu]: token %s is not in the vocabulary",
            name_.c_str(), data_.merges.size(), PieceName(merge.left < 0 ? left : right).c_str());
      data_.merges.push_back(merge);
    }
    return {};
  }

  // "a b", or ["a", "b"] in files of newer versions.
  static bool split_merge(const Json& entry, std::string_view& left, std::string_view& right) {
    if (const std::string* text = entry.get_ptr<const std::string*>(); text != nullptr) {
      const size_t space = text->find(' ');
      if (space == 0 || space == text->npos || space + 1 == text->size() ||
          text->find(' ', space + 1) != text->npos)
        return false;
      left = std::string_view(*text).substr(0, space);
      right = std::string_view(*text).substr(space + 1);
      return true;
    }
    if (!entry.is_array() || entry.size() != 2) return false;
    const std::string* parts[] = {entry[0].get_ptr<const std::string*>(),
                                  entry[1].get_ptr<const std::string*>()};
    if (parts[0] == nullptr || parts[1] == nullptr) return false;
    left = *parts[0];
    right = *parts[1];
    return true;
  }

  // A template that begins with a special token says that the model expects it: BOS.
  Status read_post_processor() {
    for (const Json* processor : components(find_member(json_, "post_processor"), "processors")) {
      if (type_of(*processor) == "ByteLevel") continue;  // offsets only
      if (type_of(*processor) != "TemplateProcessing")
        return unsupported("post_processor", *processor);
      const Json* single = find_member(*processor, "single");
      if (single == nullptr || !single->is_array() || single->empty())
        return Status::error(StatusCode::kCorrupt, "%s: post_processor.single: expected a template",
                             name_.c_str());
      const Json* special = find_member((*single)[0], "SpecialToken");
      if (special == nullptr) continue;
      const std::string_view token = text_member(*special, "id");
      const int32_t id = find_control_token(token);
      if (id < 0)
        return Status::error(StatusCode::kCorrupt,
                             "%s: post_processor: %s is not a special token of the vocabulary",
                             name_.c_str(), PieceName(token).c_str());
      data_.bos_id = id;
      data_.add_bos = true;
    }
    return {};
  }

  int32_t find_control_token(std::string_view spelling) const {
    for (const AddedToken& token : added_)
      if (token.content == spelling &&
          data_.types[static_cast<size_t>(token.id)] == PieceType::kControl)
        return token.id;
    return -1;
  }

  const Json& json_;
  const std::string& name_;
  const Json* model_ = nullptr;
  TokenizerData data_;
  std::vector<AddedToken> added_;  // in the order of ids
};

}  // namespace

Result<TokenizerData> read_tokenizer_json(std::string_view text, const std::string& name) {
  FLEXQ_ASSIGN_OR_RETURN(const JsonDocument document, parse_json(text, name));
  const Json& json = document.root();
  return TokenizerJsonReader(json, name).read();
}

Result<std::vector<AddedToken>> read_added_tokens_of_json(std::string_view text,
                                                          const std::string& name) {
  FLEXQ_ASSIGN_OR_RETURN(const JsonDocument document, parse_json(text, name));
  const Json& json = document.root();
  const Json* list = find_member(json, "added_tokens");
  if (list == nullptr) return std::vector<AddedToken>();
  return parse_added_tokens(*list, name + ": added_tokens");
}

}  // namespace flexq
