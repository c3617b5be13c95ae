#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "base/checked.h"
#include "base/json.h"
#include "checkpoint/printable.h"
#include "model/model_config.h"

namespace flexq {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr size_t kMaxTensors = 65536;

struct DtypeSize {
  std::string_view name;
  int32_t bits;
};
constexpr std::array<DtypeSize, 22> kDtypes = {{
    {"BOOL", 8},        {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8},     {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
    {"U16", 16},        {"F16", 16},        {"BF16", 16},   {"I32", 32},    {"U32", 32},
    {"F32", 32},        {"C64", 64},        {"F64", 64},    {"I64", 64},    {"U64", 64},
    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
}};

std::optional<int32_t> dtype_bits(std::string_view name) {
  for (const DtypeSize& dtype : kDtypes)
    if (dtype.name == name) return dtype.bits;
  return std::nullopt;
}

std::optional<int64_t> as_size(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<uint64_t>();
  if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return static_cast<int64_t>(number);
}

// A list of non-negative integers, at most `max_size` of them.
std::optional<std::vector<int64_t>> as_sizes(const Json& value, size_t max_size) {
  if (!value.is_array() || value.size() > max_size) return std::nullopt;
  std::vector<int64_t> sizes;
  for (const Json& element : value) {
    const std::optional<int64_t> size = as_size(element);
    if (!size) return std::nullopt;
    sizes.push_back(*size);
  }
  return sizes;
}

// Bytes of a tensor; nothing when they do not fit or the bits do not fill whole bytes.
std::optional<int64_t> tensor_bytes(std::span<const int64_t> shape, int32_t bits) {
  CheckedSize size(bits);
  for (const int64_t dimension : shape)
    size.mul(dimension);
  if (!size.valid() || size.value() % 8 != 0) return std::nullopt;
  return size.value() / 8;
}

// One header entry. Its offset still counts from the first data byte.
Result<SafetensorsEntry> parse_entry(const std::string& name, const Json& value) {
  const auto corrupt = [&](const char* what) {
    return Status::error(StatusCode::kCorrupt, "tensor %s: %s", printable(name).c_str(), what);
  };
  if (name.empty() || name.size() > static_cast<size_t>(kMaxNameBytes)) {
    return Status::error(StatusCode::kLimitExceeded,
                         "tensor \"%s\": a name of %zu bytes, expected 1 to %d",
                         printable(name).c_str(), name.size(), kMaxNameBytes);
  }
  if (!value.is_object()) return corrupt("expected an object");
  const auto dtype = value.find("dtype");
  const auto shape = value.find("shape");
  const auto offsets = value.find("data_offsets");
  if (dtype == value.end() || !dtype->is_string()) return corrupt("dtype: expected a string");
  if (shape == value.end()) return corrupt("shape is missing");
  if (offsets == value.end()) return corrupt("data_offsets is missing");
  if (value.size() != 3) return corrupt("expected only dtype, shape and data_offsets");

  SafetensorsEntry entry;
  entry.name = name;
  entry.dtype = dtype->get<std::string>();
  const std::optional<int32_t> bits = dtype_bits(entry.dtype);
  if (!bits) {
    return Status::error(StatusCode::kUnsupportedVersion, "tensor %s: unknown dtype \"%s\"",
                         printable(name).c_str(), printable(entry.dtype).c_str());
  }
  std::optional<std::vector<int64_t>> dimensions = as_sizes(*shape, kMaxSafetensorsRank);
  if (!dimensions) return corrupt("shape: expected a list of at most 4 non-negative integers");
  entry.shape = std::move(*dimensions);
  const std::optional<std::vector<int64_t>> range = as_sizes(*offsets, 2);
  if (!range || range->size() != 2 || (*range)[0] > (*range)[1])
    return corrupt("data_offsets: expected [begin, end] with begin <= end");
  entry.offset = (*range)[0];
  entry.bytes = (*range)[1] - (*range)[0];
  const std::optional<int64_t> expected = tensor_bytes(entry.shape, *bits);
  if (!expected) return corrupt("shape: the size in bytes is no 64-bit integer");
  if (*expected != entry.bytes) {
    return Status::error(
        StatusCode::kCorrupt, "tensor %s: data_offsets span %lld bytes, expected %lld for %s %s",
        printable(name).c_str(), static_cast<long long>(entry.bytes),
        static_cast<long long>(*expected), entry.dtype.c_str(), shape_text(entry.shape).c_str());
  }
  return entry;
}

Status check_metadata(const Json& metadata) {
  bool strings = metadata.is_object();
  if (strings) {
    for (const Json& value : metadata)
      strings = strings && value.is_string();
  }
  if (strings) return Status();
  return Status::error(StatusCode::kCorrupt, "__metadata__: expected an object of strings");
}

// The tensors must cover [0, end) one after the other; returns that end.
Result<int64_t> check_layout(std::vector<SafetensorsEntry>& entries) {
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  int64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.offset != end) {
      return Status::error(StatusCode::kCorrupt,
                           "tensor %s: data begins at byte %lld, expected %lld (%s)",
                           printable(entry.name).c_str(), static_cast<long long>(entry.offset),
                           static_cast<long long>(end),
                           entry.offset < end ? "tensors overlap" : "a hole in the data");
    }
    end = entry.offset + entry.bytes;  // both came from [begin, end] that fits
  }
  return end;
}

