#include "bundle/chunk_codec.h"

#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "base/checked.h"

namespace flexq {
namespace {

constexpr int kCompressionLevel = 1;  // higher levels gain nothing on quantized weights
constexpr int64_t kMinGainPercent = 2;

// Each of these is a few operations on the bits, zero for a good value, so that a vector of values
// takes as few.
constexpr uint8_t code_fault(uint8_t code) {
  // An int8 in [-32, 31] has its three highest bits equal.
  return static_cast<uint8_t>((code ^ (code << 1)) & 0xc0);
}
constexpr uint16_t scale_fault(uint16_t bits) {
  // Infinity and NaN have the largest magnitudes, 0x7c00 and up; negative ones have the highest
  // bit.
  return static_cast<uint16_t>((bits | (bits + 0x0400)) & 0x8000);
}
constexpr uint16_t half_fault(uint16_t bits) {
  return static_cast<uint16_t>(((bits & 0x7c00) + 0x0400) & 0x8000);
}
constexpr uint16_t bf16_fault(uint16_t bits) {
  return static_cast<uint16_t>(((bits & 0x7f80) + 0x0080) & 0x8000);
}
constexpr uint32_t float_fault(uint32_t bits) {
  return ((bits & 0x7f800000u) + 0x00800000u) & 0x80000000u;
}

// Index of the first element with a fault, or -1. Blocks without an early exit inside, so that the
// compiler vectorizes the common case: nothing is bad.
template <typename T, T (*kFault)(T)>
int64_t find_bad(std::span<const uint8_t> bytes) {
  constexpr int64_t kBlock = 4096;
  const int64_t n = static_cast<int64_t>(bytes.size() / sizeof(T));
  const auto element = [&](int64_t i) {
    T value;
    std::memcpy(&value, bytes.data() + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return value;
  };
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, n);
    T faults = 0;
    for (int64_t i = begin; i < end; ++i)
      faults |= kFault(element(i));
    if (faults == 0) continue;
    for (int64_t i = begin; i < end; ++i) {
      if (kFault(element(i)) != 0) return i;
    }
  }
  return -1;
}

int64_t find_bad_value(WeightFormat format, std::span<const uint8_t> values) {
  switch (format) {
    case WeightFormat::kF32:
      return find_bad<uint32_t, float_fault>(values);
    case WeightFormat::kF16:
      return find_bad<uint16_t, half_fault>(values);
    case WeightFormat::kBF16:
      return find_bad<uint16_t, bf16_fault>(values);
    case WeightFormat::kInt6Group:
      return find_bad<uint8_t, code_fault>(values);
    case WeightFormat::kInt8Group:
    case WeightFormat::kInt8Row:
      return -1;  // every byte is a code
  }
  return 0;
}

Status bad_value(const char* what, int64_t row, const char* column_name, int64_t column) {
  return Status::error(StatusCode::kCorrupt, "row %lld, %s %lld: %s", static_cast<long long>(row),
                       column_name, static_cast<long long>(column), what);
}

}  // namespace

ChunkLayout chunk_layout(WeightFormat format, int64_t n_rows, int64_t n_cols) {
  CheckedSize values(n_rows);
  values.mul(n_cols).mul(element_bytes(format));
  CheckedSize size = values;
  ChunkLayout layout;
  if (is_quantized(format)) {
    size.align_up(2);
    layout.scales_offset = size.value();
    CheckedSize scales(n_rows);
    scales.mul(scales_per_row(format, n_cols)).mul(2);
    size.add(scales.value());
  } else {
    layout.scales_offset = size.value();
  }
  if (!size.valid()) return {};
  layout.values_bytes = values.value();
  layout.raw_bytes = size.value();
  return layout;
}

int64_t rows_per_chunk(const TensorSpec& spec) {
  return std::min(spec.rows, rows_per_piece(spec.rows, 2 * spec.cols));
}

Status check_chunk_values(WeightFormat format, int64_t row_begin, int64_t n_rows, int64_t n_cols,
                          std::span<const uint8_t> raw) {
  const ChunkLayout layout = chunk_layout(format, n_rows, n_cols);
  if (layout.raw_bytes != static_cast<int64_t>(raw.size()))
    return Status::error(StatusCode::kInternal, "chunk of %zu bytes, expected %lld", raw.size(),
                         static_cast<long long>(layout.raw_bytes));
  const auto values = raw.first(static_cast<size_t>(layout.values_bytes));
  if (const int64_t bad = find_bad_value(format, values); bad >= 0)
    return bad_value(
        format == WeightFormat::kInt6Group ? "code outside [-32, 31]" : "NaN or infinity",
        row_begin + bad / n_cols, "column", bad % n_cols);
  if (!is_quantized(format)) return {};
  if (layout.scales_offset > layout.values_bytes &&
      raw[static_cast<size_t>(layout.values_bytes)] != 0)
    return Status::error(StatusCode::kCorrupt, "byte between codes and scales is not zero");
  const auto scales = raw.subspan(static_cast<size_t>(layout.scales_offset));
  const int64_t n_groups = scales_per_row(format, n_cols);
  if (const int64_t bad = find_bad<uint16_t, scale_fault>(scales); bad >= 0)
    return bad_value("scale is negative or not finite", row_begin + bad / n_groups, "group",
                     bad % n_groups);
  return {};
}

