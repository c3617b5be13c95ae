// The protobuf wire format, read field by field from untrusted bytes.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace flexq {

enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct ProtobufField {
  uint32_t number = 0;
  WireType wire_type = WireType::kVarint;
  uint64_t integer = 0;            // of kVarint, kFixed64 and kFixed32
  std::span<const uint8_t> bytes;  // of kBytes: borrowed from the message
  int64_t position = 0;            // of the field's key, counted from the start of the file
  int64_t bytes_position = 0;      // of `bytes`, likewise

  int32_t as_int32() const { return static_cast<int32_t>(static_cast<uint32_t>(integer)); }
  bool as_bool() const { return integer != 0; }
  float as_float() const { return std::bit_cast<float>(static_cast<uint32_t>(integer)); }
  std::string_view as_text() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

// Reads the fields of one message. Borrows the bytes and the name. Every error is kCorrupt and
// says the position in the file. Groups, which proto2 deprecated, are refused.
class ProtobufReader {
 public:
  // `position`: where `message` lies in the file called `name`.
  ProtobufReader(std::span<const uint8_t> message, int64_t position, const std::string& name)
      : message_(message), start_(position), name_(&name) {}

  bool at_end() const { return at_ == message_.size(); }
  Result<ProtobufField> next();

  // An error unless `field` is encoded as `expected`; `what` names it.
  Status expect(const ProtobufField& field, WireType expected, const char* what) const;

 private:
  Status read_varint(uint64_t* value);
  Status read_fixed(size_t n_bytes, uint64_t* value);
  Status corrupt(size_t at, const char* problem) const;

  std::span<const uint8_t> message_;
  size_t at_ = 0;
  int64_t start_;
  const std::string* name_;
};

}  // namespace flexq
