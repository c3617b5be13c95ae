#include "text/tokenizer_files.h"

#include <span>
#include <vector>

#include "base/file.h"
#include "text/piece_name.h"
#include "text/piece_table.h"
#include "text/sentencepiece_model.h"
#include "text/tiktoken_model.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace flexq {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{64} << 20;
constexpr int64_t kMaxTemplateBytes = int64_t{1} << 20;

Result<TokenizerConfig> read_config(const std::string& path) {
  FLEXQ_ASSIGN_OR_RETURN(const bool exists, regular_file_exists(path));
  if (!exists) return TokenizerConfig();
  FLEXQ_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxFileBytes));
  return parse_tokenizer_config(text, path);
}

// The vocabulary of tokenizer.model with the added tokens of the files beside it.
Result<TokenizerData> read_model_file(const std::string& directory, const TokenizerConfig& config) {
  const std::string path = directory + "/tokenizer.model";
  const std::string json_path = directory + "/tokenizer.json";
  FLEXQ_ASSIGN_OR_RETURN(const std::string bytes, read_text_file(path, kMaxFileBytes));
  std::vector<AddedToken> added = config.added_tokens;
  std::string added_name = directory + "/tokenizer_config.json";
  FLEXQ_ASSIGN_OR_RETURN(const bool has_json, regular_file_exists(json_path));
  if (added.empty() && has_json) {
    FLEXQ_ASSIGN_OR_RETURN(const std::string json, read_text_file(json_path, kMaxFileBytes));
    FLEXQ_ASSIGN_OR_RETURN(added, read_added_tokens_of_json(json, json_path));
    added_name = json_path;
  }
  if (is_tiktoken_model(bytes)) return read_tiktoken_model(bytes, added, path);
  const std::span span(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  FLEXQ_ASSIGN_OR_RETURN(TokenizerData data, read_sentencepiece_model(span, path));
  FLEXQ_RETURN_IF_ERROR(apply_added_tokens(added, added_name, data));
  return data;
}

Result<TokenizerData> read_json_file(const std::string& directory, const TokenizerConfig& config) {
  const std::string path = directory + "/tokenizer.json";
  FLEXQ_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxFileBytes));
  FLEXQ_ASSIGN_OR_RETURN(TokenizerData data, read_tokenizer_json(text, path));
  FLEXQ_RETURN_IF_ERROR(
      apply_added_tokens(config.added_tokens, directory + "/tokenizer_config.json", data));
  return data;
}

// Sets one of the special ids to the token that the config names.
Status set_special_id(const std::optional<std::string>& token, const char* key,
                      const std::string& path, const PieceTable& pieces, bool makes_control,
                      TokenizerData& data, int32_t& special_id) {
  if (!token) return {};
  const int32_t id = pieces.find(*token);
  if (id < 0)
    return Status::error(StatusCode::kUnsupportedModel, "%s: %s %s is not in the vocabulary",
                         path.c_str(), key, PieceName(*token).c_str());
  special_id = id;
  PieceType& type = data.types[static_cast<size_t>(id)];
  if (makes_control && (type == PieceType::kNormal || type == PieceType::kUserDefined))
    type = PieceType::kControl;
  return {};
}

Status apply_config(const TokenizerConfig& config, const std::string& path, TokenizerData& data) {
  FLEXQ_ASSIGN_OR_RETURN(const PieceTable pieces, PieceTable::build(data));
  FLEXQ_RETURN_IF_ERROR(
      set_special_id(config.bos_token, "bos_token", path, pieces, true, data, data.bos_id));
  FLEXQ_RETURN_IF_ERROR(
      set_special_id(config.eos_token, "eos_token", path, pieces, true, data, data.eos_id));
  FLEXQ_RETURN_IF_ERROR(
      set_special_id(config.pad_token, "pad_token", path, pieces, false, data, data.pad_id));
  if (config.add_bos_token) data.add_bos = *config.add_bos_token && data.bos_id >= 0;
  return validate_tokenizer(data);
}

}  // namespace

Result<bool> has_tokenizer_files(const std::string& directory) {
  FLEXQ_ASSIGN_OR_RETURN(const bool has_model, regular_file_exists(directory + "/tokenizer.model"));
  FLEXQ_ASSIGN_OR_RETURN(const bool has_json, regular_file_exists(directory + "/tokenizer.json"));
  return has_model || has_json;
}

Result<TokenizerFiles> read_tokenizer_directory(const std::string& directory) {
  FLEXQ_ASSIGN_OR_RETURN(const bool has_files, has_tokenizer_files(directory));
  if (!has_files)
    return Status::error(StatusCode::kNotFound,
                         "%s: expected a tokenizer.model or a tokenizer.json, found neither",
                         directory.c_str());
  const std::string config_path = directory + "/tokenizer_config.json";
  FLEXQ_ASSIGN_OR_RETURN(TokenizerConfig config, read_config(config_path));
  TokenizerFiles files;
  FLEXQ_ASSIGN_OR_RETURN(const bool has_model, regular_file_exists(directory + "/tokenizer.model"));
  FLEXQ_ASSIGN_OR_RETURN(files.data, has_model ? read_model_file(directory, config)
                                               : read_json_file(directory, config));
  Status status = apply_config(config, config_path, files.data);
  if (!status.ok()) {
    const bool names_file = status.message().starts_with(directory);
    return names_file ? status : std::move(status).with_context(directory);
  }
  files.chat_template = std::move(config.chat_template);
  const std::string template_path = directory + "/chat_template.jinja";
  FLEXQ_ASSIGN_OR_RETURN(const bool has_template, regular_file_exists(template_path));
  if (has_template) {
    FLEXQ_ASSIGN_OR_RETURN(files.chat_template, read_text_file(template_path, kMaxTemplateBytes));
    if (!is_valid_utf8(*files.chat_template))
      return Status::error(StatusCode::kCorrupt, "%s: not valid UTF-8", template_path.c_str());
  }
  return files;
}

}  // namespace flexq
