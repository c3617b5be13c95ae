#include "text/protobuf_reader.h"

namespace flexq {

Status ProtobufReader::corrupt(size_t at, const char* problem) const {
  return Status::error(StatusCode::kCorrupt, "%s: byte %lld: %s", name_->c_str(),
                       static_cast<long long>(start_ + static_cast<int64_t>(at)), problem);
}

Status ProtobufReader::read_varint(uint64_t* value) {
  *value = 0;
  const size_t begin = at_;
  for (int shift = 0; shift < 64; shift += 7) {
    if (at_end()) return corrupt(begin, "the message ends within a varint");
    const uint8_t byte = message_[at_++];
    if (shift == 63 && byte > 1) return corrupt(begin, "a varint of more than 64 bits");
    *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return {};
  }
  return corrupt(begin, "a varint of more than 64 bits");
}

Status ProtobufReader::read_fixed(size_t n_bytes, uint64_t* value) {
  if (message_.size() - at_ < n_bytes)
    return corrupt(at_, "the message ends within a fixed-size number");
  *value = 0;
  for (size_t i = 0; i < n_bytes; ++i)
    *value |= static_cast<uint64_t>(message_[at_++]) << (8 * i);
  return {};
}

Result<ProtobufField> ProtobufReader::next() {
  ProtobufField field;
  const size_t begin = at_;
  field.position = start_ + static_cast<int64_t>(begin);
  uint64_t key = 0;
  FLEXQ_RETURN_IF_ERROR(read_varint(&key));
  const uint64_t number = key >> 3;
  if (number == 0 || number >= (1u << 29))
    return corrupt(begin, "a field number outside 1 to 536870911");
  field.number = static_cast<uint32_t>(number);
  field.wire_type = static_cast<WireType>(key & 7);
  switch (field.wire_type) {
    case WireType::kVarint:
      FLEXQ_RETURN_IF_ERROR(read_varint(&field.integer));
      return field;
    case WireType::kFixed64:
      FLEXQ_RETURN_IF_ERROR(read_fixed(8, &field.integer));
      return field;
    case WireType::kFixed32:
      FLEXQ_RETURN_IF_ERROR(read_fixed(4, &field.integer));
      return field;
    case WireType::kBytes: {
      uint64_t length = 0;
      FLEXQ_RETURN_IF_ERROR(read_varint(&length));
      if (length > message_.size() - at_)
        return corrupt(begin, "a field that is longer than the message it lies in");
      field.bytes = message_.subspan(at_, static_cast<size_t>(length));
      field.bytes_position = start_ + static_cast<int64_t>(at_);
      at_ += static_cast<size_t>(length);
      return field;
    }
  }
  return corrupt(begin, "an unknown wire type");
}

Status ProtobufReader::expect(const ProtobufField& field, WireType expected,
                              const char* what) const {
  if (field.wire_type == expected) return {};
  return Status::error(StatusCode::kCorrupt, "%s: byte %lld: %s has wire type %d, expected %d",
                       name_->c_str(), static_cast<long long>(field.position), what,
                       static_cast<int>(field.wire_type), static_cast<int>(expected));
}

}  // namespace flexq
