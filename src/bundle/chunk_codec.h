// One chunk of a bundle: its raw form, its compression, and the checks on its values.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "bundle/bundle_directory.h"
#include "model/weight_source.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace flexq {

// Raw form of `n_rows` rows: values row-major, then for quantized formats the fp16 scales of the
// same rows, on the next even offset. All -1 when a size overflows.
struct ChunkLayout {
  int64_t values_bytes = -1;
  int64_t scales_offset = -1;  // equal to raw_bytes where there are no scales
  int64_t raw_bytes = -1;
};
ChunkLayout chunk_layout(WeightFormat format, int64_t n_rows, int64_t n_cols);

// Rows per chunk as the writer cuts them. Counts two bytes per value whatever the format, so that
// chunks of quantized weights hold the same rows as the pieces of a 16-bit checkpoint.
int64_t rows_per_chunk(const TensorSpec& spec);

// Refuses 6-bit codes outside [-32, 31], scales that are negative or not finite, dense values that
// are not finite, and a non-zero byte between codes and scales. kCorrupt with row and column.
Status check_chunk_values(WeightFormat format, int64_t row_begin, int64_t n_rows, int64_t n_cols,
                          std::span<const uint8_t> raw);

// zstd level 1 for one thread at a time. Deterministic: the same bytes in give the same bytes out.
class ChunkCompressor {
 public:
  ChunkCompressor();
  ~ChunkCompressor();
  ChunkCompressor(ChunkCompressor&& other) noexcept;
  ChunkCompressor& operator=(ChunkCompressor&&) = delete;

  // Room that compress() needs for `raw_bytes`.
  static int64_t bound(int64_t raw_bytes);
  // Fills `out` with one frame and gives its size, or 0 when less than 2% would be gained and the
  // chunk is better stored raw.
  Result<int64_t> compress(std::span<const uint8_t> raw, std::span<uint8_t> out);

 private:
  ZSTD_CCtx_s* context_ = nullptr;
};

// zstd contexts shared by the threads that read one bundle; each decoding borrows one.
class ChunkDecompressor {
 public:
  ChunkDecompressor();
  ~ChunkDecompressor();

  // Decodes exactly one frame that fills `out` exactly. The frame must be all of `stored` and
  // declare out.size() as its content: see frame_content_bytes. Thread-safe.
  Status decompress(std::span<const uint8_t> stored, std::span<uint8_t> out);

 private:
  struct Pool;
  std::unique_ptr<Pool> pool_;
};

// Checks, before anything is allocated for the result, that `stored` is one zstd frame and
// declares `raw_bytes` of content. kCorrupt otherwise.
Status check_frame(std::span<const uint8_t> stored, int64_t raw_bytes);

}  // namespace flexq
