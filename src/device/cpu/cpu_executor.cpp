#include "device/cpu/cpu_executor.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "base/checked.h"

namespace flexq {
namespace {

KvElement kv_element(KvType type) {
  return type == KvType::kF16   ? KvElement::kF16
         : type == KvType::kF32 ? KvElement::kF32
                                : KvElement::kI8;
}

// ln softmax(logits)[token], summed in double in ascending order.
float log_probability(const float* logits, int32_t n_vocab, int32_t token) {
  const double largest = *std::max_element(logits, logits + n_vocab);
  double sum = 0;
  for (int32_t i = 0; i < n_vocab; ++i)
    sum += std::exp(logits[i] - largest);
  return static_cast<float>(logits[token] - largest - std::log(sum));
}

bool all_finite(const float* values, int64_t n) {
  // An exponent of all ones marks NaN and infinity; -ffast-math would be free to drop
  // std::isfinite.
  bool finite = true;
  for (int64_t i = 0; i < n; ++i)
    finite = finite && std::isfinite(values[i]);
  return finite;
}

}  // namespace

CpuExecutor::CpuExecutor(const CpuKernels& kernels, const ExecutorShape& shape,
                         const CpuWorkspace& buffers, int64_t workspace_bytes,
                         std::span<uint8_t> pages, ThreadPool& pool)
    : kernels_(kernels),
      shape_(shape),
      buffers_(buffers),
      workspace_bytes_(workspace_bytes),
      pages_(pages),
      page_bytes_(page_bytes(shape)),
      pool_(pool),
      linear_(kernels, {buffers.codes, buffers.code_scales, buffers.code_sums, buffers.rounded},
              pool) {}

Status CpuExecutor::begin(const ForwardBatch& batch) {
  if (batch.n_tokens < 1 || batch.n_tokens > shape_.chunk_tokens) {
    return Status::error(StatusCode::kInternal, "forward pass of %d tokens, expected 1 to %d",
                         batch.n_tokens, shape_.chunk_tokens);
  }
  batch_ = batch;
  // Page numbers to addresses, for each sequence up to its last token of this batch.
  for (int32_t t = 0; t < batch.n_tokens; ++t) {
    const bool last = t + 1 == batch.n_tokens || batch.sequences[t + 1] != batch.sequences[t];
    if (!last) continue;
    const int64_t row = int64_t{batch.sequences[t]} * shape_.pages_per_sequence();
    for (int32_t i = 0; i <= batch.positions[t] / kPageTokens; ++i) {
      buffers_.pages[row + i] = pages_.data() + batch.block_tables[row + i] * page_bytes_;
    }
  }
  return Status();
}

Status CpuExecutor::embed(const DeviceMatrix& embedding) {
  const int64_t n = shape_.n_embd;
  pool_.parallel_for(batch_.n_tokens, [&](int64_t t, int) {
    const uint8_t* row = embedding.values + batch_.tokens[t] * n * element_bytes(embedding.format);
    float* x = buffers_.x + t * n;
    switch (embedding.format) {
      case WeightFormat::kF16:
        kernels_.half_to_float(reinterpret_cast<const uint16_t*>(row), n, x);
        break;
      case WeightFormat::kBF16:
        kernels_.bf16_to_float(reinterpret_cast<const uint16_t*>(row), n, x);
        break;
      case WeightFormat::kInt8Row: {
        const float scale = reinterpret_cast<const float*>(embedding.scales)[batch_.tokens[t]];
        const auto* codes = reinterpret_cast<const int8_t*>(row);
        for (int64_t i = 0; i < n; ++i)
          x[i] = static_cast<float>(codes[i]) * scale;
        break;
      }
      default:
        memcpy(x, row, static_cast<size_t>(n) * sizeof(float));
    }
  });
  return Status();
}

void CpuExecutor::normalize(const float* norm) {
  const int64_t n = shape_.n_embd;
  pool_.parallel_for(batch_.n_tokens, [&](int64_t t, int) {
    kernels_.rms_norm(buffers_.x + t * n, norm, n, shape_.rms_norm_eps, buffers_.normed + t * n);
  });
}

LinearInput CpuExecutor::input_at(InputPoint point, const float* rows, int64_t width) const {
  if (observer_ != nullptr) observer_->observe(point, rows, width, batch_.n_tokens);
  return {rows, width, batch_.n_tokens};
}

void CpuExecutor::add_projection(const DeviceLinear& linear, LinearInput input) {
  linear_.quantize(input, linear.activation_bits);
  linear_.for_blocks(CpuLinear::block_count(linear), [&](int64_t begin, int64_t end) {
    linear_.apply(linear, input, begin, end, buffers_.projected);
    linear_.add_rows(linear, batch_.n_tokens, begin, end, buffers_.projected, buffers_.x);
  });
}

int64_t CpuExecutor::head_offset(int32_t layer, int32_t kv, int32_t head) const {
  return ((int64_t{layer} * 2 + kv) * shape_.n_kv_heads + head) * kv_head_bytes(shape_);
}

void CpuExecutor::store_kv_row(const float* row, int32_t page, int64_t head_offset_bytes,
                               int32_t slot) {
  const int64_t n = shape_.head_dim;
  uint8_t* head = pages_.data() + page * page_bytes_ + head_offset_bytes;
  uint8_t* to = head + slot * n * kv_element_bytes(shape_.kv_type);
  switch (shape_.kv_type) {
    case KvType::kF16:
      kernels_.float_to_half(row, n, reinterpret_cast<uint16_t*>(to));
      break;
    case KvType::kF32:
      memcpy(to, row, static_cast<size_t>(n) * sizeof(float));
      break;
    case KvType::kI8:
      kernels_.quantize_kv_row(row, n, reinterpret_cast<int8_t*>(to),
                               reinterpret_cast<uint16_t*>(head + kPageTokens * n) + slot);
      break;
  }
}

Status CpuExecutor::attention_in(const DeviceLayer& layer, int32_t layer_index) {
  normalize(layer.attention_norm);
  LinearInput input = input_at(InputPoint::kAttention, buffers_.normed, shape_.n_embd);
  const DeviceLinear* linears[] = {&layer.q, &layer.k, &layer.v};
  float* outputs[] = {buffers_.q, buffers_.k, buffers_.v};
  // Layers that agree on the activation bits, usually all three, share one pass over the pool.
  for (int first = 0; first < 3;) {
    int last = first + 1;
    while (last < 3 && linears[last]->activation_bits == linears[first]->activation_bits)
      ++last;
    linear_.quantize(input, linears[first]->activation_bits);
    int64_t n_blocks = 0;
    for (int i = first; i < last; ++i)
      n_blocks += CpuLinear::block_count(*linears[i]);
    linear_.for_blocks(n_blocks, [&](int64_t begin, int64_t end) {
      int64_t base = 0;  // first block of linears[i] in the joint numbering
      for (int i = first; i < last; ++i) {
        const int64_t count = CpuLinear::block_count(*linears[i]);
        const int64_t from = std::max<int64_t>(begin - base, 0);
        const int64_t to = std::min(end - base, count);
        if (from < to) linear_.apply(*linears[i], input, from, to, outputs[i]);
        base += count;
      }
    });
    first = last;
  }

  const int64_t q_width = int64_t{shape_.n_heads} * shape_.head_dim;
  const int64_t kv_width = int64_t{shape_.n_kv_heads} * shape_.head_dim;
  pool_.parallel_for(batch_.n_tokens, [&](int64_t t, int) {
    const float* cos = batch_.rope_cos + t * (shape_.head_dim / 2);
    const float* sin = batch_.rope_sin + t * (shape_.head_dim / 2);
    float* k = buffers_.k + t * kv_width;
    const float* v = buffers_.v + t * kv_width;
    kernels_.rope(buffers_.q + t * q_width, cos, sin, shape_.n_heads, shape_.head_dim);
    kernels_.rope(k, cos, sin, shape_.n_kv_heads, shape_.head_dim);
    const int64_t table_row = int64_t{batch_.sequences[t]} * shape_.pages_per_sequence();
    const int32_t page = batch_.block_tables[table_row + batch_.positions[t] / kPageTokens];
    const int32_t slot = batch_.positions[t] % kPageTokens;
    for (int32_t head = 0; head < shape_.n_kv_heads; ++head) {
      const float* rows[] = {k + head * shape_.head_dim, v + head * shape_.head_dim};
      for (int32_t kv = 0; kv < 2; ++kv) {
        store_kv_row(rows[kv], page, head_offset(layer_index, kv, head), slot);
      }
    }
  });
  return Status();
}

Status CpuExecutor::attention(int32_t layer_index) {
  const int64_t heads_per_kv = shape_.n_heads / shape_.n_kv_heads;
  const int64_t q_width = int64_t{shape_.n_heads} * shape_.head_dim;
  const int64_t n_tasks = int64_t{batch_.n_tokens} * shape_.n_kv_heads;
  pool_.parallel_for(n_tasks, [&](int64_t task, int thread) {
    const int64_t t = task / shape_.n_kv_heads;
    const auto kv_head = static_cast<int32_t>(task % shape_.n_kv_heads);
    const int64_t q_offset = t * q_width + kv_head * heads_per_kv * shape_.head_dim;
    AttentionArgs args;
    args.q = buffers_.q + q_offset;
    args.out = buffers_.attended + q_offset;
    args.scores = buffers_.scores + thread * score_stride(shape_);
    args.pages = buffers_.pages + int64_t{batch_.sequences[t]} * shape_.pages_per_sequence();
    args.k_offset_bytes = head_offset(layer_index, 0, kv_head);
    args.v_offset_bytes = head_offset(layer_index, 1, kv_head);
    args.page_tokens = kPageTokens;
    args.n_positions = batch_.positions[t] + 1;
    args.head_dim = shape_.head_dim;
    args.n_q = heads_per_kv;
    args.scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
    args.kv_type = kv_element(shape_.kv_type);
    kernels_.attention(args);
  });
  return Status();
}

Status CpuExecutor::attention_out(const DeviceLayer& layer) {
  add_projection(layer.o, input_at(InputPoint::kAttentionOut, buffers_.attended,
                                   int64_t{shape_.n_heads} * shape_.head_dim));
  return Status();
}

Status CpuExecutor::ffn_in(const DeviceLayer& layer) {
  normalize(layer.ffn_norm);
  LinearInput input = input_at(InputPoint::kFfn, buffers_.normed, shape_.n_embd);
  const int64_t n = shape_.n_ff;
  const auto silu = [&](int64_t begin, int64_t end) {
    const int64_t row = begin * kLinearBlockRows;
    const int64_t n_rows = std::min(n, end * kLinearBlockRows) - row;
    for (int32_t t = 0; t < batch_.n_tokens; ++t) {
      float* gate = buffers_.gate + t * n + row;
      kernels_.silu_mul(gate, buffers_.up + t * n + row, n_rows, gate);
    }
  };
  if (layer.gate.activation_bits == layer.up.activation_bits) {
    linear_.quantize(input, layer.gate.activation_bits);
    linear_.for_blocks(CpuLinear::block_count(layer.gate), [&](int64_t begin, int64_t end) {
      linear_.apply(layer.gate, input, begin, end, buffers_.gate);
      linear_.apply(layer.up, input, begin, end, buffers_.up);
      silu(begin, end);
    });
  } else {
    linear_.quantize(input, layer.gate.activation_bits);
    linear_.for_blocks(CpuLinear::block_count(layer.gate), [&](int64_t begin, int64_t end) {
      linear_.apply(layer.gate, input, begin, end, buffers_.gate);
    });
    linear_.quantize(input, layer.up.activation_bits);
    linear_.for_blocks(CpuLinear::block_count(layer.up), [&](int64_t begin, int64_t end) {
      linear_.apply(layer.up, input, begin, end, buffers_.up);
      silu(begin, end);
    });
  }
  return Status();
}

Status CpuExecutor::ffn_out(const DeviceLayer& layer) {
  add_projection(layer.down, input_at(InputPoint::kFfnOut, buffers_.gate, shape_.n_ff));
  return Status();
}

Status CpuExecutor::final_norm(const float* norm, std::span<const int32_t> token_rows,
                               int32_t row_begin) {
  const int64_t n = shape_.n_embd;
  pool_.parallel_for(static_cast<int64_t>(token_rows.size()), [&](int64_t i, int) {
    kernels_.rms_norm(buffers_.x + token_rows[static_cast<size_t>(i)] * n, norm, n,
                      shape_.rms_norm_eps, buffers_.hidden + (row_begin + i) * n);
  });
  return Status();
}

Status CpuExecutor::logits(const DeviceMatrix& lm_head, int32_t hidden_begin, int32_t logits_begin,
                           int32_t n_rows) {
  const LinearInput input{buffers_.hidden + int64_t{hidden_begin} * shape_.n_embd, shape_.n_embd,
                          n_rows};
  float* out = buffers_.logits + int64_t{logits_begin} * lm_head.rows;
  linear_.for_blocks(ceil_div(lm_head.rows, kLinearBlockRows), [&](int64_t begin, int64_t end) {
    linear_.apply_matrix(lm_head, input, begin, end, out);
  });
  return Status();
}

Result<int32_t> CpuExecutor::find_nonfinite(int32_t n_rows, bool with_hidden) {
  std::atomic<int32_t> first{n_rows};
  pool_.parallel_for(n_rows, [&](int64_t task, int) {
    const auto row = static_cast<int32_t>(task);
    if (all_finite(logits_of(row), shape_.n_vocab) &&
        (!with_hidden || all_finite(hidden(row), shape_.n_embd))) {
      return;
    }
    int32_t least = first.load();
    while (row < least && !first.compare_exchange_weak(least, row)) {
    }
  });
  return first.load() == n_rows ? -1 : first.load();
}

Status CpuExecutor::log_probs(std::span<const int32_t> tokens, float* log_probs) {
  pool_.parallel_for(static_cast<int64_t>(tokens.size()), [&](int64_t row, int) {
    log_probs[row] = log_probability(logits_of(static_cast<int32_t>(row)), shape_.n_vocab,
                                     tokens[static_cast<size_t>(row)]);
  });
  return Status();
}

Status CpuExecutor::save_residual(float* rows) {
  memcpy(rows, buffers_.x, static_cast<size_t>(batch_.n_tokens) * shape_.n_embd * sizeof(float));
  return Status();
}

Status CpuExecutor::restore_residual(const float* rows) {
  memcpy(buffers_.x, rows, static_cast<size_t>(batch_.n_tokens) * shape_.n_embd * sizeof(float));
  return Status();
}

Status CpuExecutor::copy_page(int32_t from, int32_t to) {
  memcpy(pages_.data() + to * page_bytes_, pages_.data() + from * page_bytes_,
         static_cast<size_t>(page_bytes_));
  return Status();
}

Status CpuExecutor::read_page(int32_t page, std::span<uint8_t> to) {
  memcpy(to.data(), pages_.data() + page * page_bytes_, static_cast<size_t>(page_bytes_));
  return Status();
}

Status CpuExecutor::write_page(int32_t page, std::span<const uint8_t> from) {
  memcpy(pages_.data() + page * page_bytes_, from.data(), static_cast<size_t>(page_bytes_));
  return Status();
}

Status CpuExecutor::poison_workspace() {
  // Every float becomes a NaN; the page addresses are rewritten by begin().
  memset(buffers_.x, 0xff, static_cast<size_t>(workspace_bytes_));
  return Status();
}

}  // namespace flexq
