// Where weights come from: a checkpoint directory or a bundle, seen the same way. Tensors arrive in
// pieces of whole rows, so that loading and quantizing need staging memory for a few pieces only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/memory.h"
#include "base/sha256.h"
#include "kernels/layout/weight_format.h"
#include "model/model_config.h"

namespace flexq {

inline constexpr int64_t kPieceRowMultiple = 16;  // every piece but the last has a multiple of it
inline constexpr int64_t kPieceTargetBytes = 2 << 20;            // decoded bytes aimed at per piece
inline constexpr int64_t kMaxPieceBytes = 16 * ((1 << 18) * 4);  // 16 rows of the widest F32 tensor

struct StoredTensor {
  TensorSpec spec;
  WeightFormat format = WeightFormat::kF32;
  // kLinear only: 6 or 8 quantizes the layer's input on the fly, 16 leaves it in floating point.
  int32_t activation_bits = 16;
  // Quantized formats: weight = code * half_to_float(scale) * scale_multiplier; a power of two.
  float scale_multiplier = 1.0f;
};

// A block of whole rows. Valid until the PieceBuffer it was read into is used again.
struct WeightPiece {
  int64_t row_begin = 0;
  int64_t n_rows = 0;
  // (n_rows, cols) row-major in the tensor's format; int8_t codes for quantized formats.
  const uint8_t* values = nullptr;
  // Quantized formats: (n_rows, scales_per_row) fp16 bit patterns, aligned to 2 bytes; else null.
  const uint16_t* scales = nullptr;
};

// How long reading took, by what was done. Sources that do not hash or compress leave zeros.
struct ReadTimes {
  int64_t read_ns = 0;    // from the file
  int64_t hash_ns = 0;    // SHA-256 of the stored bytes
  int64_t decode_ns = 0;  // decompression
  int64_t check_ns = 0;   // of the values

  ReadTimes& operator+=(const ReadTimes& other) {
    read_ns += other.read_ns;
    hash_ns += other.hash_ns;
    decode_ns += other.decode_ns;
    check_ns += other.check_ns;
    return *this;
  }
};

// Staging memory of one reading thread, grown by the source as needed and reused.
struct PieceBuffer {
  HostBuffer stored;     // compressed bytes
  HostBuffer decoded;    // what a WeightPiece of a checkpoint or bundle points into
  HostBuffer equalized;  // decoded weights in fp32, for sources that equalize channels
  ReadTimes times;       // of all pieces that were read into it
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual const ModelConfig& config() const = 0;
  // In the order of expected_tensors(config()).
  virtual const std::vector<StoredTensor>& tensors() const = 0;
  // Pieces of tensors()[tensor], which cover its rows in ascending order.
  virtual int64_t n_pieces(int64_t tensor) const = 0;
  // Reads, verifies and decodes one piece. Safe from several threads with separate buffers.
  virtual Status read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer,
                            WeightPiece* out) = 0;
  // A hash that no other model has: of everything that decides what it computes. Nothing where
  // that would take reading all weights.
  virtual std::optional<Sha256Digest> identity() const { return std::nullopt; }
};

// Rows per piece of a tensor: the multiple of kPieceRowMultiple nearest below kPieceTargetBytes of
// `row_bytes`, at least kPieceRowMultiple. Depends on shapes only, so bundles are deterministic.
int64_t rows_per_piece(int64_t rows, int64_t row_bytes);

}  // namespace flexq
