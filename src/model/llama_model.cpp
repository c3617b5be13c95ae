#include "model/llama_model.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "base/checked.h"
#include "base/memory_guard.h"
#include "base/stopwatch.h"

namespace flexq {
namespace {

// Pieces read between two progress calls, per thread.
constexpr int64_t kPiecesPerWave = 8;

struct PieceRef {
  int64_t tensor;
  int64_t piece;
};

// Keeps the first error of a parallel region.
class FirstError {
 public:
  bool failed() const { return failed_.load(std::memory_order_relaxed); }
  void set(Status status) {
    const std::lock_guard lock(mutex_);
    if (failed_.load(std::memory_order_relaxed)) return;
    status_ = std::move(status);
    failed_.store(true, std::memory_order_relaxed);
  }
  Status take() { return std::move(status_); }

 private:
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  Status status_;
};

}  // namespace

DeviceLinear& linear_of(DeviceLayer& layer, LinearKind kind) {
  DeviceLinear* const linears[] = {&layer.q,    &layer.k,  &layer.v,   &layer.o,
                                   &layer.gate, &layer.up, &layer.down};
  return *linears[static_cast<size_t>(kind)];
}

DeviceTensorDesc device_tensor_desc(const StoredTensor& tensor) {
  return {tensor.format,    tensor.spec.is_vector(), tensor.spec.rows,
          tensor.spec.cols, tensor.scale_multiplier, tensor.activation_bits};
}

Result<WeightPlan> plan_weights(const Device& device, std::span<const StoredTensor> tensors) {
  WeightPlan plan;
  CheckedSize total(0);
  CheckedSize parameters(0);
  bool tied = true;
  int64_t embedding_bytes = 0;
  for (const StoredTensor& tensor : tensors) {
    FLEXQ_ASSIGN_OR_RETURN(const int64_t bytes, device.tensor_bytes(device_tensor_desc(tensor)));
    plan.offsets.push_back(total.value());
    total.add(bytes);
    const int64_t elements = CheckedSize(tensor.spec.rows).mul(tensor.spec.cols).value();
    parameters.add(elements);
    if (!total.valid() || !parameters.valid()) {
      return Status::error(StatusCode::kLimitExceeded, "the model's weights do not fit 63 bits");
    }
    if (tensor.spec.role == TensorRole::kEmbedding) embedding_bytes = bytes;
    if (tensor.spec.role == TensorRole::kLmHead) tied = false;
    if (tensor.spec.role == TensorRole::kLinear) {
      plan.linear_weights += elements;
      plan.linear_bytes += bytes;
    }
    if (is_grouped(tensor.format)) {
      plan.quantized_weights += elements;
      plan.quantized_bytes += bytes;
    }
  }
  plan.total_bytes = total.value();
  plan.n_parameters = parameters.value();
  plan.decode_bytes = tied ? plan.total_bytes : plan.total_bytes - embedding_bytes;
  return plan;
}

Result<std::unique_ptr<LlamaModel>> LlamaModel::load(WeightSource& source,
                                                     std::shared_ptr<Device> device,
                                                     ThreadPool& pool, LoadProgress progress) {
  std::unique_ptr<LlamaModel> model(new LlamaModel);
  model->config_ = source.config();
  model->tensors_ = source.tensors();
  model->device_ = std::move(device);
  FLEXQ_ASSIGN_OR_RETURN(model->plan_, plan_weights(*model->device_, model->tensors_));
  FLEXQ_ASSIGN_OR_RETURN(model->weights_,
                         model->device_->allocate(model->plan_.total_bytes, "weights"));
  FLEXQ_RETURN_IF_ERROR(model->read_pieces(source, pool, progress));
  FLEXQ_RETURN_IF_ERROR(model->device_->finish_stores());
  model->bind_tensors();
  return model;
}

Status LlamaModel::read_pieces(WeightSource& source, ThreadPool& pool, LoadProgress progress) {
  std::vector<PieceRef> pieces;
  int64_t total_bytes = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const auto tensor = static_cast<int64_t>(i);
    for (int64_t p = 0; p < source.n_pieces(tensor); ++p)
      pieces.push_back({tensor, p});
    const TensorSpec& spec = tensors_[i].spec;
    total_bytes += spec.rows * spec.cols * element_bytes(tensors_[i].format);
  }
  std::vector<PieceBuffer> buffers(static_cast<size_t>(pool.n_threads()));
  std::atomic<int64_t> done_bytes{0};
  std::atomic<int64_t> store_ns{0};
  FirstError error;
  const auto n_pieces = static_cast<int64_t>(pieces.size());
  const int64_t wave = pool.n_threads() * kPiecesPerWave;
  for (int64_t begin = 0; begin < n_pieces; begin += wave) {
    pool.parallel_for(std::min(wave, n_pieces - begin), [&](int64_t task, int thread) {
      if (error.failed()) return;
      const PieceRef ref = pieces[static_cast<size_t>(begin + task)];
      const auto tensor_index = static_cast<size_t>(ref.tensor);
      const StoredTensor& tensor = tensors_[tensor_index];
      WeightPiece piece;
      Status status = guard_memory("weight piece", [&]() -> Status {
        FLEXQ_RETURN_IF_ERROR(
            source.read_piece(ref.tensor, ref.piece, buffers[static_cast<size_t>(thread)], &piece));
        Stopwatch watch;
        FLEXQ_RETURN_IF_ERROR(device_->store_rows(device_tensor_desc(tensor), piece.row_begin,
                                                  piece.n_rows, piece.values, piece.scales,
                                                  weights_->data() + plan_.offsets[tensor_index]));
        store_ns += watch.lap_ns();
        return Status();
      });
      if (!status.ok()) {
        error.set(std::move(status));
        return;
      }
      done_bytes += piece.n_rows * tensor.spec.cols * element_bytes(tensor.format);
    });
    if (error.failed()) return error.take();
    if (progress(done_bytes.load(), total_bytes)) {
      return Status::error(StatusCode::kCancelled,
                           "loading was cancelled by the progress callback");
    }
  }
  for (const PieceBuffer& buffer : buffers)
    load_times_.read += buffer.times;
  load_times_.store_ns = store_ns;
  return Status();
}

