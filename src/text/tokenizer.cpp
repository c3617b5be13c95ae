#include "text/tokenizer.h"

#include <utility>

#include "text/byte_level_encoder.h"
#include "text/character_encoder.h"
#include "text/detokenizer.h"
#include "text/json_vocabulary.h"
#include "text/prefix_matcher.h"
#include "text/sentencepiece_encoder.h"

namespace flexq {
namespace {

// Appends what a token stands for: see Tokenizer::piece_bytes.
void render_piece(const TokenizerData& data, int32_t id, std::string& out) {
  std::string_view piece = data.piece(id);
  switch (data.types[static_cast<size_t>(id)]) {
    case PieceType::kControl:
      return;
    case PieceType::kUnknown:
      out.append(data.unk_surface);
      return;
    case PieceType::kByte:
      out.push_back(static_cast<char>(byte_of_piece(piece)));
      return;
    default:
      break;
  }
  if (data.kind == TokenizerKind::kByteLevelBpe) {
    out.append(piece);
    return;
  }
  for (size_t at = piece.find(kSpaceSymbol); at != piece.npos; at = piece.find(kSpaceSymbol)) {
    out.append(piece.substr(0, at)).push_back(' ');
    piece.remove_prefix(at + kSpaceSymbol.size());
  }
  out.append(piece);
}

// Text between two control pieces, copied only when it comes in more than one part.
class PlainText {
 public:
  void append(std::string_view part) {
    if (part.empty()) return;
    if (view_.empty()) {
      view_ = part;
      return;
    }
    if (joined_.empty()) joined_ = view_;
    joined_.append(part);
    view_ = joined_;
  }
  void clear() {
    view_ = {};
    joined_.clear();
  }
  std::string_view view() const { return view_; }

 private:
  std::string_view view_;
  std::string joined_;  // empty, or what view_ refers to
};

Result<std::unique_ptr<const TextEncoder>> create_encoder(const TokenizerData& data) {
  switch (data.kind) {
    case TokenizerKind::kByteLevelBpe:
      return ByteLevelEncoder::create(data);
    case TokenizerKind::kCharacterBpe:
      return CharacterEncoder::create(data);
    case TokenizerKind::kSentencePieceBpe:
      break;
  }
  return SentencePieceEncoder::create(data);
}

}  // namespace

Tokenizer::Tokenizer(TokenizerData data, std::string chat_template)
    : data_(std::move(data)), chat_template_(std::move(chat_template)) {}
Tokenizer::~Tokenizer() = default;

Result<std::shared_ptr<const Tokenizer>> Tokenizer::create(TokenizerData data,
                                                           std::string chat_template) {
  FLEXQ_RETURN_IF_ERROR(validate_tokenizer(data));
  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer(std::move(data), std::move(chat_template)));
  FLEXQ_RETURN_IF_ERROR(tokenizer->build());
  return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
}

Status Tokenizer::build() {
  rendered_.reserve(data_.piece_bytes.size());
  rendered_ends_.reserve(data_.types.size());
  for (int32_t id = 0; id < data_.n_vocab(); ++id) {
    render_piece(data_, id, rendered_);
    rendered_ends_.push_back(static_cast<uint32_t>(rendered_.size()));
  }
  control_pieces_ = std::make_unique<PrefixMatcher>(data_, PieceType::kControl);
  FLEXQ_ASSIGN_OR_RETURN(encoder_, create_encoder(data_));
  return {};
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, const EncodeOptions& options,
                                               EncodeCounters* counters) const {
  const TextSegment segment{text, options.parse_special};
  return encode_segments({&segment, 1}, options.add_bos, counters);
}

Result<std::vector<int32_t>> Tokenizer::encode_segments(std::span<const TextSegment> segments,
                                                        bool add_bos,
                                                        EncodeCounters* counters) const {
  size_t n_bytes = 0;
  for (const TextSegment& segment : segments) {
    if (segment.text.size() > static_cast<size_t>(kMaxTextBytes) - n_bytes)
      return Status::error(StatusCode::kLimitExceeded,
                           "text of more than %lld bytes: at most so many can be encoded at once",
                           static_cast<long long>(kMaxTextBytes));
    n_bytes += segment.text.size();
  }
  EncodeCounters work;
  std::vector<int32_t> ids;
  if (add_bos && data_.add_bos) ids.push_back(data_.bos_id);
  PlainText plain;
  bool at_start = true;
  for (const TextSegment& segment : segments) {
    std::string_view text = segment.text;
    for (size_t at = 0; segment.parse_special && !control_pieces_->empty() && at < text.size();) {
      const int32_t id = control_pieces_->longest_match(text.substr(at));
      if (id < 0) {
        ++at;
        continue;
      }
      plain.append(text.substr(0, at));
      FLEXQ_RETURN_IF_ERROR(encoder_->encode(plain.view(), at_start, ids, work));
      plain.clear();
      ids.push_back(id);
      at_start = false;
      text.remove_prefix(at + data_.piece(id).size());
      at = 0;
    }
    plain.append(text);
  }
  FLEXQ_RETURN_IF_ERROR(encoder_->encode(plain.view(), at_start, ids, work));
  if (counters != nullptr) *counters = work;
  return ids;
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  Detokenizer detokenizer(*this);
  for (const int32_t id : ids)
    FLEXQ_RETURN_IF_ERROR(detokenizer.push(id, text));
  detokenizer.finish(text);
  return text;
}

std::string_view Tokenizer::piece_bytes(int32_t id) const {
  if (id < 0 || id >= n_vocab()) return {};
  const size_t i = static_cast<size_t>(id);
  const uint32_t begin = i == 0 ? 0 : rendered_ends_[i - 1];
  return std::string_view(rendered_).substr(begin, rendered_ends_[i] - begin);
}

const JsonVocabulary& Tokenizer::json_vocabulary() const {
  const std::lock_guard lock(json_mutex_);
  if (json_vocabulary_ == nullptr) json_vocabulary_ = std::make_unique<JsonVocabulary>(*this);
  return *json_vocabulary_;
}

int32_t Tokenizer::id_of(std::string_view piece) const {
  return encoder_->id_of(piece);
}

}  // namespace flexq
