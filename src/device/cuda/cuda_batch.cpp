#include "device/cuda/cuda_batch.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/checked.h"
#include "device/workspace_carver.h"

namespace flexq {
namespace {

constexpr int64_t kFieldAlignment = 16;  // of every array: vector loads

struct Fields {
  int32_t* tokens = nullptr;        // (n_tokens)
  int32_t* positions = nullptr;     // (n_tokens)
  int32_t* sequences = nullptr;     // (n_tokens)
  float* cos = nullptr;             // (n_tokens, head_dim / 2)
  float* sin = nullptr;             // (n_tokens, head_dim / 2)
  int32_t* run_begins = nullptr;    // (n_runs + 1)
  int32_t* block_tables = nullptr;  // (n_runs, pages_per_sequence)
  int32_t* counters = nullptr;      // (n_runs, n_kv_heads)
};

CheckedSize carve_fields(const ExecutorShape& shape, int64_t n_tokens, int64_t n_runs,
                         uint8_t* base, Fields* fields) {
  Fields unused;
  Fields& out = fields != nullptr ? *fields : unused;
  WorkspaceCarver carver(base, kFieldAlignment);
  carver.take(out.tokens, 1, n_tokens);
  carver.take(out.positions, 1, n_tokens);
  carver.take(out.sequences, 1, n_tokens);
  carver.take(out.cos, n_tokens, shape.head_dim / 2);
  carver.take(out.sin, n_tokens, shape.head_dim / 2);
  carver.take(out.run_begins, 1, n_runs + 1);
  carver.take(out.block_tables, n_runs, shape.pages_per_sequence());
  carver.take(out.counters, n_runs, shape.n_kv_heads);
  return carver.used();
}

int32_t most_runs(const ExecutorShape& shape) {
  return std::min(shape.n_sequences, shape.chunk_tokens);
}

}  // namespace

int64_t cuda_batch_bytes(const ExecutorShape& shape) {
  const CheckedSize bytes =
      carve_fields(shape, shape.chunk_tokens, most_runs(shape), nullptr, nullptr);
  return bytes.valid() ? bytes.value() : std::numeric_limits<int64_t>::max();
}

Result<StagedBatch> stage_cuda_batch(const ExecutorShape& shape, const ForwardBatch& batch,
                                     uint8_t* host, const uint8_t* device) {
  const int32_t n = batch.n_tokens;
  int32_t n_runs = 0;
  for (int32_t t = 0; t < n; ++t)
    n_runs += t == 0 || batch.sequences[t] != batch.sequences[t - 1] ? 1 : 0;
  if (n < 1 || n > shape.chunk_tokens || n_runs > most_runs(shape)) {
    return Status::error(StatusCode::kInternal,
                         "forward pass of %d tokens in %d runs, expected 1 to %d in at most %d", n,
                         n_runs, shape.chunk_tokens, most_runs(shape));
  }
  Fields fields;
  StagedBatch staged;
  staged.n_bytes = carve_fields(shape, n, n_runs, host, &fields).value();
  const auto copy = [](auto* to, const auto* from, int64_t count) {
    memcpy(to, from, static_cast<size_t>(count) * sizeof(*to));
  };
  const int64_t half = shape.head_dim / 2;
  copy(fields.tokens, batch.tokens, n);
  copy(fields.positions, batch.positions, n);
  copy(fields.cos, batch.rope_cos, n * half);
  copy(fields.sin, batch.rope_sin, n * half);

  CudaBatch& out = staged.batch;
  int32_t run = -1;
  for (int32_t t = 0; t < n; ++t) {
    if (t == 0 || batch.sequences[t] != batch.sequences[t - 1]) {
      fields.run_begins[++run] = t;
      const int64_t pages = shape.pages_per_sequence();
      copy(fields.block_tables + run * pages, batch.block_tables + batch.sequences[t] * pages,
           pages);
    }
    fields.sequences[t] = run;
    out.longest_run = std::max(out.longest_run, t + 1 - fields.run_begins[run]);
    out.most_positions = std::max(out.most_positions, batch.positions[t] + 1);
  }
  fields.run_begins[n_runs] = n;
  while (out.n_first_singles < n_runs &&
         fields.run_begins[out.n_first_singles + 1] == out.n_first_singles + 1)
    ++out.n_first_singles;
  std::fill_n(fields.counters, int64_t{n_runs} * shape.n_kv_heads, 0);

  const auto on_device = [&](const auto* field) {
    return reinterpret_cast<decltype(field)>(device +
                                             (reinterpret_cast<const uint8_t*>(field) - host));
  };
  out.n_tokens = n;
  out.n_runs = n_runs;
  out.positions = on_device(fields.positions);
  out.sequences = on_device(fields.sequences);
  out.cos = on_device(fields.cos);
  out.sin = on_device(fields.sin);
  out.run_begins = on_device(fields.run_begins);
  // Written by kernels, unlike the rest.
  out.counters = reinterpret_cast<int32_t*>(
      const_cast<uint8_t*>(device) + (reinterpret_cast<const uint8_t*>(fields.counters) - host));
  staged.tokens = on_device(fields.tokens);
  staged.block_tables = on_device(fields.block_tables);
  return staged;
}

}  // namespace flexq
