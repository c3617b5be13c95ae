#include "device/cpu/cpu_executor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"

namespace flexq {
namespace {

constexpr int64_t kBlockRows = 16;  // rows that a task may not split: a unit of the packed layout
// Tasks per thread: enough to even out threads that were interrupted, few enough to claim cheaply.
constexpr int64_t kTasksPerThread = 4;

DenseType dense_type(WeightFormat format) {
  return format == WeightFormat::kF32   ? DenseType::kF32
         : format == WeightFormat::kF16 ? DenseType::kF16
                                        : DenseType::kBF16;
}

int64_t block_count(const DeviceLinear& linear) {
  return ceil_div(linear.weight.rows, kBlockRows);
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
      pool_(pool) {}

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

void CpuExecutor::quantize(Input& input, int32_t bits) {
  if (bits == 16 || bits == input.quantized_bits) return;
  const int64_t groups = ceil_div(input.width, kGroupSize);
  pool_.parallel_for(batch_.n_tokens, [&](int64_t t, int) {
    kernels_.quantize_row(input.rows + t * input.width, input.width, bits,
                          buffers_.codes + t * groups * kGroupSize,
                          buffers_.code_scales + t * groups, buffers_.code_sums + t * groups);
  });
  input.quantized_bits = bits;
}

void CpuExecutor::for_blocks(int64_t n_blocks, FunctionRef<void(int64_t, int64_t)> body) {
  const int64_t per_task =
      std::max<int64_t>(1, ceil_div(n_blocks, pool_.n_threads() * kTasksPerThread));
  pool_.parallel_for(ceil_div(n_blocks, per_task), [&](int64_t task, int) {
    body(task * per_task, std::min(n_blocks, (task + 1) * per_task));
  });
}

void CpuExecutor::apply(const DeviceLinear& linear, const Input& input, int64_t block_begin,
                        int64_t block_end, float* out) const {
  const DeviceMatrix& w = linear.weight;
  const int64_t row_begin = block_begin * kBlockRows;
  const int64_t row_end = std::min(w.rows, block_end * kBlockRows);
  if (w.format == WeightFormat::kInt6Group) {
    PackedW6 packed;
    packed.codes = w.values;
    packed.scales = reinterpret_cast<const uint16_t*>(w.scales);
    packed.scale_multiplier = w.scale_multiplier;
    packed.n_rows = w.rows;
    packed.n_cols = w.cols;
    if (linear.activation_bits < 16) {
      const QuantizedRows rows{buffers_.codes, buffers_.code_scales, buffers_.code_sums};
      kernels_.linear_w6_int8(packed, rows, batch_.n_tokens, block_begin, block_end, out, w.rows);
    } else {
      kernels_.linear_w6_f32(packed, input.rows, input.width, batch_.n_tokens, block_begin,
                             block_end, out, w.rows);
    }
  } else {
    kernels_.linear_dense(w.values, dense_type(w.format), w.cols, input.rows, input.width,
                          batch_.n_tokens, row_begin, row_end, out, w.rows);
  }
  if (linear.bias == nullptr) return;
  for (int32_t t = 0; t < batch_.n_tokens; ++t) {
    kernels_.add(out + t * w.rows + row_begin, linear.bias + row_begin, row_end - row_begin);
  }
}

void CpuExecutor::add_rows(const DeviceLinear& linear, int64_t block_begin, int64_t block_end,
                           const float* out, float* y) const {
  const int64_t n = linear.weight.rows;
  const int64_t row_begin = block_begin * kBlockRows;
  const int64_t n_rows = std::min(n, block_end * kBlockRows) - row_begin;
  for (int32_t t = 0; t < batch_.n_tokens; ++t) {
    kernels_.add(y + t * n + row_begin, out + t * n + row_begin, n_rows);
  }
}

void CpuExecutor::add_projection(const DeviceLinear& linear, Input input) {
  quantize(input, linear.activation_bits);
  for_blocks(block_count(linear), [&](int64_t begin, int64_t end) {
    apply(linear, input, begin, end, buffers_.projected);
    add_rows(linear, begin, end, buffers_.projected, buffers_.x);
  });
}

int64_t CpuExecutor::head_offset(int32_t layer, int32_t kv, int32_t head) const {
  return ((int64_t{layer} * 2 + kv) * shape_.n_kv_heads + head) * kPageTokens * shape_.head_dim *
         kv_element_bytes(shape_.kv_type);
}

uint8_t* CpuExecutor::cache_row(int32_t page, int64_t offset_bytes, int32_t slot) const {
  return pages_.data() + page * page_bytes_ + offset_bytes +
         int64_t{slot} * shape_.head_dim * kv_element_bytes(shape_.kv_type);
}

Status CpuExecutor::attention_in(const DeviceLayer& layer, int32_t layer_index) {
  normalize(layer.attention_norm);
  Input input{buffers_.normed, shape_.n_embd, 16};
  const DeviceLinear* linears[] = {&layer.q, &layer.k, &layer.v};
  float* outputs[] = {buffers_.q, buffers_.k, buffers_.v};
  // Layers that agree on the activation bits, usually all three, share one pass over the pool.
  for (int first = 0; first < 3;) {
    int last = first + 1;
    while (last < 3 && linears[last]->activation_bits == linears[first]->activation_bits)
      ++last;
    quantize(input, linears[first]->activation_bits);
    int64_t n_blocks = 0;
    for (int i = first; i < last; ++i)
      n_blocks += block_count(*linears[i]);
    for_blocks(n_blocks, [&](int64_t begin, int64_t end) {
      int64_t base = 0;  // first block of linears[i] in the joint numbering
      for (int i = first; i < last; ++i) {
        const int64_t count = block_count(*linears[i]);
        const int64_t from = std::max<int64_t>(begin - base, 0);
        const int64_t to = std::min(end - base, count);
        if (from < to) apply(*linears[i], input, from, to, outputs[i]);
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
        uint8_t* to = cache_row(page, head_offset(layer_index, kv, head), slot);
        if (shape_.kv_type == KvType::kF16) {
          kernels_.float_to_half(rows[kv], shape_.head_dim, reinterpret_cast<uint16_t*>(to));
        } else {
          memcpy(to, rows[kv], static_cast<size_t>(shape_.head_dim) * sizeof(float));
        }
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
    args.kv_type = shape_.kv_type == KvType::kF16 ? KvElement::kF16 : KvElement::kF32;
    kernels_.attention(args);
  });
  return Status();
}

Status CpuExecutor::attention_out(const DeviceLayer& layer) {
  add_projection(layer.o, {buffers_.attended, int64_t{shape_.n_heads} * shape_.head_dim, 16});
  return Status();
}

Status CpuExecutor::ffn_in(const DeviceLayer& layer) {
  normalize(layer.ffn_norm);
  Input input{buffers_.normed, shape_.n_embd, 16};
  const int64_t n = shape_.n_ff;
  const auto silu = [&](int64_t begin, int64_t end) {
    const int64_t row = begin * kBlockRows;
    const int64_t n_rows = std::min(n, end * kBlockRows) - row;
    for (int32_t t = 0; t < batch_.n_tokens; ++t) {
      float* gate = buffers_.gate + t * n + row;
      kernels_.silu_mul(gate, buffers_.up + t * n + row, n_rows, gate);
    }
  };
  if (layer.gate.activation_bits == layer.up.activation_bits) {
    quantize(input, layer.gate.activation_bits);
    for_blocks(block_count(layer.gate), [&](int64_t begin, int64_t end) {
      apply(layer.gate, input, begin, end, buffers_.gate);
      apply(layer.up, input, begin, end, buffers_.up);
      silu(begin, end);
    });
  } else {
    quantize(input, layer.gate.activation_bits);
    for_blocks(block_count(layer.gate), [&](int64_t begin, int64_t end) {
      apply(layer.gate, input, begin, end, buffers_.gate);
    });
    quantize(input, layer.up.activation_bits);
    for_blocks(block_count(layer.up), [&](int64_t begin, int64_t end) {
      apply(layer.up, input, begin, end, buffers_.up);
      silu(begin, end);
    });
  }
  return Status();
}

Status CpuExecutor::ffn_out(const DeviceLayer& layer) {
  add_projection(layer.down, {buffers_.gate, shape_.n_ff, 16});
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
  for_blocks(ceil_div(lm_head.rows, kBlockRows), [&](int64_t begin, int64_t end) {
    kernels_.linear_dense(lm_head.values, dense_type(lm_head.format), lm_head.cols,
                          buffers_.hidden + int64_t{hidden_begin} * shape_.n_embd, shape_.n_embd,
                          n_rows, begin * kBlockRows, std::min(lm_head.rows, end * kBlockRows),
                          buffers_.logits + int64_t{logits_begin} * lm_head.rows, lm_head.rows);
  });
  return Status();
}

const float* CpuExecutor::hidden_row(int32_t row) const {
  return buffers_.hidden + int64_t{row} * shape_.n_embd;
}

const float* CpuExecutor::logits_row(int32_t row) const {
  return buffers_.logits + int64_t{row} * shape_.n_vocab;
}

Status CpuExecutor::copy_page(int32_t from, int32_t to) {
  memcpy(pages_.data() + to * page_bytes_, pages_.data() + from * page_bytes_,
         static_cast<size_t>(page_bytes_));
  return Status();
}

void CpuExecutor::poison_workspace() {
  // Every float becomes a NaN; the page addresses are rewritten by begin().
  memset(buffers_.x, 0xff, static_cast<size_t>(workspace_bytes_));
}

}  // namespace flexq
