// The device interface: memory, weight packing and the steps of a LLaMA forward pass. A backend
// implements the steps with whatever fusion suits it; model/forward.cpp calls them in order and
// contains no device name. Knows kernels/ and base/ only.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "device/linear_runner.h"
#include "kernels/layout/weight_format.h"

namespace flexq {

// Sub-allocations in every device buffer start on a multiple of this.
inline constexpr int64_t kDeviceAlignment = 64;

// Tokens per KV page. 16 keeps forks and short sequences cheap; a page row is still whole cache
// lines for every head dimension of the published models.
inline constexpr int32_t kPageTokens = 16;

enum class DeviceKind : int32_t { kCpu = 0, kCuda = 1 };

// Storage type of keys and values.
enum class KvType : int32_t {
  kF16 = 0,
  kF32 = 1,
  kI8 = 2,  // symmetric, one fp16 scale per token and KV head
};
constexpr int64_t kv_element_bytes(KvType type) {
  return type == KvType::kF16 ? 2 : type == KvType::kF32 ? 4 : 1;
}

// Device memory; freed by the destructor. `data` is meaningful to the device that allocated it.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual uint8_t* data() = 0;
  virtual int64_t size() const = 0;
};

// A tensor as the device stores it: vectors (norms, biases) become fp32, everything else keeps its
// format; quantized linear layers are packed into the kernels' layouts.
struct DeviceTensorDesc {
  WeightFormat format = WeightFormat::kF32;
  bool is_vector = false;
  int64_t rows = 0;
  int64_t cols = 0;
  float scale_multiplier = 1.0f;  // of quantized formats
  int32_t activation_bits = 16;   // of linear layers; a device may choose its layout by it
};

// A matrix (rows outputs, cols inputs) in device memory.
struct DeviceMatrix {
  WeightFormat format = WeightFormat::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const uint8_t* values = nullptr;  // packed codes, or row-major dense elements
  const uint8_t* scales = nullptr;  // packed fp16 scales; (rows) fp32 scales of kInt8Row
  float scale_multiplier = 1.0f;
  int32_t layout = 0;  // which of the device's layouts, where it has several
};

struct DeviceLinear {
  DeviceMatrix weight;
  const float* bias = nullptr;   // (rows) or null
  int32_t activation_bits = 16;  // 6, 8: the input is quantized on the fly; 16: it is not
};

struct DeviceLayer {
  const float* attention_norm = nullptr;  // (n_embd)
  DeviceLinear q, k, v, o;
  const float* ffn_norm = nullptr;  // (n_embd)
  DeviceLinear gate, up, down;
};

// Dimensions of the model and sizes of one context: everything that buffer sizes depend on.
struct ExecutorShape {
  int32_t n_layers = 0;
  int32_t n_embd = 0;
  int32_t n_heads = 0;
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t n_ff = 0;
  int32_t n_vocab = 0;
  float rms_norm_eps = 0;
  bool quantizes_activations = false;  // some linear has activation_bits below 16
  // Unquantized weights may have activation_bits below 16: their inputs are rounded to what the
  // codes mean and multiplied in floating point. For calibration; CPU only.
  bool rounds_activations = false;
  KvType kv_type = KvType::kF16;
  int32_t context_tokens = 0;  // longest sequence
  int32_t n_sequences = 0;
  int32_t chunk_tokens = 0;  // most tokens per forward pass
  int32_t n_outputs = 0;     // rows of logits kept
  int32_t n_threads = 1;     // of the pool that will run it (CPU)

  int32_t pages_per_sequence() const { return (context_tokens + kPageTokens - 1) / kPageTokens; }
};

// K or V of one KV head in one page: (kPageTokens, head_dim) elements, for kI8 followed by the
// (kPageTokens) fp16 scales.
constexpr int64_t kv_head_bytes(const ExecutorShape& shape) {
  const int64_t scales = shape.kv_type == KvType::kI8 ? 2 : 0;
  return kPageTokens * (shape.head_dim * kv_element_bytes(shape.kv_type) + scales);
}

// Bytes of one KV page: all layers, K and V of every KV head.
//   offset(layer, kv, head) = ((layer * 2 + kv) * n_kv_heads + head) * kv_head_bytes
constexpr int64_t page_bytes(const ExecutorShape& shape) {
  return int64_t{2} * shape.n_layers * shape.n_kv_heads * kv_head_bytes(shape);
}

