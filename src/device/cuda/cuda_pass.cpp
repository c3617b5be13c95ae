#include "device/cuda/cuda_pass.h"

#include "device/cuda/cuda_tensor.h"
#include "kernels/cuda/attention_decode_shape.h"
#include "kernels/cuda/fused_linear_shape.h"

namespace flexq {
namespace {

// Bits that a linear's input is quantized to; 16: it stays fp32.
int32_t input_bits(const DeviceLinear& linear) {
  return is_grouped(linear.weight.format) ? linear.activation_bits : 16;
}

// Whether two linears can share a launch, given that they share their input.
bool joins(const DeviceLinear& a, const DeviceLinear& b) {
  return a.weight.format == b.weight.format && a.weight.layout == b.weight.layout &&
         input_bits(a) == input_bits(b);
}

}  // namespace

Status CudaPass::embed(const DeviceMatrix& embedding) const {
  return check(cuda_embed(launch_, cuda_matrix(embedding), staged_.tokens, staged_.batch.n_tokens,
                          buffers_.x),
               "embedding");
}

CudaKv CudaPass::kv_of(int32_t layer) const {
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

Status CudaPass::multiply_float(const CudaRows& rows, const Output& output, CudaStore store) const {
  return check(
      cuda_linear_float(launch_, cuda_matrix(output.linear->weight), rows, staged_.batch.n_tokens,
                        output.linear->bias, store, output.rows, nullptr),
      "linear layer");
}

Status CudaPass::multiply_joint(const Source& source, std::span<const Output> outputs,
                                CudaStore store) const {
  const int32_t n = staged_.batch.n_tokens;
  const int32_t bits = input_bits(*outputs.front().linear);
  CudaLinearPart parts[kMaxLinearParts];
  for (size_t i = 0; i < outputs.size(); ++i)
    parts[i] = {cuda_matrix(outputs[i].linear->weight), outputs[i].linear->bias, outputs[i].rows};
  const std::span<const CudaLinearPart> joint(parts, outputs.size());
  const FusedProblem problem = {launch_.sm, parts[0].w.family, weight_bits(parts[0].w.format),
                                source.width, n};
  if (fuses_quantization(problem, source.norm != nullptr)) {
    const CudaSource row = {source.rows.data, source.norm, shape_.rms_norm_eps};
    return check(cuda_linear_fused(launch_, joint, row, bits, store), "linear layer");
  }
  CudaQuantized codes = buffers_.codes;
  codes.order = fuses_linear(problem) ? CodesOrder::kNatural
                                      : codes_order(linear_problem(launch_, joint, n, store));
  FLEXQ_RETURN_IF_ERROR(quantize(source, bits, codes));
  return check(fuses_linear(problem)
                   ? cuda_linear_fused(launch_, joint, codes, n, store)
                   : cuda_linear_int(launch_, joint, codes, bits, n, store, buffers_.scratch),
               "linear layer");
}

Status CudaPass::quantize(const Source& source, int32_t bits, const CudaQuantized& codes) const {
  const int32_t n = staged_.batch.n_tokens;
  if (source.up.data != nullptr) {
    return check(
        cuda_silu_mul_quantize(launch_, source.rows, source.up, source.width, bits, n, codes),
        "silu and quantization");
  }
  return check(source.norm != nullptr
                   ? cuda_rms_norm_quantize(launch_, source.rows, source.norm, source.width,
                                            shape_.rms_norm_eps, bits, n, codes)
                   : cuda_quantize(launch_, source.rows, source.width, bits, n, codes),
               "quantization");
}

Status CudaPass::multiply(const Source& source, std::span<const Output> outputs,
                          CudaStore store) const {
  const CudaStore each = store == CudaStore::kSiluMul ? CudaStore::kSet : store;
  CudaRows rows = source.rows;
  bool normed = false;
  for (size_t begin = 0, end = 0; begin < outputs.size(); begin = end) {
    const DeviceLinear& linear = *outputs[begin].linear;
    end = begin + 1;
    if (input_bits(linear) < 16) {
      while (end < outputs.size() && joins(linear, *outputs[end].linear))
        ++end;
      const bool all = end - begin == outputs.size();
      FLEXQ_RETURN_IF_ERROR(
          multiply_joint(source, outputs.subspan(begin, end - begin), all ? store : each));
      if (all) return Status();
      continue;
    }
    if (source.norm != nullptr && !normed) {
      normed = true;
      rows = buffers_.normed;
      FLEXQ_RETURN_IF_ERROR(
          check(cuda_rms_norm(launch_, source.rows, nullptr, source.norm, source.width,
                              shape_.rms_norm_eps, staged_.batch.n_tokens, rows, nullptr),
                "rms norm"));
    }
    FLEXQ_RETURN_IF_ERROR(multiply_float(rows, outputs[begin], each));
  }
  return store == CudaStore::kSiluMul ? silu_mul() : Status();
}

Status CudaPass::silu_mul() const {
  return check(
      cuda_silu_mul(launch_, buffers_.gate, buffers_.up, shape_.n_ff, staged_.batch.n_tokens),
      "silu");
}

Status CudaPass::attention_in(const DeviceLayer& layer, int32_t layer_index) const {
  const Output outputs[] = {{&layer.q, buffers_.q}, {&layer.k, buffers_.k}, {&layer.v, buffers_.v}};
  FLEXQ_RETURN_IF_ERROR(
      multiply({buffers_.x, layer.attention_norm, shape_.n_embd, {}}, outputs, CudaStore::kSet));
  if (attends_at_once()) return Status();
  return check(cuda_rope_store(launch_, staged_.batch, kv_of(layer_index), shape_.n_heads,
                               buffers_.q, buffers_.k, buffers_.v),
               "rotation and KV cache");
}

bool CudaPass::attends_at_once() const {
  return staged_.batch.longest_run == 1 &&
         fuses_attention(launch_.sm, staged_.batch.n_tokens, shape_.n_heads, shape_.n_kv_heads,
                         shape_.head_dim);
}

Status CudaPass::attention(int32_t layer_index) const {
  if (attends_at_once()) {
    return check(cuda_decode_attention(launch_, staged_.batch, kv_of(layer_index), shape_.n_heads,
                                       buffers_.q, buffers_.k, buffers_.v, buffers_.attended,
                                       buffers_.scratch),
                 "rotation, KV cache and attention");
  }
  return check(cuda_attention(launch_, staged_.batch, kv_of(layer_index), shape_.n_heads,
                              buffers_.q, buffers_.attended, buffers_.scratch),
               "attention");
}

Status CudaPass::attention_out(const DeviceLayer& layer) const {
  const int64_t width = int64_t{shape_.n_heads} * shape_.head_dim;
  const Output output = {&layer.o, buffers_.x};
  return multiply({buffers_.attended, nullptr, width, {}}, {&output, 1}, CudaStore::kAdd);
}

// With many tokens silu costs the linear layer more than it costs the quantizer to read gate and
// up: LLaMA-2-7B on an H200, 1024 tokens: 306 + 23 us against 224 without silu; a decode step of 64
// tokens: 8.15 ms against 7.98, because 192 rows at a time, which leave no multiprocessor with a
// second round, cannot be halved between gate and up.
bool CudaPass::joins_late(const DeviceLayer& layer) const {
  constexpr int32_t kManyTokens = 33;
  return staged_.batch.n_tokens >= kManyTokens && input_bits(layer.down) < 16;
}

Status CudaPass::ffn_in(const DeviceLayer& layer) const {
  const Output outputs[] = {{&layer.gate, buffers_.gate}, {&layer.up, buffers_.up}};
  return multiply({buffers_.x, layer.ffn_norm, shape_.n_embd, {}}, outputs,
                  joins_late(layer) ? CudaStore::kSet : CudaStore::kSiluMul);
}

Status CudaPass::ffn_out(const DeviceLayer& layer) const {
  const Output output = {&layer.down, buffers_.x};
  const CudaRows up = joins_late(layer) ? buffers_.up : CudaRows{};
  return multiply({buffers_.gate, nullptr, shape_.n_ff, up}, {&output, 1}, CudaStore::kAdd);
}

Status CudaPass::final_norm(const float* norm, const int32_t* rows, int32_t row_begin,
                            int64_t n_rows, int32_t hidden_begin, int32_t* nonfinite) const {
  return check(cuda_rms_norm(launch_, rows_from(buffers_.x, row_begin), rows, norm, shape_.n_embd,
                             shape_.rms_norm_eps, n_rows, rows_from(buffers_.hidden, hidden_begin),
                             nonfinite),
               "final norm");
}

Status CudaPass::logits(const DeviceMatrix& lm_head, int32_t hidden_begin, int32_t logits_begin,
                        int32_t n_rows, int32_t* nonfinite) const {
  return check(cuda_linear_float(
                   launch_, cuda_matrix(lm_head), rows_from(buffers_.hidden, hidden_begin), n_rows,
                   nullptr, CudaStore::kSet, rows_from(buffers_.logits, logits_begin), nonfinite),
               "lm_head");
}

Status CudaPass::flag_nonfinite(int32_t n_rows, bool with_hidden) const {
  const CudaRowsOfWidth searched[] = {{buffers_.logits, shape_.n_vocab},
                                      {buffers_.hidden, shape_.n_embd}};
  return check(
      cuda_find_nonfinite(launch_, std::span(searched).first(with_hidden ? 2 : 1), n_rows, flags_),
      "finite numbers");
}

}  // namespace flexq
