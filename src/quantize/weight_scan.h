// The first pass over a model's weights: what has to be known about a whole tensor before its
// first piece can be quantized.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "bundle/progress.h"
#include "model/weight_source.h"

namespace flexq {

// Reads tensors in fp32, with memory of one piece and one row.
struct ScanScratch {
  PieceBuffer buffer;
  std::vector<float> row;  // (largest number of columns)
};
std::vector<ScanScratch> make_scratch(const WeightSource& source, int n_threads);

struct TensorScan {
  std::vector<int64_t> piece_ends;  // (n_pieces): rows up to and including each piece
  float max_abs = 0;                // the largest weight
  float min_group_max = 0;          // the largest weight of the group where that is smallest
};

// Decoded bytes of all tensors, the unit of progress.
int64_t source_bytes(const WeightSource& source);

// One entry per tensor. kInvalidArgument for a source that is quantized already, kNonFinite for NaN
// and infinity, kInternal when pieces do not cover the rows. Progress runs from 0 to half of
// 2 * source_bytes().
Result<std::vector<TensorScan>> scan_weights(WeightSource& source, ThreadPool& pool,
                                             const ProgressSink& progress);

}  // namespace flexq