ChunkCompressor::ChunkCompressor() : context_(ZSTD_createCCtx()) {
  if (context_ == nullptr) throw std::bad_alloc();
  ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, kCompressionLevel);
}

ChunkCompressor::ChunkCompressor(ChunkCompressor&& other) noexcept
    : context_(std::exchange(other.context_, nullptr)) {}

ChunkCompressor::~ChunkCompressor() {
  ZSTD_freeCCtx(context_);
}

int64_t ChunkCompressor::bound(int64_t raw_bytes) {
  return static_cast<int64_t>(ZSTD_compressBound(static_cast<size_t>(raw_bytes)));
}

Result<int64_t> ChunkCompressor::compress(std::span<const uint8_t> raw, std::span<uint8_t> out) {
  const size_t n = ZSTD_compress2(context_, out.data(), out.size(), raw.data(), raw.size());
  if (ZSTD_isError(n) != 0) {
    if (ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
      return Status::out_of_memory("compression context", static_cast<int64_t>(raw.size()));
    return Status::error(StatusCode::kInternal, "zstd cannot compress %zu bytes: %s", raw.size(),
                         ZSTD_getErrorName(n));
  }
  const int64_t raw_bytes = static_cast<int64_t>(raw.size());
  const int64_t stored_bytes = static_cast<int64_t>(n);
  if (stored_bytes * 100 > raw_bytes * (100 - kMinGainPercent)) return 0;
  return stored_bytes;
}

struct ChunkDecompressor::Pool {
  std::mutex mutex;
  std::vector<ZSTD_DCtx*> idle;
  size_t n_contexts = 0;  // idle and borrowed

  ~Pool() {
    for (ZSTD_DCtx* context : idle)
      ZSTD_freeDCtx(context);
  }
  ZSTD_DCtx* take() {
    {
      const std::lock_guard lock(mutex);
      if (!idle.empty()) {
        ZSTD_DCtx* context = idle.back();
        idle.pop_back();
        return context;
      }
      // Room for every context in use, so that give_back() allocates nothing.
      idle.reserve(++n_contexts);
    }
    return ZSTD_createDCtx();
  }
  void give_back(ZSTD_DCtx* context) {
    const std::lock_guard lock(mutex);
    idle.push_back(context);
  }
};

ChunkDecompressor::ChunkDecompressor() : pool_(std::make_unique<Pool>()) {}
ChunkDecompressor::~ChunkDecompressor() = default;

Status ChunkDecompressor::decompress(std::span<const uint8_t> stored, std::span<uint8_t> out) {
  ZSTD_DCtx* context = pool_->take();
  if (context == nullptr)
    return Status::out_of_memory("decompression context", static_cast<int64_t>(out.size()));
  const size_t n =
      ZSTD_decompressDCtx(context, out.data(), out.size(), stored.data(), stored.size());
  pool_->give_back(context);
  if (ZSTD_isError(n) != 0 && ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
    return Status::out_of_memory("decompression context", static_cast<int64_t>(out.size()));
  if (ZSTD_isError(n) != 0)
    return Status::error(StatusCode::kCorrupt, "zstd frame does not decode: %s",
                         ZSTD_getErrorName(n));
  if (n != out.size())
    return Status::error(StatusCode::kCorrupt, "zstd frame decodes to %zu bytes, expected %zu", n,
                         out.size());
  return {};
}

Status check_frame(std::span<const uint8_t> stored, int64_t raw_bytes) {
  // Today's frames only: libzstd may be built with the decoders of its pre-1.0 formats, which
  // nobody needs here, and skippable frames carry no content.
  uint32_t magic = 0;
  if (stored.size() >= 4)
    magic = static_cast<uint32_t>(stored[0]) | static_cast<uint32_t>(stored[1]) << 8 |
            static_cast<uint32_t>(stored[2]) << 16 | static_cast<uint32_t>(stored[3]) << 24;
  if (magic != ZSTD_MAGICNUMBER) return Status::error(StatusCode::kCorrupt, "not a zstd frame");
  const unsigned long long declared = ZSTD_getFrameContentSize(stored.data(), stored.size());
  if (declared == ZSTD_CONTENTSIZE_ERROR)
    return Status::error(StatusCode::kCorrupt, "damaged zstd frame header");
  if (declared == ZSTD_CONTENTSIZE_UNKNOWN)
    return Status::error(StatusCode::kCorrupt,
                         "zstd frame does not declare its size, expected %lld",
                         static_cast<long long>(raw_bytes));
  if (declared != static_cast<unsigned long long>(raw_bytes))
    return Status::error(StatusCode::kCorrupt, "zstd frame declares %llu bytes, expected %lld",
                         declared, static_cast<long long>(raw_bytes));
  const size_t frame_bytes = ZSTD_findFrameCompressedSize(stored.data(), stored.size());
  if (ZSTD_isError(frame_bytes) != 0 || frame_bytes != stored.size())
    return Status::error(StatusCode::kCorrupt, "zstd frame does not fill its chunk of %zu bytes",
                         stored.size());
  return {};
}

}  // namespace flexq