Result<std::vector<SafetensorsEntry>> parse_header(std::string_view text, int64_t data_begin,
                                                   int64_t file_bytes) {
  if (text.empty() || text.front() != '{')
    return Status::error(StatusCode::kCorrupt, "expected a safetensors header, a JSON object");
  FLEXQ_ASSIGN_OR_RETURN(const JsonDocument document, parse_json(text, "header"));
  const Json& header = document.root();
  if (header.size() > kMaxTensors + 1) {
    return Status::error(StatusCode::kLimitExceeded, "%zu tensors, expected at most %zu",
                         header.size(), kMaxTensors);
  }
  std::vector<SafetensorsEntry> entries;
  for (auto it = header.begin(); it != header.end(); ++it) {
    if (it.key() == "__metadata__") {
      FLEXQ_RETURN_IF_ERROR(check_metadata(it.value()));
      continue;
    }
    FLEXQ_ASSIGN_OR_RETURN(SafetensorsEntry entry, parse_entry(it.key(), it.value()));
    entries.push_back(std::move(entry));
  }
  FLEXQ_ASSIGN_OR_RETURN(const int64_t data_bytes, check_layout(entries));
  const CheckedSize expected = CheckedSize(data_begin).add(data_bytes);
  if (!expected.valid())
    return Status::error(StatusCode::kCorrupt, "data_offsets beyond the size of any file");
  if (expected.value() != file_bytes) {
    return Status::error(StatusCode::kCorrupt, "file of %lld bytes, expected %lld (%s)",
                         static_cast<long long>(file_bytes),
                         static_cast<long long>(expected.value()),
                         expected.value() < file_bytes ? "trailing data" : "truncated");
  }
  for (SafetensorsEntry& entry : entries)
    entry.offset += data_begin;
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return entries;
}

uint64_t little_endian_u64(const std::array<uint8_t, kLengthBytes>& bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;)
    value = value << 8 | bytes[i];
  return value;
}

}  // namespace

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  SafetensorsFile result;
  FLEXQ_ASSIGN_OR_RETURN(result.file_, File::open_read(path));
  FLEXQ_ASSIGN_OR_RETURN(result.file_bytes_, result.file_.size());
  if (result.file_bytes_ < kLengthBytes) {
    return Status::error(StatusCode::kCorrupt,
                         "%s: file of %lld bytes, expected at least %lld (truncated)", path.c_str(),
                         static_cast<long long>(result.file_bytes_),
                         static_cast<long long>(kLengthBytes));
  }
  std::array<uint8_t, kLengthBytes> length{};
  FLEXQ_RETURN_IF_ERROR(result.file_.read_at(0, length));
  const uint64_t header_bytes = little_endian_u64(length);
  if (header_bytes > static_cast<uint64_t>(kMaxSafetensorsHeaderBytes)) {
    return Status::error(StatusCode::kLimitExceeded,
                         "%s: header of %llu bytes, expected at most %lld", path.c_str(),
                         static_cast<unsigned long long>(header_bytes),
                         static_cast<long long>(kMaxSafetensorsHeaderBytes));
  }
  const int64_t data_begin = kLengthBytes + static_cast<int64_t>(header_bytes);
  if (data_begin > result.file_bytes_) {
    return Status::error(StatusCode::kCorrupt,
                         "%s: file of %lld bytes, expected at least %lld for its header "
                         "(truncated)",
                         path.c_str(), static_cast<long long>(result.file_bytes_),
                         static_cast<long long>(data_begin));
  }
  std::string text(static_cast<size_t>(header_bytes), '\0');
  FLEXQ_RETURN_IF_ERROR(result.file_.read_at(
      kLengthBytes, std::span(reinterpret_cast<uint8_t*>(text.data()), text.size())));
  Result<std::vector<SafetensorsEntry>> entries =
      parse_header(text, data_begin, result.file_bytes_);
  if (!entries.ok()) return std::move(entries).status().with_context(path);
  result.entries_ = std::move(entries).value();
  return result;
}

Status SafetensorsFile::read(const SafetensorsEntry& entry, int64_t begin,
                             std::span<uint8_t> out) const {
  const auto size = static_cast<int64_t>(out.size());
  if (begin < 0 || size > entry.bytes || begin > entry.bytes - size) {
    return Status::error(StatusCode::kInvalidArgument, "%s: tensor %s: bytes %lld to %lld of %lld",
                         path().c_str(), printable(entry.name).c_str(),
                         static_cast<long long>(begin),
                         static_cast<long long>(begin) + static_cast<long long>(size),
                         static_cast<long long>(entry.bytes));
  }
  return file_.read_at(entry.offset + begin, out);
}

}  // namespace flexq
