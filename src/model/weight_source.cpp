#include "model/weight_source.h"

#include <algorithm>

#include "base/checked.h"

namespace flexq {

int64_t rows_per_piece(int64_t rows, int64_t row_bytes) {
  int64_t result = kPieceTargetBytes / std::max<int64_t>(row_bytes, 1);
  result = std::max(result - result % kPieceRowMultiple, kPieceRowMultiple);
  // A tensor of fewer rows is one piece; its staging memory need not be larger than the tensor.
  if (rows < result) result = align_up(std::max<int64_t>(rows, 1), kPieceRowMultiple);
  return result;
}

}  // namespace flexq