void LlamaModel::bind_tensors() {
  layers_.resize(static_cast<size_t>(config_.n_layers));
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const StoredTensor& tensor = tensors_[i];
    const TensorSpec& spec = tensor.spec;
    const uint8_t* data = weights_->data() + plan_.offsets[i];
    const DeviceMatrix matrix = device_->matrix_at(device_tensor_desc(tensor), data);
    const auto* vector = reinterpret_cast<const float*>(data);
    if (spec.layer < 0) {
      if (spec.role == TensorRole::kEmbedding) embedding_ = matrix;
      if (spec.role == TensorRole::kNorm) final_norm_ = vector;
      if (spec.role == TensorRole::kLmHead) lm_head_ = matrix;
      continue;
    }
    DeviceLayer& layer = layers_[static_cast<size_t>(spec.layer)];
    if (spec.role == TensorRole::kNorm) {
      (spec.linear_kind == LinearKind::kQ ? layer.attention_norm : layer.ffn_norm) = vector;
      continue;
    }
    DeviceLinear& linear = linear_of(layer, spec.linear_kind);
    if (spec.role == TensorRole::kBias) {
      linear.bias = vector;
    } else {
      linear.weight = matrix;
      linear.activation_bits = tensor.activation_bits;
    }
  }
  if (lm_head_.values == nullptr) lm_head_ = embedding_;
}

ExecutorShape executor_shape(const ModelConfig& config, std::span<const StoredTensor> tensors) {
  ExecutorShape shape;
  shape.n_layers = config.n_layers;
  shape.n_embd = config.n_embd;
  shape.n_heads = config.n_heads;
  shape.n_kv_heads = config.n_kv_heads;
  shape.head_dim = config.head_dim;
  shape.n_ff = config.n_ff;
  shape.n_vocab = config.n_vocab;
  shape.rms_norm_eps = config.rms_norm_eps;
  for (const StoredTensor& tensor : tensors) {
    if (is_grouped(tensor.format) && tensor.activation_bits < 16) {
      shape.quantizes_activations = true;
    }
  }
  return shape;
}

}  // namespace flexq
