#include "text/tokenizer.h"

#include <utility>

#include "text/detokenizer.h"
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
  for (size_t at = piece.find(kSpaceSymbol); at != piece.npos; at = piece.find(kSpaceSymbol)) {
    out.append(piece.substr(0, at)).push_back(' ');
    piece.remove_prefix(at + kSpaceSymbol.size());
  }
  out.append(piece);
}

}  // namespace

Tokenizer::Tokenizer(TokenizerData data) : data_(std::move(data)) {}
Tokenizer::~Tokenizer() = default;

Result<std::shared_ptr<const Tokenizer>> Tokenizer::create(TokenizerData data) {
  FLEXQ_RETURN_IF_ERROR(validate_tokenizer(data));
  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer(std::move(data)));
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
  FLEXQ_ASSIGN_OR_RETURN(encoder_, SentencePieceEncoder::create(data_));
  return {};
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, const EncodeOptions& options,
                                               EncodeCounters* counters) const {
  if (text.size() > static_cast<size_t>(kMaxTextBytes))
    return Status::error(StatusCode::kLimitExceeded,
                         "text of %zu bytes: at most %lld can be encoded at once", text.size(),
                         static_cast<long long>(kMaxTextBytes));
  EncodeCounters work;
  std::vector<int32_t> ids;
  if (options.add_bos && data_.add_bos) ids.push_back(data_.bos_id);
  if (options.parse_special && !control_pieces_->empty()) {
    size_t at = 0;
    while (at < text.size()) {
      const int32_t id = control_pieces_->longest_match(text.substr(at));
      if (id < 0) {
        ++at;
        continue;
      }
      encoder_->encode(text.substr(0, at), ids, work);
      ids.push_back(id);
      text.remove_prefix(at + data_.piece(id).size());
      at = 0;
    }
  }
  encoder_->encode(text, ids, work);
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

int32_t Tokenizer::id_of(std::string_view piece) const {
  return encoder_->id_of(piece);
}

}  // namespace flexq
