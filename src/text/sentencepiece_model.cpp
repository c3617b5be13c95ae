#include "text/sentencepiece_model.h"

#include "text/protobuf_reader.h"

// Field numbers and defaults: sentencepiece_model.proto of SentencePiece 0.1.97.

namespace flexq {
namespace {

// TrainerSpec.ModelType.
constexpr int32_t kUnigram = 1;
constexpr int32_t kBpe = 2;

const char* model_type_name(int32_t model_type) {
  switch (model_type) {
    case kUnigram:
      return "unigram";
    case kBpe:
      return "BPE";
    case 3:
      return "word";
    case 4:
      return "character";
    default:
      return "unknown";
  }
}

class ModelReader {
 public:
  explicit ModelReader(const std::string& name) : name_(name) {
    data_.unk_id = 0;
    data_.bos_id = 1;
    data_.eos_id = 2;
    data_.remove_extra_whitespaces = true;
  }

  Result<TokenizerData> read(std::span<const uint8_t> bytes) && {
    ProtobufReader reader(bytes, 0, name_);
    while (!reader.at_end()) {
      FLEXQ_ASSIGN_OR_RETURN(const ProtobufField field, reader.next());
      if (field.number < 1 || field.number > 5 || field.number == 4) continue;
      FLEXQ_RETURN_IF_ERROR(reader.expect(field, WireType::kBytes, "a part of the model"));
      ProtobufReader part(field.bytes, field.bytes_position, name_);
      switch (field.number) {
        case 1:
          FLEXQ_RETURN_IF_ERROR(read_piece(part));
          break;
        case 2:
          FLEXQ_RETURN_IF_ERROR(read_trainer_spec(part));
          break;
        case 3:
          FLEXQ_RETURN_IF_ERROR(read_normalizer_spec(part, "normalizer_spec", data_));
          break;
        default: {  // 5: the normalizer of decoded text; only its table would change anything
          TokenizerData ignored;
          FLEXQ_RETURN_IF_ERROR(read_normalizer_spec(part, "denormalizer_spec", ignored));
        }
      }
    }
    // Only now: a model without a trainer_spec is a unigram model by the proto's default.
    if (model_type_ != kBpe)
      return Status::error(StatusCode::kUnsupportedModel,
                           "%s: a SentencePiece %s model (model_type %d); only BPE (2) is "
                           "supported",
                           name_.c_str(), model_type_name(model_type_), model_type_);
    if (data_.n_vocab() == 0)
      return Status::error(StatusCode::kCorrupt, "%s: the model has no pieces", name_.c_str());
    data_.add_bos = data_.bos_id >= 0;
    Status status = validate_tokenizer(data_);
    if (!status.ok()) return std::move(status).with_context(name_);
    return std::move(data_);
  }

 private:
  Status read_piece(ProtobufReader& reader) {
    std::string_view piece;
    float score = 0;
    int32_t type = static_cast<int32_t>(PieceType::kNormal);
    while (!reader.at_end()) {
      FLEXQ_ASSIGN_OR_RETURN(const ProtobufField field, reader.next());
      switch (field.number) {
        case 1:
          FLEXQ_RETURN_IF_ERROR(reader.expect(field, WireType::kBytes, "a piece's text"));
          piece = field.as_text();
          break;
        case 2:
          FLEXQ_RETURN_IF_ERROR(reader.expect(field, WireType::kFixed32, "a piece's score"));
          score = field.as_float();
          break;
        case 3:
          FLEXQ_RETURN_IF_ERROR(reader.expect(field, WireType::kVarint, "a piece's type"));
          type = field.as_int32();
          if (type < 1 || type > 6)
            return Status::error(
                StatusCode::kCorrupt, "%s: byte %lld: piece %d has type %d, expected 1 to 6",
                name_.c_str(), static_cast<long long>(field.position), data_.n_vocab(), type);
          break;
        default:
          break;
      }
    }
    Status status = data_.add_piece(piece, score, static_cast<PieceType>(type));
    return status.ok() ? Status() : std::move(status).with_context(name_);
  }

  Status read_trainer_spec(ProtobufReader& reader) {
    while (!reader.at_end()) {
      FLEXQ_ASSIGN_OR_RETURN(const ProtobufField field, reader.next());
      int32_t* integer = nullptr;
      const char* what = nullptr;
      switch (field.number) {
        case 3:
          integer = &model_type_, what = "trainer_spec.model_type";
          break;
        case 40:
          integer = &data_.unk_id, what = "trainer_spec.unk_id";
          break;
        case 41:
          integer = &data_.bos_id, what = "trainer_spec.bos_id";
          break;
        case 42:
          integer = &data_.eos_id, what = "trainer_spec.eos_id";
          break;
        case 43:
          integer = &data_.pad_id, what = "trainer_spec.pad_id";
          break;
        case 24:
          FLEXQ_RETURN_IF_ERROR(
              reader.expect(field, WireType::kVarint, "trainer_spec.treat_whitespace_as_suffix"));
          if (field.as_bool())
            return Status::error(StatusCode::kUnsupportedModel,
                                 "%s: treat_whitespace_as_suffix is set; only models with spaces "
                                 "in front of words are supported",
                                 name_.c_str());
          break;
        case 35:
          FLEXQ_RETURN_IF_ERROR(
              reader.expect(field, WireType::kVarint, "trainer_spec.byte_fallback"));
          data_.byte_fallback = field.as_bool();
          break;
        case 44:
          FLEXQ_RETURN_IF_ERROR(reader.expect(field, WireType::kBytes, "trainer_spec.unk_surface"));
          data_.unk_surface = std::string(field.as_text());
          break;
        default:
          break;
      }
      if (integer != nullptr) {
        FLEXQ_RETURN_IF_ERROR(reader.expect(field, WireType::kVarint, what));
        *integer = field.as_int32();
      }
    }
    return {};
  }

  Status read_normalizer_spec(ProtobufReader& reader, const char* spec, TokenizerData& data) {
    while (!reader.at_end()) {
      FLEXQ_ASSIGN_OR_RETURN(const ProtobufField field, reader.next());
      bool* flag = nullptr;
      switch (field.number) {
        case 2:
          FLEXQ_RETURN_IF_ERROR(reader.expect(field, WireType::kBytes, "precompiled_charsmap"));
          if (!field.bytes.empty())
            return Status::error(StatusCode::kUnsupportedModel,
                                 "%s: %s.precompiled_charsmap has %zu bytes; only models without "
                                 "a normalization table (identity) are supported",
                                 name_.c_str(), spec, field.bytes.size());
          break;
        case 3:
          flag = &data.add_dummy_prefix;
          break;
        case 4:
          flag = &data.remove_extra_whitespaces;
          break;
        case 5:
          flag = &data.escape_whitespaces;
          break;
        default:
          break;
      }
      if (flag != nullptr) {
        FLEXQ_RETURN_IF_ERROR(reader.expect(field, WireType::kVarint, spec));
        *flag = field.as_bool();
      }
    }
    return {};
  }

  const std::string& name_;
  TokenizerData data_;
  int32_t model_type_ = kUnigram;
};

}  // namespace

Result<TokenizerData> read_sentencepiece_model(std::span<const uint8_t> bytes,
                                               const std::string& name) {
  return ModelReader(name).read(bytes);
}

}  // namespace flexq
