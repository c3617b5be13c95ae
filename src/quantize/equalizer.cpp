#include "quantize/equalizer.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/memory_guard.h"
#include "quantize/channel_equalization.h"
#include "quantize/dense_values.h"

namespace flexq {
namespace {

// A linear's weights in fp32.
struct Matrix {
  std::vector<float> values;  // (n_rows, n_cols)
  int64_t n_rows = 0;
  int32_t activation_bits = 16;
};

// Keeps some tokens' inputs of a layer, and equalizes it when it has seen all.
class EqualizingObserver : public LayerObserver {
 public:
  EqualizingObserver(WeightSource& source, std::span<const LayerBits> bits, int32_t weight_bits,
                     int64_t n_tokens, ThreadPool& pool)
      : source_(source),
        bits_(bits),
        weight_bits_(weight_bits),
        token_stride_(std::max<int64_t>(n_tokens / kEqualizationTokens, 1)),
        pool_(pool) {}

  Status begin_layer(int32_t layer, const DeviceLayer&) override {
    layer_ = layer;
    kept_ = {};
    n_seen_ = {};
    return {};
  }

  void observe(InputPoint point, const float* rows, int64_t width, int32_t n_tokens) override {
    const auto index = static_cast<size_t>(point);
    width_[index] = width;
    std::vector<float>& kept = kept_[index];
    for (int64_t t = 0; t < n_tokens; ++t)
      if (n_seen_[index]++ % token_stride_ == 0)
        kept.insert(kept.end(), rows + t * width, rows + (t + 1) * width);
  }

  Status end_layer() override {
    LayerEqualization& found = equalization_.emplace_back();
    for (const InputPoint point : {InputPoint::kAttention, InputPoint::kAttentionOut,
                                   InputPoint::kFfn, InputPoint::kFfnOut}) {
      const ModelConfig& config = source_.config();
      if (point == InputPoint::kAttentionOut && config.n_heads != config.n_kv_heads) continue;
      FLEXQ_ASSIGN_OR_RETURN(found[static_cast<size_t>(point)], equalize(point));
    }
    return {};
  }

  Equalization take() { return std::move(equalization_); }

 private:
  Result<std::vector<int8_t>> equalize(InputPoint point) {
    const auto index = static_cast<size_t>(point);
    const int64_t width = width_[index];
    std::vector<Matrix> matrices;
    FLEXQ_RETURN_IF_ERROR(read_matrices(point, matrices));
    std::vector<int8_t> exponents(static_cast<size_t>(width));
    const int64_t n_groups = ceil_div(width, kGroupSize);
    std::vector<Status> statuses(static_cast<size_t>(n_groups));
    pool_.parallel_for(n_groups, [&](int64_t group, int) {
      statuses[static_cast<size_t>(group)] = guard_memory("equalization", [&]() -> Status {
        const int64_t begin = group * kGroupSize;
        const int64_t n_channels = std::min<int64_t>(kGroupSize, width - begin);
        const ChannelInputs inputs = {kept_[index].data() + begin,
                                      static_cast<int64_t>(kept_[index].size()) / width, width};
        std::vector<ChannelReader> readers;
        for (const Matrix& matrix : matrices)
          readers.push_back(
              {matrix.values.data() + begin, matrix.n_rows, width, matrix.activation_bits});
        const std::vector<int8_t> found = equalize_group(inputs, n_channels, readers, weight_bits_);
        std::copy(found.begin(), found.end(), exponents.begin() + begin);
        return {};
      });
    });
    for (Status& status : statuses)
      FLEXQ_RETURN_IF_ERROR(std::move(status));
    return exponents;
  }

  // The linears of this layer that read there.
  Status read_matrices(InputPoint point, std::vector<Matrix>& matrices) {
    for (size_t i = 0; i < source_.tensors().size(); ++i) {
      const StoredTensor& tensor = source_.tensors()[i];
      const TensorSpec& spec = tensor.spec;
      if (spec.role != TensorRole::kLinear || spec.layer != layer_ ||
          input_point(spec.linear_kind) != point)
        continue;
      Matrix& matrix = matrices.emplace_back();
      matrix.n_rows = spec.rows;
      matrix.activation_bits =
          bits_[static_cast<size_t>(layer_)][static_cast<size_t>(spec.linear_kind)];
      matrix.values.resize(static_cast<size_t>(spec.rows * spec.cols));
      const auto index = static_cast<int64_t>(i);
      for (int64_t p = 0; p < source_.n_pieces(index); ++p) {
        WeightPiece piece;
        FLEXQ_RETURN_IF_ERROR(source_.read_piece(index, p, buffer_, &piece));
        dense_to_float(tensor.format, piece.values, piece.n_rows * spec.cols,
                       matrix.values.data() + piece.row_begin * spec.cols);
      }
    }
    return {};
  }

  WeightSource& source_;
  std::span<const LayerBits> bits_;
  int32_t weight_bits_;
  int64_t token_stride_;
  ThreadPool& pool_;
  int32_t layer_ = 0;
  std::array<std::vector<float>, kInputPoints> kept_;  // (tokens kept, width)
  std::array<int64_t, kInputPoints> n_seen_{};
  std::array<int64_t, kInputPoints> width_{};
  PieceBuffer buffer_;
  Equalization equalization_;
};

}  // namespace

Result<Equalization> find_equalization(LayerWalk& walk, WeightSource& source,
                                       const CalibrationText& text, std::span<const LayerBits> bits,
                                       int32_t weight_bits, ThreadPool& pool, StepDone step_done) {
  EqualizingObserver observer(source, bits, weight_bits,
                              int64_t{text.n_windows()} * text.window_tokens, pool);
  FLEXQ_RETURN_IF_ERROR(observe_inputs(walk, source, text, observer, step_done));
  return observer.take();
}

}  // namespace flexq
