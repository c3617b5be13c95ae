#include "quantize/weight_scan.h"

#include <algorithm>
#include <cmath>

#include "base/memory_guard.h"
#include "quantize/dense_values.h"
#include "quantize/group_quantizer.h"

namespace flexq {
namespace {

constexpr int64_t kPiecesPerThread = 4;  // between two progress reports

// One piece to read, and what was found in it.
struct PieceScan {
  int64_t tensor = 0;
  int64_t piece = 0;
  int64_t row_begin = 0;
  int64_t n_rows = 0;
  float max_abs = 0;
  float min_group_max = INFINITY;
  Status status;
};

Status scan_piece(WeightSource& source, ScanScratch& scratch, PieceScan& scan) {
  const StoredTensor& tensor = source.tensors()[static_cast<size_t>(scan.tensor)];
  const int64_t n_cols = tensor.spec.cols;
  WeightPiece piece;
  FLEXQ_RETURN_IF_ERROR(source.read_piece(scan.tensor, scan.piece, scratch.buffer, &piece));
  scan.row_begin = piece.row_begin;
  scan.n_rows = piece.n_rows;
  float* row = scratch.row.data();
  for (int64_t r = 0; r < piece.n_rows; ++r) {
    dense_to_float(tensor.format, piece.values + r * n_cols * element_bytes(tensor.format), n_cols,
                   row);
    for (int64_t begin = 0; begin < n_cols; begin += kGroupSize) {
      const float group_max =
          max_magnitude(row + begin, std::min<int64_t>(kGroupSize, n_cols - begin));
      if (!std::isfinite(group_max))
        return Status::error(StatusCode::kNonFinite,
                             "tensor %s: NaN or infinity in row %lld, columns %lld and following",
                             tensor.spec.name.c_str(), static_cast<long long>(scan.row_begin + r),
                             static_cast<long long>(begin));
      scan.max_abs = std::max(scan.max_abs, group_max);
      scan.min_group_max = std::min(scan.min_group_max, group_max);
    }
  }
  return {};
}

// Adds a piece to its tensor; pieces come in order.
Status merge(const StoredTensor& tensor, const PieceScan& piece, bool first, bool last,
             TensorScan& scan) {
  const int64_t expected_row = first ? 0 : scan.piece_ends.back();
  const int64_t end = piece.row_begin + piece.n_rows;
  if (piece.row_begin != expected_row || piece.n_rows < 1 || end > tensor.spec.rows ||
      (last && end != tensor.spec.rows))
    return Status::error(StatusCode::kInternal,
                         "tensor %s: piece of rows [%lld, %lld), expected one from row %lld",
                         tensor.spec.name.c_str(), static_cast<long long>(piece.row_begin),
                         static_cast<long long>(end), static_cast<long long>(expected_row));
  scan.piece_ends.push_back(end);
  scan.max_abs = std::max(scan.max_abs, piece.max_abs);
  scan.min_group_max =
      first ? piece.min_group_max : std::min(scan.min_group_max, piece.min_group_max);
  return {};
}

}  // namespace

std::vector<ScanScratch> make_scratch(const WeightSource& source, int n_threads) {
  int64_t max_cols = 0;
  for (const StoredTensor& tensor : source.tensors())
    max_cols = std::max(max_cols, tensor.spec.cols);
  std::vector<ScanScratch> scratch(static_cast<size_t>(n_threads));
  for (ScanScratch& entry : scratch)
    entry.row.resize(static_cast<size_t>(max_cols));
  return scratch;
}

int64_t source_bytes(const WeightSource& source) {
  int64_t total = 0;  // bounded by the limits of a config
  for (const StoredTensor& tensor : source.tensors())
    total += tensor.spec.rows * tensor.spec.cols * element_bytes(tensor.format);
  return total;
}

Result<std::vector<TensorScan>> scan_weights(WeightSource& source, ThreadPool& pool,
                                             const ProgressSink& progress) {
  const std::vector<StoredTensor>& tensors = source.tensors();
  std::vector<PieceScan> pieces;
  for (size_t t = 0; t < tensors.size(); ++t) {
    if (tensors[t].format == WeightFormat::kInt6Group)
      return Status::error(StatusCode::kInvalidArgument, "tensor %s is quantized already",
                           tensors[t].spec.name.c_str());
    const int64_t n_pieces = source.n_pieces(static_cast<int64_t>(t));
    if (n_pieces < 1)
      return Status::error(StatusCode::kInternal, "tensor %s has no pieces",
                           tensors[t].spec.name.c_str());
    for (int64_t p = 0; p < n_pieces; ++p) {
      PieceScan& piece = pieces.emplace_back();
      piece.tensor = static_cast<int64_t>(t);
      piece.piece = p;
    }
  }

  std::vector<ScanScratch> scratch = make_scratch(source, pool.n_threads());
  std::vector<TensorScan> scans(tensors.size());
  const int64_t total_bytes = 2 * source_bytes(source);
  const int64_t n_pieces = static_cast<int64_t>(pieces.size());
  const int64_t wave = pool.n_threads() * kPiecesPerThread;
  int64_t done_bytes = 0;
  for (int64_t begin = 0; begin < n_pieces; begin += wave) {
    const int64_t end = std::min(begin + wave, n_pieces);
    pool.parallel_for(end - begin, [&](int64_t task, int thread) {
      PieceScan& piece = pieces[static_cast<size_t>(begin + task)];
      piece.status = guard_memory("weight scan", [&] {
        return scan_piece(source, scratch[static_cast<size_t>(thread)], piece);
      });
    });
    for (int64_t i = begin; i < end; ++i) {
      PieceScan& piece = pieces[static_cast<size_t>(i)];
      FLEXQ_RETURN_IF_ERROR(std::move(piece.status));
      const size_t t = static_cast<size_t>(piece.tensor);
      const bool last = piece.piece + 1 == source.n_pieces(piece.tensor);
      FLEXQ_RETURN_IF_ERROR(merge(tensors[t], piece, piece.piece == 0, last, scans[t]));
      done_bytes += piece.n_rows * tensors[t].spec.cols * element_bytes(tensors[t].format);
    }
    FLEXQ_RETURN_IF_ERROR(progress.report(done_bytes, total_bytes));
  }
  return scans;
}

}  // namespace flexq
