// Runs windows of text through a model layer by layer: memory for one layer's weights and for what
// the caller keeps between layers, whatever the size of the model. On the CPU, where unquantized
// weights can take quantized inputs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "model/llama_model.h"
#include "model/weight_source.h"
#include "quantize/precision_policy.h"

namespace flexq {

// What a run lost against the unquantized model over some targets.
struct LogitLoss {
  double kl_sum = 0;   // KL divergence of the logits, nats
  double nll_sum = 0;  // negative log likelihood of the text, nats
  // Rise of the negative log likelihood to expect over texts: LayerWalk::set_temperature().
  double expected_rise_sum = 0;
  int64_t n_targets = 0;

  void add(const LogitLoss& other);
  double kl() const { return kl_sum / static_cast<double>(n_targets); }
  double nll() const { return nll_sum / static_cast<double>(n_targets); }
  double expected_rise() const { return expected_rise_sum / static_cast<double>(n_targets); }
};

// One thread at a time.
class LayerWalk {
 public:
  // `source`: unquantized weights; its embedding, final norm and lm_head are what every run uses.
  // Borrows source and pool.
  static Result<std::unique_ptr<LayerWalk>> create(WeightSource& source, int32_t window_tokens,
                                                   ThreadPool& pool);

  // Floats of one window's residual stream, (window_tokens, n_embd).
  int64_t state_floats() const { return int64_t{shape_.chunk_tokens} * shape_.n_embd; }
  int32_t window_tokens() const { return shape_.chunk_tokens; }
  Executor& executor() { return *executor_; }

  // One layer of this source, or of another with the same architecture.
  Result<std::unique_ptr<LlamaModel>> load_layer(WeightSource& source, int32_t layer);

  // state = embeddings of the window. tokens: (window_tokens).
  Status embed(std::span<const int32_t> tokens, float* state);
  // Takes a state through the only layer of `layer`.
  Status run_layer(const LlamaModel& layer, const LayerBits& bits, float* state);

  // The likelihood of a text changes with every rounding, by far more than what is lost on average.
  // So losses are also told as the expectation of that change where the next token is drawn from
  // the unquantized model's own predictions, exponentiated by `inverse_temperature` to be as sure
  // of themselves as the text justifies: a model that is too sure of itself even gains from some
  // noise. 1 (the default): that is the KL divergence.
  void set_inverse_temperature(float inverse_temperature) {
    inverse_temperature_ = inverse_temperature;
  }
  // Adds to nll_sums[i] the negative log likelihood of the window's targets, every `row_stride`th
  // of them, with the logits of a state times inverse_temperatures[i].
  Status add_tempered_nll(std::span<const int32_t> tokens, const float* state, int32_t row_stride,
                          std::span<const float> inverse_temperatures, std::span<double> nll_sums);

  // Compares states behind the last layer with the unquantized model's, `reference`, on the logits
  // of the window's window_tokens - 1 targets, and adds to losses[i] what states[i] lost.
  // kNonFinite where logits are not finite.
  Status compare(std::span<const int32_t> tokens, const float* reference,
                 std::span<const float* const> states, std::span<LogitLoss> losses);

 private:
  LayerWalk() = default;
  Status begin(std::span<const int32_t> tokens, const float* state);
  // Logits of rows [begin, begin + n_rows) of a state.
  Status compute_logits(std::span<const int32_t> tokens, const float* state, int32_t begin,
                        int32_t n_rows);
  Status set_reference(int32_t n_rows);
  Status add_losses(std::span<const int32_t> targets, LogitLoss& loss);

  ThreadPool* pool_ = nullptr;
  std::shared_ptr<Device> device_;
  std::unique_ptr<LlamaModel> ends_;  // embedding, final norm, lm_head
  ExecutorShape shape_;
  std::unique_ptr<DeviceBuffer> workspace_;
  std::unique_ptr<DeviceBuffer> pages_;
  std::unique_ptr<Executor> executor_;
  std::vector<int32_t> positions_;    // (window_tokens): 0, 1, ...
  std::vector<int32_t> sequences_;    // (window_tokens): 0
  std::vector<int32_t> block_table_;  // (pages of a window): 0, 1, ...
  std::vector<float> rope_cos_;       // (window_tokens, head_dim / 2)
  std::vector<float> rope_sin_;

  // Of the rows being compared.
  float inverse_temperature_ = 1;
  HostBuffer reference_logits_;         // (kLossRows, n_vocab) fp32
  HostBuffer reference_probabilities_;  // likewise: their softmax
  HostBuffer expected_probabilities_;   // likewise: that of the tempered logits
  std::vector<double> reference_log_sums_;
  std::vector<double> row_kl_;
  std::vector<double> row_nll_;
  std::vector<double> row_expected_rise_;
};

}  // namespace flexq
