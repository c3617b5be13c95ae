// The weights of a model on a device: planned, loaded and packed from any WeightSource.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "device/device.h"
#include "model/model_config.h"
#include "model/weight_source.h"

namespace flexq {

// Where every tensor lies in the one buffer that holds all weights.
struct WeightPlan {
  std::vector<int64_t> offsets;  // per tensor, in the source's order
  int64_t total_bytes = 0;       // of the buffer
  int64_t decode_bytes = 0;      // read per decoded token: everything but the embedding, with the
                                 // lm_head (or the tied embedding in its place)
  int64_t n_parameters = 0;
  int64_t quantized_weights = 0;  // elements of quantized linear layers
  int64_t quantized_bytes = 0;    // their bytes in the buffer
  int64_t linear_weights = 0;     // elements of all linear layers
  int64_t linear_bytes = 0;
};

// The linear of a layer by its kind.
DeviceLinear& linear_of(DeviceLayer& layer, LinearKind kind);

DeviceTensorDesc device_tensor_desc(const StoredTensor& tensor);
Result<WeightPlan> plan_weights(const Device& device, std::span<const StoredTensor> tensors);

// Progress of a load in decoded bytes; true cancels.
using LoadProgress = FunctionRef<bool(int64_t done_bytes, int64_t total_bytes)>;

// How long loading took, all threads together.
struct LoadTimes {
  ReadTimes read;
  int64_t store_ns = 0;  // packing, and copying to a device that has its own memory
};

// Immutable after load() and shareable between threads.
class LlamaModel {
 public:
  // Reads every piece of the source (verifying it on the way) into device memory, in parallel.
  // kCancelled when progress says so.
  static Result<std::unique_ptr<LlamaModel>> load(WeightSource& source,
                                                  std::shared_ptr<Device> device, ThreadPool& pool,
                                                  LoadProgress progress);

  const ModelConfig& config() const { return config_; }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const WeightPlan& plan() const { return plan_; }
  const LoadTimes& load_times() const { return load_times_; }
  Device& device() const { return *device_; }

  const DeviceMatrix& embedding() const { return embedding_; }
  const std::vector<DeviceLayer>& layers() const { return layers_; }
  const float* final_norm() const { return final_norm_; }  // (n_embd)
  // (n_vocab, n_embd); the embedding where they are tied.
  const DeviceMatrix& lm_head() const { return lm_head_; }

 private:
  LlamaModel() = default;
  Status read_pieces(WeightSource& source, ThreadPool& pool, LoadProgress progress);
  void bind_tensors();

  ModelConfig config_;
  std::vector<StoredTensor> tensors_;
  WeightPlan plan_;
  LoadTimes load_times_;
  std::shared_ptr<Device> device_;
  std::unique_ptr<DeviceBuffer> weights_;
  DeviceMatrix embedding_;
  std::vector<DeviceLayer> layers_;
  const float* final_norm_ = nullptr;
  DeviceMatrix lm_head_;
};

// The sizes of an executor for this model; the context's fields are left at zero.
ExecutorShape executor_shape(const ModelConfig& config, std::span<const StoredTensor> tensors);

}  // namespace flexq
