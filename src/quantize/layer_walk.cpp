#include "quantize/layer_walk.h"

#include <algorithm>
#include <numeric>

#include "device/device_registry.h"
#include "model/forward.h"
#include "model/rope_table.h"
#include "model/source_slice.h"
#include "quantize/logit_statistics.h"

namespace flexq {
namespace {

// Rows of logits at once: enough for the lm_head to be read once per many tokens, while a
// vocabulary of 128,000 stays at 32 MiB.
constexpr int32_t kLossRows = 64;

std::span<uint8_t> span_of(DeviceBuffer& buffer) {
  return {buffer.data(), static_cast<size_t>(buffer.size())};
}

Result<std::unique_ptr<LlamaModel>> load_slice(SourceSlice slice,
                                               const std::shared_ptr<Device>& device,
                                               ThreadPool& pool) {
  return LlamaModel::load(slice, device, pool, [](int64_t, int64_t) { return false; });
}

}  // namespace

void LogitLoss::add(const LogitLoss& other) {
  kl_sum += other.kl_sum;
  nll_sum += other.nll_sum;
  expected_rise_sum += other.expected_rise_sum;
  n_targets += other.n_targets;
}

Result<std::unique_ptr<LayerWalk>> LayerWalk::create(WeightSource& source, int32_t window_tokens,
                                                     ThreadPool& pool) {
  std::unique_ptr<LayerWalk> walk(new LayerWalk);
  walk->pool_ = &pool;
  FLEXQ_ASSIGN_OR_RETURN(walk->device_, open_device("cpu", {}));
  Device& device = *walk->device_;
  FLEXQ_ASSIGN_OR_RETURN(walk->ends_,
                         load_slice(SourceSlice::of_ends(source), walk->device_, pool));

  ExecutorShape& shape = walk->shape_;
  shape = executor_shape(source.config(), source.tensors());
  shape.n_layers = 1;  // the cache of one layer serves all, one after the other
  shape.quantizes_activations = true;
  shape.rounds_activations = true;
  shape.kv_type = KvType::kF32;
  shape.context_tokens = shape.chunk_tokens = window_tokens;
  shape.n_sequences = 1;
  shape.n_outputs = std::min(kLossRows, window_tokens);
  shape.n_threads = pool.n_threads();
  FLEXQ_ASSIGN_OR_RETURN(const int64_t workspace_bytes, device.workspace_bytes(shape));
  FLEXQ_ASSIGN_OR_RETURN(walk->workspace_, device.allocate(workspace_bytes, "workspace"));
  FLEXQ_ASSIGN_OR_RETURN(
      walk->pages_, device.allocate(page_bytes(shape) * shape.pages_per_sequence(), "KV cache"));
  FLEXQ_ASSIGN_OR_RETURN(walk->executor_, device.create_executor(shape, span_of(*walk->workspace_),
                                                                 span_of(*walk->pages_), pool));

  const auto n_tokens = static_cast<size_t>(window_tokens);
  const auto half = static_cast<size_t>(shape.head_dim / 2);
  walk->positions_.resize(n_tokens);
  std::iota(walk->positions_.begin(), walk->positions_.end(), 0);
  walk->sequences_.resize(n_tokens);
  walk->block_table_.resize(static_cast<size_t>(shape.pages_per_sequence()));
  std::iota(walk->block_table_.begin(), walk->block_table_.end(), 0);
  walk->rope_cos_.resize(n_tokens * half);
  walk->rope_sin_.resize(n_tokens * half);
  const RopeTable rope(source.config());
  for (size_t t = 0; t < n_tokens; ++t)
    rope.angles(walk->positions_[t], &walk->rope_cos_[t * half], &walk->rope_sin_[t * half]);

  const int64_t logits_bytes = int64_t{shape.n_outputs} * shape.n_vocab * int64_t{sizeof(float)};
  FLEXQ_ASSIGN_OR_RETURN(walk->reference_logits_,
                         HostBuffer::allocate(logits_bytes, "reference logits"));
  FLEXQ_ASSIGN_OR_RETURN(walk->reference_probabilities_,
                         HostBuffer::allocate(logits_bytes, "reference probabilities"));
  FLEXQ_ASSIGN_OR_RETURN(walk->expected_probabilities_,
                         HostBuffer::allocate(logits_bytes, "reference probabilities"));
  walk->reference_log_sums_.resize(static_cast<size_t>(shape.n_outputs));
  walk->row_kl_.resize(static_cast<size_t>(shape.n_outputs));
  walk->row_nll_.resize(static_cast<size_t>(shape.n_outputs));
  walk->row_expected_rise_.resize(static_cast<size_t>(shape.n_outputs));
  return walk;
}

Result<std::unique_ptr<LlamaModel>> LayerWalk::load_layer(WeightSource& source, int32_t layer) {
  return load_slice(SourceSlice::of_layer(source, layer), device_, *pool_);
}

Status LayerWalk::begin(std::span<const int32_t> tokens, const float* state) {
  ForwardBatch batch;
  batch.n_tokens = shape_.chunk_tokens;
  batch.tokens = tokens.data();
  batch.positions = positions_.data();
  batch.sequences = sequences_.data();
  batch.block_tables = block_table_.data();
  batch.rope_cos = rope_cos_.data();
  batch.rope_sin = rope_sin_.data();
  FLEXQ_RETURN_IF_ERROR(executor_->begin(batch));
  return state != nullptr ? executor_->restore_residual(state) : Status();
}

Status LayerWalk::embed(std::span<const int32_t> tokens, float* state) {
  FLEXQ_RETURN_IF_ERROR(begin(tokens, nullptr));
  FLEXQ_RETURN_IF_ERROR(executor_->embed(ends_->embedding()));
  return executor_->save_residual(state);
}

Status LayerWalk::run_layer(const LlamaModel& model, const LayerBits& bits, float* state) {
  DeviceLayer layer = model.layers().front();
  for (size_t kind = 0; kind < kLinearKinds; ++kind)
    linear_of(layer, static_cast<LinearKind>(kind)).activation_bits = bits[kind];
  FLEXQ_RETURN_IF_ERROR(begin({}, state));
  FLEXQ_RETURN_IF_ERROR(forward_layer(layer, 0, *executor_));
  return executor_->save_residual(state);
}

Status LayerWalk::compute_logits(std::span<const int32_t> tokens, const float* state,
                                 int32_t row_begin, int32_t n_rows) {
  FLEXQ_RETURN_IF_ERROR(begin(tokens, state));
  const auto rows =
      std::span(positions_).subspan(static_cast<size_t>(row_begin), static_cast<size_t>(n_rows));
  FLEXQ_RETURN_IF_ERROR(executor_->final_norm(ends_->final_norm(), rows, 0));
  FLEXQ_RETURN_IF_ERROR(executor_->logits(ends_->lm_head(), 0, 0, n_rows));
  FLEXQ_ASSIGN_OR_RETURN(const int32_t bad_row, executor_->find_nonfinite(n_rows, false));
  if (bad_row < 0) return {};
  return Status::error(StatusCode::kNonFinite,
                       "logits of the calibration text: expected finite numbers, found NaN or "
                       "infinity");
}

Status LayerWalk::set_reference(int32_t n_rows) {
  const int64_t n_vocab = shape_.n_vocab;
  auto* logits = reinterpret_cast<float*>(reference_logits_.data());
  auto* probabilities = reinterpret_cast<float*>(reference_probabilities_.data());
  auto* expected = reinterpret_cast<float*>(expected_probabilities_.data());
  FLEXQ_ASSIGN_OR_RETURN(const float* from, executor_->logits_row(0));
  pool_->parallel_for(n_rows, [&](int64_t row, int) {
    const float* in = from + row * n_vocab;
    std::copy_n(in, n_vocab, logits + row * n_vocab);
    const double log_sum = log_sum_exp(in, n_vocab, 1);
    reference_log_sums_[static_cast<size_t>(row)] = log_sum;
    softmax(in, n_vocab, 1, log_sum, probabilities + row * n_vocab);
    softmax(in, n_vocab, inverse_temperature_, log_sum_exp(in, n_vocab, inverse_temperature_),
            expected + row * n_vocab);
  });
  return {};
}

Status LayerWalk::add_losses(std::span<const int32_t> targets, LogitLoss& loss) {
  const int64_t n_vocab = shape_.n_vocab;
  const auto* logits = reinterpret_cast<const float*>(reference_logits_.data());
  const auto* probabilities = reinterpret_cast<const float*>(reference_probabilities_.data());
  const auto* expected = reinterpret_cast<const float*>(expected_probabilities_.data());
  FLEXQ_ASSIGN_OR_RETURN(const float* found, executor_->logits_row(0));
  const auto n_rows = static_cast<int64_t>(targets.size());
  pool_->parallel_for(n_rows, [&](int64_t row, int) {
    const float* q = found + row * n_vocab;
    const double log_sum = log_sum_exp(q, n_vocab, 1);
    const auto index = static_cast<size_t>(row);
    const auto rise_under = [&](const float* p) {
      return expected_difference(p + row * n_vocab, logits + row * n_vocab, q, n_vocab) -
             reference_log_sums_[index] + log_sum;
    };
    row_kl_[index] = rise_under(probabilities);
    row_expected_rise_[index] = rise_under(expected);
    row_nll_[index] = log_sum - double{q[targets[index]]};
  });
  for (size_t row = 0; row < targets.size(); ++row) {
    loss.kl_sum += row_kl_[row];
    loss.nll_sum += row_nll_[row];
    loss.expected_rise_sum += row_expected_rise_[row];
  }
  loss.n_targets += n_rows;
  return {};
}

Status LayerWalk::add_tempered_nll(std::span<const int32_t> tokens, const float* state,
                                   int32_t row_stride, std::span<const float> inverse_temperatures,
                                   std::span<double> nll_sums) {
  const int32_t n_targets = shape_.chunk_tokens - 1;
  for (int32_t row = 0; row < n_targets; row += shape_.n_outputs) {
    const int32_t n_rows = std::min(shape_.n_outputs, n_targets - row);
    FLEXQ_RETURN_IF_ERROR(compute_logits(tokens, state, row, n_rows));
    FLEXQ_ASSIGN_OR_RETURN(const float* logits, executor_->logits_row(0));
    const auto n_temperatures = static_cast<int64_t>(inverse_temperatures.size());
    pool_->parallel_for(n_temperatures, [&](int64_t task, int) {
      const auto index = static_cast<size_t>(task);
      const float scale = inverse_temperatures[index];
      for (int32_t i = 0; i < n_rows; i += row_stride) {
        const float* z = logits + int64_t{i} * shape_.n_vocab;
        const float target = z[tokens[static_cast<size_t>(row + i + 1)]];
        nll_sums[index] += log_sum_exp(z, shape_.n_vocab, scale) - double{scale} * double{target};
      }
    });
  }
  return {};
}

Status LayerWalk::compare(std::span<const int32_t> tokens, const float* reference,
                          std::span<const float* const> states, std::span<LogitLoss> losses) {
  const int32_t n_targets = shape_.chunk_tokens - 1;
  for (int32_t row = 0; row < n_targets; row += shape_.n_outputs) {
    const int32_t n_rows = std::min(shape_.n_outputs, n_targets - row);
    const auto targets = tokens.subspan(static_cast<size_t>(row) + 1, static_cast<size_t>(n_rows));
    FLEXQ_RETURN_IF_ERROR(compute_logits(tokens, reference, row, n_rows));
    FLEXQ_RETURN_IF_ERROR(set_reference(n_rows));
    for (size_t i = 0; i < states.size(); ++i) {
      FLEXQ_RETURN_IF_ERROR(compute_logits(tokens, states[i], row, n_rows));
      FLEXQ_RETURN_IF_ERROR(add_losses(targets, losses[i]));
    }
  }
  return {};
}

}  // namespace flexq
