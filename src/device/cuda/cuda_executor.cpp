#include "device/cuda/cuda_executor.h"

#include <algorithm>
#include <cstring>

#include "device/cuda/cuda_tensor.h"
#include "kernels/cuda/linear_select.h"

namespace flexq {
namespace {

// Bits that a linear's input is quantized to; 16: it stays fp32.
int32_t input_bits(const DeviceLinear& linear) {
  return is_grouped(linear.weight.format) ? linear.activation_bits : 16;
}

CudaRows rows_from(CudaRows rows, int64_t first) {
  return {rows.data + first * rows.stride, rows.stride};
}

}  // namespace

Result<std::unique_ptr<Executor>> CudaExecutor::create(std::shared_ptr<CudaSession> session,
                                                       const ExecutorShape& shape,
                                                       std::span<uint8_t> workspace,
                                                       std::span<uint8_t> pages) {
  std::unique_ptr<CudaExecutor> executor(
      new CudaExecutor(std::move(session), shape, workspace, pages));
  CudaExecutor& made = *executor;
  FLEXQ_ASSIGN_OR_RETURN(const int64_t needed,
                         carve_cuda_workspace(shape, workspace.data(), &made.buffers_));
  if (static_cast<int64_t>(workspace.size()) < needed) {
    return Status::error(StatusCode::kInvalidArgument, "workspace: expected %lld bytes, found %lld",
                         static_cast<long long>(needed), static_cast<long long>(workspace.size()));
  }
  FLEXQ_ASSIGN_OR_RETURN(const int64_t host_bytes,
                         carve_cuda_host_workspace(shape, nullptr, nullptr));
  FLEXQ_ASSIGN_OR_RETURN(made.host_memory_,
                         PinnedBuffer::allocate(made.session_, host_bytes, "pinned results"));
  FLEXQ_RETURN_IF_ERROR(
      carve_cuda_host_workspace(shape, made.host_memory_.data(), &made.host_).status());
  FLEXQ_ASSIGN_OR_RETURN(made.batch_copied_, CudaEvent::create(made.session_));
  FLEXQ_ASSIGN_OR_RETURN(made.rows_copied_, CudaEvent::create(made.session_));
  FLEXQ_ASSIGN_OR_RETURN(made.stream_, CudaStream::create(made.session_));
  made.launch_ = made.session_->launch_on(made.stream_.get());
  made.fetched_logits_.resize(static_cast<size_t>(shape.n_outputs));
  made.fetched_hidden_.resize(static_cast<size_t>(shape.n_outputs));
  return std::unique_ptr<Executor>(std::move(executor));
}

Status CudaExecutor::to_device(void* to, const void* from, int64_t bytes) {
  return check(session_->runtime().memcpy_async(to, from, static_cast<size_t>(bytes),
                                                cudaMemcpyHostToDevice, stream_.get()),
               "copying to the device");
}

Status CudaExecutor::to_host(void* to, const void* from, int64_t bytes) {
  FLEXQ_RETURN_IF_ERROR(
      check(session_->runtime().memcpy_async(to, from, static_cast<size_t>(bytes),
                                             cudaMemcpyDeviceToHost, stream_.get()),
            "copying from the device"));
  return stream_.synchronize("forward pass");
}

Status CudaExecutor::begin(const ForwardBatch& batch) {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  std::fill(fetched_logits_.begin(), fetched_logits_.end(), uint8_t{0});
  std::fill(fetched_hidden_.begin(), fetched_hidden_.end(), uint8_t{0});
  // The last batch may still be on its way; an event that was never recorded is done.
  FLEXQ_RETURN_IF_ERROR(batch_copied_.synchronize("forward pass"));
  FLEXQ_ASSIGN_OR_RETURN(staged_, stage_cuda_batch(shape_, batch, host_.batch, buffers_.batch));
  FLEXQ_RETURN_IF_ERROR(to_device(buffers_.batch, host_.batch, staged_.n_bytes));
  return batch_copied_.record(stream_);
}

Status CudaExecutor::embed(const DeviceMatrix& embedding) {
  return check(cuda_embed(launch_, cuda_matrix(embedding), staged_.tokens, staged_.batch.n_tokens,
                          buffers_.x),
               "embedding");
}

CudaKv CudaExecutor::kv_of(int32_t layer) const {
  CudaKv kv;
  kv.pages = pages_.data();
  kv.page_bytes = page_bytes(shape_);
  kv.head_bytes = kv_head_bytes(shape_);
  kv.layer_offset = int64_t{layer} * 2 * shape_.n_kv_heads * kv.head_bytes;
  kv.n_kv_heads = shape_.n_kv_heads;
  kv.head_dim = shape_.head_dim;
  kv.page_tokens = kPageTokens;
  kv.int8 = shape_.kv_type == KvType::kI8;
  kv.block_tables = staged_.block_tables;
  kv.pages_per_sequence = shape_.pages_per_sequence();
  return kv;
}

CudaQuantized CudaExecutor::codes_for(const DeviceLinear& linear) const {
  CudaQuantized codes = buffers_.codes;
  codes.order = codes_order(launch_.sm, cuda_matrix(linear.weight).family, staged_.batch.n_tokens);
  return codes;
}

Status CudaExecutor::normalize(const float* norm, const DeviceLinear& linear, Input& input) {
  const int32_t n = staged_.batch.n_tokens;
  const int32_t bits = input_bits(linear);
  if (bits == 16) {
    input.rows = buffers_.normed;
    if (input.normed) return Status();
    input.normed = true;
    return check(cuda_rms_norm(launch_, buffers_.x, nullptr, norm, shape_.n_embd,
                               shape_.rms_norm_eps, n, buffers_.normed),
                 "rms norm");
  }
  const CudaQuantized codes = codes_for(linear);
  if (input.bits == bits && input.order == codes.order) return Status();
  input.bits = bits;
  input.order = codes.order;
  return check(cuda_rms_norm_quantize(launch_, buffers_.x, norm, shape_.n_embd, shape_.rms_norm_eps,
                                      bits, n, codes),
               "rms norm and quantization");
}

Status CudaExecutor::multiply(const DeviceLinear& linear, CudaRows rows, CudaStore store,
                              CudaRows out) {
  const CudaMatrix w = cuda_matrix(linear.weight);
  const int32_t bits = input_bits(linear);
  const int32_t n = staged_.batch.n_tokens;
  if (bits == 16) {
    return check(cuda_linear_float(launch_, w, rows, n, linear.bias, store, out, buffers_.scratch),
                 "linear layer");
  }
  const CudaLinearPart part = {w, linear.bias, out};
  return check(
      cuda_linear_int(launch_, {&part, 1}, codes_for(linear), bits, n, store, buffers_.scratch),
      "linear layer");
}

Status CudaExecutor::attention_in(const DeviceLayer& layer, int32_t layer_index) {
  const DeviceLinear* linears[] = {&layer.q, &layer.k, &layer.v};
  const CudaRows outputs[] = {buffers_.q, buffers_.k, buffers_.v};
  Input input;
  for (int i = 0; i < 3; ++i) {
    FLEXQ_RETURN_IF_ERROR(normalize(layer.attention_norm, *linears[i], input));
    FLEXQ_RETURN_IF_ERROR(multiply(*linears[i], input.rows, CudaStore::kSet, outputs[i]));
  }
  return check(cuda_rope_store(launch_, staged_.batch, kv_of(layer_index), shape_.n_heads,
                               buffers_.q, buffers_.k, buffers_.v),
               "rotation and KV cache");
}

Status CudaExecutor::attention(int32_t layer_index) {
  return check(cuda_attention(launch_, staged_.batch, kv_of(layer_index), shape_.n_heads,
                              buffers_.q, buffers_.attended, buffers_.scratch),
               "attention");
}

Status CudaExecutor::attention_out(const DeviceLayer& layer) {
  const int32_t bits = input_bits(layer.o);
  if (bits < 16) {
    const int64_t width = int64_t{shape_.n_heads} * shape_.head_dim;
    FLEXQ_RETURN_IF_ERROR(check(cuda_quantize(launch_, buffers_.attended, width, bits,
                                              staged_.batch.n_tokens, codes_for(layer.o)),
                                "quantization"));
  }
  return multiply(layer.o, buffers_.attended, CudaStore::kAdd, buffers_.x);
}

Status CudaExecutor::ffn_in(const DeviceLayer& layer) {
  Input input;
  FLEXQ_RETURN_IF_ERROR(normalize(layer.ffn_norm, layer.gate, input));
  FLEXQ_RETURN_IF_ERROR(multiply(layer.gate, input.rows, CudaStore::kSet, buffers_.gate));
  FLEXQ_RETURN_IF_ERROR(normalize(layer.ffn_norm, layer.up, input));
  return multiply(layer.up, input.rows, CudaStore::kSet, buffers_.up);
}

// silu(gate) * up belongs to the step before in the interface; here it meets its quantization.
Status CudaExecutor::ffn_out(const DeviceLayer& layer) {
  const int32_t bits = input_bits(layer.down);
  const int32_t n = staged_.batch.n_tokens;
  FLEXQ_RETURN_IF_ERROR(
      check(bits < 16 ? cuda_silu_mul_quantize(launch_, buffers_.gate, buffers_.up, shape_.n_ff,
                                               bits, n, codes_for(layer.down))
                      : cuda_silu_mul(launch_, buffers_.gate, buffers_.up, shape_.n_ff, n),
            "silu"));
  return multiply(layer.down, buffers_.gate, CudaStore::kAdd, buffers_.x);
}

Status CudaExecutor::final_norm(const float* norm, std::span<const int32_t> token_rows,
                                int32_t row_begin) {
  if (token_rows.empty()) return Status();
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  const auto n_rows = static_cast<int64_t>(token_rows.size());
  bool consecutive = true;  // as in every decode step: no list is needed
  for (size_t i = 1; i < token_rows.size(); ++i)
    consecutive = consecutive && token_rows[i] == token_rows[i - 1] + 1;
  CudaRows x = buffers_.x;
  if (consecutive) {
    x = rows_from(x, token_rows.front());
  } else {
    FLEXQ_RETURN_IF_ERROR(rows_copied_.synchronize("forward pass"));
    memcpy(host_.rows, token_rows.data(), token_rows.size_bytes());
    FLEXQ_RETURN_IF_ERROR(
        to_device(buffers_.rows, host_.rows, static_cast<int64_t>(token_rows.size_bytes())));
    FLEXQ_RETURN_IF_ERROR(rows_copied_.record(stream_));
  }
  return check(cuda_rms_norm(launch_, x, consecutive ? nullptr : buffers_.rows, norm, shape_.n_embd,
                             shape_.rms_norm_eps, n_rows, rows_from(buffers_.hidden, row_begin)),
               "final norm");
}

Status CudaExecutor::logits(const DeviceMatrix& lm_head, int32_t hidden_begin, int32_t logits_begin,
                            int32_t n_rows) {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  return check(
      cuda_linear_float(launch_, cuda_matrix(lm_head), rows_from(buffers_.hidden, hidden_begin),
                        n_rows, nullptr, CudaStore::kSet, rows_from(buffers_.logits, logits_begin),
                        buffers_.scratch),
      "lm_head");
}

Result<int32_t> CudaExecutor::find_nonfinite(int32_t n_rows, bool with_hidden) {
  if (n_rows == 0) return -1;
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  // The flags of the logits' rows, and behind them those of the hidden ones.
  FLEXQ_RETURN_IF_ERROR(
      check(cuda_find_nonfinite(launch_, buffers_.logits, shape_.n_vocab, n_rows, buffers_.flags),
            "finite numbers"));
  if (with_hidden) {
    FLEXQ_RETURN_IF_ERROR(check(cuda_find_nonfinite(launch_, buffers_.hidden, shape_.n_embd, n_rows,
                                                    buffers_.flags + n_rows),
                                "finite numbers"));
  }
  const int32_t n_flags = with_hidden ? 2 * n_rows : n_rows;
  FLEXQ_RETURN_IF_ERROR(
      to_host(host_.flags, buffers_.flags, int64_t{n_flags} * int64_t{sizeof(int32_t)}));
  for (int32_t row = 0; row < n_rows; ++row) {
    if (host_.flags[row] != 0 || (with_hidden && host_.flags[n_rows + row] != 0)) return row;
  }
  return -1;
}

Status CudaExecutor::log_probs(std::span<const int32_t> tokens, float* log_probs) {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  const auto bytes = static_cast<int64_t>(tokens.size_bytes());
  memcpy(host_.targets, tokens.data(), tokens.size_bytes());
  FLEXQ_RETURN_IF_ERROR(to_device(buffers_.targets, host_.targets, bytes));
  FLEXQ_RETURN_IF_ERROR(
      check(cuda_log_probs(launch_, buffers_.logits, shape_.n_vocab, buffers_.targets,
                           static_cast<int64_t>(tokens.size()), buffers_.log_probs),
            "log probabilities"));
  FLEXQ_RETURN_IF_ERROR(to_host(host_.log_probs, buffers_.log_probs, bytes));
  std::copy_n(host_.log_probs, tokens.size(), log_probs);
  return Status();
}

Result<DeviceSample> CudaExecutor::sample(int32_t row, const DeviceSampling& sampling) {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  CudaSampling params;
  params.temperature = sampling.temperature;
  params.top_k = sampling.top_k;
  params.top_p = sampling.top_p;
  params.min_p = sampling.min_p;
  params.uniform = sampling.uniform;
  FLEXQ_RETURN_IF_ERROR(
      check(cuda_sample(launch_, rows_from(buffers_.logits, row).data, shape_.n_vocab, params,
                        buffers_.sample, buffers_.scratch),
            "sampling"));
  FLEXQ_RETURN_IF_ERROR(to_host(host_.sample, buffers_.sample, sizeof(CudaSample)));
  if (host_.sample->nonfinite != 0) {
    return Status::error(StatusCode::kNonFinite,
                         "sampling: expected finite logits, found NaN or infinity");
  }
  return DeviceSample{host_.sample->token, host_.sample->log_prob};
}

Result<const float*> CudaExecutor::logits_row(int32_t row) {
  float* out = host_.logits + int64_t{row} * shape_.n_vocab;
  uint8_t& fetched = fetched_logits_[static_cast<size_t>(row)];
  if (fetched == 0) {
    FLEXQ_RETURN_IF_ERROR(session_->enter());
    FLEXQ_RETURN_IF_ERROR(to_host(out, rows_from(buffers_.logits, row).data,
                                  shape_.n_vocab * int64_t{sizeof(float)}));
    fetched = 1;
  }
  return out;
}

Result<const float*> CudaExecutor::hidden_row(int32_t row) {
  float* out = host_.hidden + int64_t{row} * shape_.n_embd;
  uint8_t& fetched = fetched_hidden_[static_cast<size_t>(row)];
  if (fetched == 0) {
    FLEXQ_RETURN_IF_ERROR(session_->enter());
    FLEXQ_RETURN_IF_ERROR(
        to_host(out, rows_from(buffers_.hidden, row).data, shape_.n_embd * int64_t{sizeof(float)}));
    fetched = 1;
  }
  return out;
}

Status CudaExecutor::finish() {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  return stream_.synchronize("forward pass");
}

Status CudaExecutor::copy_page(int32_t from, int32_t to) {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  const int64_t bytes = page_bytes(shape_);
  return check(session_->runtime().memcpy_async(
                   pages_.data() + to * bytes, pages_.data() + from * bytes,
                   static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream_.get()),
               "copying a page");
}

Status CudaExecutor::poison_workspace() {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  // Every float becomes a NaN.
  return check(
      session_->runtime().memset_async(workspace_.data(), 0xff, workspace_.size(), stream_.get()),
      "poisoning the workspace");
}

}  // namespace flexq