// The tokens of one forward pass. Tokens of one sequence follow each other in ascending position;
// their pages are allocated and, where shared, already copied.
struct ForwardBatch {
  int32_t n_tokens = 0;
  const int32_t* tokens = nullptr;        // (n_tokens)
  const int32_t* positions = nullptr;     // (n_tokens)
  const int32_t* sequences = nullptr;     // (n_tokens): row of block_tables
  const int32_t* block_tables = nullptr;  // (n_sequences, pages_per_sequence) page numbers
  const float* rope_cos = nullptr;        // (n_tokens, head_dim / 2)
  const float* rope_sin = nullptr;        // (n_tokens, head_dim / 2)
};

// How a token is drawn from a row of logits that nothing was added to; see runtime/sampler.h.
struct DeviceSampling {
  int32_t row = 0;
  float temperature = 0;  // 0: greedy
  int32_t top_k = 0;      // 0: off
  float top_p = 1;
  float min_p = 0;
  float uniform = 0;  // the random number of this position, in [0, 1)
};
struct DeviceSample {
  int32_t token = -1;  // -1: logits that are not finite, or none to draw
  float log_prob = 0;  // ln softmax(logits)[token]
};

// Where the inputs of linear layers lie in a layer: q, k and v share one, so do gate and up.
enum class InputPoint : int32_t { kAttention = 0, kAttentionOut, kFfn, kFfnOut };
inline constexpr int32_t kInputPoints = 4;

// Sees the inputs of linear layers before they are quantized, for calibration.
class InputObserver {
 public:
  virtual ~InputObserver() = default;
  // rows: (n_tokens, width), valid during the call.
  virtual void observe(InputPoint point, const float* rows, int64_t width, int32_t n_tokens) = 0;
};

// Runs forward passes in one workspace. One thread at a time. Methods are called in the order of
// model/forward.cpp between begin() and the next begin(), always with the weights of one model,
// which stay where they are; the residual stream x (n_tokens, n_embd) lives inside. A pass may be
// given up between two layers.
class Executor {
 public:
  virtual ~Executor() = default;

  virtual Status begin(const ForwardBatch& batch) = 0;
  // x[t] = embedding[token[t]]
  virtual Status embed(const DeviceMatrix& embedding) = 0;
  // q, k, v = W{q,k,v} quant(rms_norm(x)) + b; rotate q and k; store k and v in the cache.
  virtual Status attention_in(const DeviceLayer& layer, int32_t layer_index) = 0;
  // a = softmax(q k^T / sqrt(head_dim)) v, causal, over the sequence's cache.
  virtual Status attention(int32_t layer_index) = 0;
  // x += Wo quant(a) + b
  virtual Status attention_out(const DeviceLayer& layer) = 0;
  // h = silu(Wgate y + b) * (Wup y + b), y = quant(rms_norm(x))
  virtual Status ffn_in(const DeviceLayer& layer) = 0;
  // x += Wdown quant(h) + b
  virtual Status ffn_out(const DeviceLayer& layer) = 0;
  // hidden[row_begin + i] = rms_norm(x[token_rows[i]]), row_begin + n <= max(n_outputs, chunk)
  virtual Status final_norm(const float* norm, std::span<const int32_t> token_rows,
                            int32_t row_begin) = 0;
  // logits[logits_begin + i] = lm_head hidden[hidden_begin + i], i in [0, n_rows)
  virtual Status logits(const DeviceMatrix& lm_head, int32_t hidden_begin, int32_t logits_begin,
                        int32_t n_rows) = 0;

  // The first of the rows [0, n_rows) of logits, and of hidden too where that is asked for, that
  // holds NaN or infinity; -1 where there is none.
  virtual Result<int32_t> find_nonfinite(int32_t n_rows, bool with_hidden) = 0;
  // log_probs[i] = ln softmax(logits[i])[tokens[i]]
  virtual Status log_probs(std::span<const int32_t> tokens, float* log_probs) = 0;
  // Whether sample() is there: logits that lie in another memory are better sampled in place.
  virtual bool can_sample() const { return false; }
  // samples[i] = the token that the host's sampler would draw for samplings[i]; as many as there
  // are rows of logits at most.
  virtual Status sample(std::span<const DeviceSampling>, DeviceSample*) {
    return Status::error(StatusCode::kInternal, "this executor does not sample");
  }

