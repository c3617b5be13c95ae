#include "quantize/input_statistics.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/checked.h"
#include "device/cpu/cpu_linear.h"
#include "quantize/input_observation.h"

namespace flexq {
namespace {

constexpr int32_t kErrorBits = 6;

// Looks at the inputs of one layer after the other.
class InputCollector : public LayerObserver {
 public:
  InputCollector(const CpuKernels& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

  Status allocate(const ModelConfig& config, int32_t window_tokens) {
    const int64_t q_width = int64_t{config.n_heads} * config.head_dim;
    const int64_t kv_width = int64_t{config.n_kv_heads} * config.head_dim;
    const int64_t widest_input = std::max({int64_t{config.n_embd}, q_width, int64_t{config.n_ff}});
    const int64_t widest_output = std::max(widest_input, kv_width);
    const int64_t groups = ceil_div(widest_input, kGroupSize);
    const auto buffer = [&](HostBuffer& out, int64_t bytes_per_token) -> Status {
      FLEXQ_ASSIGN_OR_RETURN(
          out, HostBuffer::allocate(window_tokens * bytes_per_token, "calibration activations"));
      return {};
    };
    FLEXQ_RETURN_IF_ERROR(buffer(codes_, groups * kGroupSize));
    FLEXQ_RETURN_IF_ERROR(buffer(scales_, groups * int64_t{sizeof(float)}));
    FLEXQ_RETURN_IF_ERROR(buffer(sums_, groups * int64_t{sizeof(int32_t)}));
    FLEXQ_RETURN_IF_ERROR(buffer(rounded_, widest_input * int64_t{sizeof(float)}));
    FLEXQ_RETURN_IF_ERROR(buffer(exact_output_, widest_output * int64_t{sizeof(float)}));
    FLEXQ_RETURN_IF_ERROR(buffer(rounded_output_, widest_output * int64_t{sizeof(float)}));
    token_errors_.resize(static_cast<size_t>(window_tokens));
    token_outputs_.resize(static_cast<size_t>(window_tokens));
    return {};
  }

  Status begin_layer(int32_t, const DeviceLayer& layer) override {
    layer_ = layer;
    n_tokens_seen_ = 0;
    moments_ = {};
    error_sums_ = {};
    output_sums_ = {};
    inputs_ = {};
    return {};
  }

  Status end_layer() override {
    for (size_t point = 0; point < kInputPoints; ++point) {
      for (const double sum : moments_[point])
        inputs_.points[point].second_moment.push_back(
            static_cast<float>(sum / static_cast<double>(n_tokens_seen_)));
    }
    for (size_t kind = 0; kind < kLinearKinds; ++kind)
      if (output_sums_[kind] > 0)
        inputs_.output_error[kind] = error_sums_[kind] / output_sums_[kind];
    layers_.push_back(std::move(inputs_));
    return {};
  }

  std::vector<LayerInputs> take_layers() { return std::move(layers_); }

  void observe(InputPoint point, const float* rows, int64_t width, int32_t n_tokens) override {
    if (point == InputPoint::kAttention) n_tokens_seen_ += n_tokens;
    add_ranges(static_cast<size_t>(point), rows, width, n_tokens);
    for (size_t kind = 0; kind < kLinearKinds; ++kind)
      if (input_point(static_cast<LinearKind>(kind)) == point)
        add_output_error(kind, {rows, width, n_tokens});
  }

 private:
  void add_ranges(size_t point, const float* rows, int64_t width, int32_t n_tokens) {
    std::vector<float>& largest = inputs_.points[point].group_max;
    std::vector<double>& moments = moments_[point];
    const int64_t groups = ceil_div(width, kGroupSize);
    largest.resize(static_cast<size_t>(groups));
    moments.resize(static_cast<size_t>(width));
    pool_.parallel_for(groups, [&](int64_t group, int) {
      const int64_t begin = group * kGroupSize;
      const int64_t end = std::min<int64_t>(begin + kGroupSize, width);
      float& group_max = largest[static_cast<size_t>(group)];
      for (int64_t t = 0; t < n_tokens; ++t) {
        for (int64_t i = begin; i < end; ++i) {
          const float x = rows[t * width + i];
          group_max = std::max(group_max, std::fabs(x));
          moments[static_cast<size_t>(i)] += double{x} * double{x};
        }
      }
    });
  }

  void multiply(DeviceLinear linear, LinearInput input, int32_t bits, HostBuffer& out) const {
    const CpuLinear engine(
        kernels_,
        {reinterpret_cast<int8_t*>(codes_.data()), reinterpret_cast<float*>(scales_.data()),
         reinterpret_cast<int32_t*>(sums_.data()), reinterpret_cast<float*>(rounded_.data())},
        pool_);
    linear.activation_bits = bits;
    engine.quantize(input, bits);
    engine.for_blocks(CpuLinear::block_count(linear), [&](int64_t begin, int64_t end) {
      engine.apply(linear, input, begin, end, reinterpret_cast<float*>(out.data()));
    });
  }

  void add_output_error(size_t kind, const LinearInput& input) {
    const DeviceLinear& linear = linear_of(layer_, static_cast<LinearKind>(kind));
    multiply(linear, input, 16, exact_output_);
    multiply(linear, input, kErrorBits, rounded_output_);
    const auto* exact = reinterpret_cast<const float*>(exact_output_.data());
    const auto* rounded = reinterpret_cast<const float*>(rounded_output_.data());
    const int64_t n = linear.weight.rows;
    pool_.parallel_for(input.n_tokens, [&](int64_t t, int) {
      double error = 0;
      double output = 0;
      for (int64_t i = t * n; i < (t + 1) * n; ++i) {
        const double difference = double{rounded[i]} - double{exact[i]};
        error += difference * difference;
        output += double{exact[i]} * double{exact[i]};
      }
      token_errors_[static_cast<size_t>(t)] = error;
      token_outputs_[static_cast<size_t>(t)] = output;
    });
    for (size_t t = 0; t < static_cast<size_t>(input.n_tokens); ++t) {
      error_sums_[kind] += token_errors_[t];
      output_sums_[kind] += token_outputs_[t];
    }
  }

  const CpuKernels& kernels_;
  ThreadPool& pool_;
  DeviceLayer layer_;
  int64_t n_tokens_seen_ = 0;
  LayerInputs inputs_;                                     // of this layer
  std::vector<LayerInputs> layers_;                        // of those before
  std::array<std::vector<double>, kInputPoints> moments_;  // (width) sums of x^2
  std::array<double, kLinearKinds> error_sums_{};
  std::array<double, kLinearKinds> output_sums_{};
  std::vector<double> token_errors_;   // (window_tokens)
  std::vector<double> token_outputs_;  // (window_tokens)
  mutable HostBuffer codes_, scales_, sums_, rounded_;
  HostBuffer exact_output_, rounded_output_;  // (window_tokens, widest output)
};

}  // namespace

const InputRange& LayerInputs::of(LinearKind kind) const {
  return points[static_cast<size_t>(input_point(kind))];
}

Result<std::vector<LayerInputs>> measure_inputs(LayerWalk& walk, WeightSource& source,
                                                const CalibrationText& text, ThreadPool& pool,
                                                StepDone step_done) {
  InputCollector collector(*select_cpu_kernels(nullptr), pool);
  FLEXQ_RETURN_IF_ERROR(collector.allocate(source.config(), text.window_tokens));
  FLEXQ_RETURN_IF_ERROR(observe_inputs(walk, source, text, collector, step_done));
  return collector.take_layers();
}

}  // namespace flexq