  // Results as the host reads them, fetched where need be; valid until the next begin().
  virtual Result<const float*> hidden_row(int32_t row) = 0;  // (n_embd)
  virtual Result<const float*> logits_row(int32_t row) = 0;  // (n_vocab)

  // x of the current batch, (n_tokens, n_embd), to the host and back: to leave a pass between two
  // layers and to go on with it later. Where it is missing, so is observe_inputs().
  virtual Status save_residual(float*) {
    return Status::error(StatusCode::kInternal, "this executor does not give its residual stream");
  }
  virtual Status restore_residual(const float*) {
    return Status::error(StatusCode::kInternal, "this executor does not take a residual stream");
  }
  // Borrowed until the next call; null: nobody looks.
  virtual void observe_inputs(InputObserver*) {}

  // Returns when everything asked for so far is done, with the first error of it.
  virtual Status finish() { return Status(); }

  // Copies one KV page of the pool onto another (copy-on-write).
  virtual Status copy_page(int32_t from, int32_t to) = 0;
  // Copies one KV page to host memory and back, (page_bytes(shape)); returns when the bytes are
  // there. The layout is the one above on every device.
  virtual Status read_page(int32_t page, std::span<uint8_t> to) = 0;
  virtual Status write_page(int32_t page, std::span<const uint8_t> from) = 0;
  // Fills the workspace with NaN (tests: no step may read what was not written before).
  virtual Status poison_workspace() = 0;
};

struct DeviceDescription {
  DeviceKind kind = DeviceKind::kCpu;
  std::string id;       // "cpu"; other kinds with a number
  std::string name;     // the processor's
  std::string kernels;  // the kernel set in use
  int64_t total_memory_bytes = 0;
  int64_t free_memory_bytes = 0;
  int32_t n_threads = 0;  // CPU: usable processors
};

class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceDescription describe() const = 0;
  virtual bool supports(KvType type) const = 0;
  // Tokens per forward pass where nobody asks for a number: enough to make good use of the device.
  virtual int32_t default_chunk_tokens() const = 0;

  // `what` is a string literal for out-of-memory messages.
  virtual Result<std::unique_ptr<DeviceBuffer>> allocate(int64_t bytes, const char* what) = 0;

  // Bytes that a tensor takes in the weight buffer, a multiple of kDeviceAlignment.
  virtual Result<int64_t> tensor_bytes(const DeviceTensorDesc& desc) const = 0;
  // Packs rows [row_begin, row_begin + n_rows), row_begin a multiple of 16, into the tensor at
  // `destination`. values and scales as in WeightPiece. Safe from several threads for different
  // rows of a tensor.
  virtual Status store_rows(const DeviceTensorDesc& desc, int64_t row_begin, int64_t n_rows,
                            const uint8_t* values, const uint16_t* scales,
                            uint8_t* destination) = 0;
  // Returns when every row that was stored has arrived, and frees what storing needed.
  virtual Status finish_stores() { return Status(); }
  // Copies between two places of this device's memory; returns when the bytes are there.
  virtual Status copy(uint8_t* to, const uint8_t* from, int64_t bytes) = 0;
  // Where the parts of a stored tensor are, for kernels.
  virtual DeviceMatrix matrix_at(const DeviceTensorDesc& desc, const uint8_t* data) const = 0;

  // Bytes of the workspace of an executor of this shape: exact, checked arithmetic.
  virtual Result<int64_t> workspace_bytes(const ExecutorShape& shape) const = 0;
  // Borrows workspace (exactly workspace_bytes(shape) or more; less is refused), pages (a whole
  // number of page_bytes(shape)) and the pool; all must outlive the executor.
  virtual Result<std::unique_ptr<Executor>> create_executor(const ExecutorShape& shape,
                                                            std::span<uint8_t> workspace,
                                                            std::span<uint8_t> pages,
                                                            ThreadPool& pool) = 0;

  // For benchmarks: runners borrow the pool.
  virtual Result<std::unique_ptr<LinearRunner>> create_linear_runner(const LinearShape& shape,
                                                                     ThreadPool& pool) = 0;
  virtual Result<std::unique_ptr<ReadRunner>> create_read_runner(ThreadPool& pool) = 0;
  // Where there is no such library the status says why.
  virtual Result<std::unique_ptr<BaselineRunner>> create_baselines() = 0;
  virtual Result<TensorRates> tensor_rates() = 0;
};

}  // namespace flexq
