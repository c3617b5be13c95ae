#include "device/cuda/cuda_executor.h"

#include <algorithm>
#include <cstring>

#include "device/cuda/cuda_tensor.h"

namespace flexq {
namespace {

// Positions that launches of a decode step are made for, at least `most_positions`: powers of two
// from kFewest on and what lies half way between, so that a growing sequence meets few graphs, and
// attention has few CTAs without a position (launched for four pieces instead of the three that
// there were, it took 1.7 us a layer more).
int32_t bucket_of(int32_t most_positions, int32_t context_tokens) {
  constexpr int64_t kFewest = 256;
  int64_t bucket = kFewest;
  while (bucket < most_positions)
    bucket *= 2;
  if (bucket > 2 * kFewest && bucket / 4 * 3 >= most_positions) bucket = bucket / 4 * 3;
  return static_cast<int32_t>(std::min<int64_t>(bucket, std::max(most_positions, context_tokens)));
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
  made.pass_.use(made.buffers_, made.host_.flags, made.launch_);
  made.noted_.layers.reserve(static_cast<size_t>(shape.n_layers));
  made.fetched_logits_.resize(static_cast<size_t>(shape.n_outputs));
  made.fetched_hidden_.resize(static_cast<size_t>(shape.n_outputs));
  return std::unique_ptr<Executor>(std::move(executor));
}

Status CudaExecutor::enter_to_queue() {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  FLEXQ_RETURN_IF_ERROR(settle());
  idle_ = false;
  return Status();
}

Status CudaExecutor::synchronize(const char* what) {
  if (idle_) return Status();
  FLEXQ_RETURN_IF_ERROR(stream_.synchronize(what));
  idle_ = true;
  flags_are_written_ = false;
  return Status();
}

Status CudaExecutor::to_device(void* to, const void* from, int64_t bytes) {
  return check(session_->runtime().memcpy_async(to, from, static_cast<size_t>(bytes),
                                                cudaMemcpyHostToDevice, stream_.get()),
               "copying to the device");
}

Status CudaExecutor::copy_to_host(void* to, const void* from, int64_t bytes) {
  return check(session_->runtime().memcpy_async(to, from, static_cast<size_t>(bytes),
                                                cudaMemcpyDeviceToHost, stream_.get()),
               "copying from the device");
}

Status CudaExecutor::to_host(void* to, const void* from, int64_t bytes) {
  FLEXQ_RETURN_IF_ERROR(copy_to_host(to, from, bytes));
  return synchronize("forward pass");
}

Status CudaExecutor::begin(const ForwardBatch& batch) {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  FLEXQ_RETURN_IF_ERROR(settle());
  std::fill(fetched_logits_.begin(), fetched_logits_.end(), uint8_t{0});
  std::fill(fetched_hidden_.begin(), fetched_hidden_.end(), uint8_t{0});
  // The last batch may still be on its way; an event that was never recorded is done.
  if (!idle_) FLEXQ_RETURN_IF_ERROR(batch_copied_.synchronize("forward pass"));
  idle_ = false;
  n_flagged_ = 0;
  FLEXQ_ASSIGN_OR_RETURN(staged_, stage_cuda_batch(shape_, batch, host_.batch, buffers_.batch));
  noted_.open = staged_.batch.longest_run == 1;
  if (noted_.open) {
    noted_.extent = StepExtent::kLayers;
    noted_.layers.clear();
    staged_.batch.most_positions = bucket_of(staged_.batch.most_positions, shape_.context_tokens);
    pass_.begin(staged_);
    return Status();
  }
  pass_.begin(staged_);
  FLEXQ_RETURN_IF_ERROR(to_device(buffers_.batch, host_.batch, staged_.n_bytes));
  return batch_copied_.record(stream_);
}

Status CudaExecutor::settle() {
  if (!noted_.open) return Status();
  noted_.open = false;
  if (noted_.layers.size() < static_cast<size_t>(shape_.n_layers)) return Status();
  const int32_t n_tokens = staged_.batch.n_tokens;
  if (noted_.extent == StepExtent::kLogits) {
    if (flags_are_written_) FLEXQ_RETURN_IF_ERROR(synchronize("forward pass"));
    std::fill_n(host_.flags, 2 * n_tokens, 0);
    flags_are_written_ = true;
    n_flagged_ = n_tokens;
  }
  idle_ = false;
  const StepKey key = {n_tokens, staged_.batch.most_positions, noted_.extent};
  FLEXQ_RETURN_IF_ERROR(graphs_.run(key, stream_, [this] { return queue_noted(); }));
  return batch_copied_.record(stream_);
}

Status CudaExecutor::queue_noted() {
  const int32_t n_tokens = staged_.batch.n_tokens;
  FLEXQ_RETURN_IF_ERROR(to_device(buffers_.batch, host_.batch, staged_.n_bytes));
  FLEXQ_RETURN_IF_ERROR(pass_.embed(noted_.embedding));
  const bool flags_rows = noted_.extent == StepExtent::kLogits;
  int32_t* logits_flags = flags_rows ? host_.flags : nullptr;
  int32_t* hidden_flags = flags_rows ? host_.flags + n_tokens : nullptr;
  int32_t index = 0;
  for (const DeviceLayer* layer : noted_.layers) {
    FLEXQ_RETURN_IF_ERROR(pass_.attention_in(*layer, index));
    FLEXQ_RETURN_IF_ERROR(pass_.attention(index));
    FLEXQ_RETURN_IF_ERROR(pass_.attention_out(*layer));
    FLEXQ_RETURN_IF_ERROR(pass_.ffn_in(*layer));
    FLEXQ_RETURN_IF_ERROR(pass_.ffn_out(*layer));
    ++index;
  }
  if (noted_.extent >= StepExtent::kHidden)
    FLEXQ_RETURN_IF_ERROR(
        pass_.final_norm(noted_.final_norm, nullptr, 0, n_tokens, 0, hidden_flags));
  if (noted_.extent < StepExtent::kLogits) return Status();
  return pass_.logits(noted_.lm_head, 0, 0, n_tokens, logits_flags);
}

Status CudaExecutor::embed(const DeviceMatrix& embedding) {
  if (!noted_.open) return pass_.embed(embedding);
  noted_.embedding = embedding;
  return Status();
}

Status CudaExecutor::attention_in(const DeviceLayer& layer, int32_t layer_index) {
  if (!noted_.open) return pass_.attention_in(layer, layer_index);
  noted_.layers.push_back(&layer);
  return Status();
}

Status CudaExecutor::attention(int32_t layer_index) {
  return noted_.open ? Status() : pass_.attention(layer_index);
}

Status CudaExecutor::attention_out(const DeviceLayer& layer) {
  return noted_.open ? Status() : pass_.attention_out(layer);
}

Status CudaExecutor::ffn_in(const DeviceLayer& layer) {
  return noted_.open ? Status() : pass_.ffn_in(layer);
}

Status CudaExecutor::ffn_out(const DeviceLayer& layer) {
  return noted_.open ? Status() : pass_.ffn_out(layer);
}

Status CudaExecutor::final_norm(const float* norm, std::span<const int32_t> token_rows,
                                int32_t row_begin) {
  if (token_rows.empty()) return Status();
  const auto n_rows = static_cast<int32_t>(token_rows.size());
  bool consecutive = true;  // as in every decode step: no list is needed
  for (size_t i = 1; i < token_rows.size(); ++i)
    consecutive = consecutive && token_rows[i] == token_rows[i - 1] + 1;
  if (notes(StepExtent::kLayers) && consecutive && token_rows.front() == 0 && row_begin == 0 &&
      n_rows == staged_.batch.n_tokens) {
    noted_.extent = StepExtent::kHidden;
    noted_.final_norm = norm;
    return Status();
  }
  FLEXQ_RETURN_IF_ERROR(enter_to_queue());
  n_flagged_ = 0;
  if (consecutive) {
    return pass_.final_norm(norm, nullptr, token_rows.front(), n_rows, row_begin, nullptr);
  }
  FLEXQ_RETURN_IF_ERROR(rows_copied_.synchronize("forward pass"));
  memcpy(host_.rows, token_rows.data(), token_rows.size_bytes());
  FLEXQ_RETURN_IF_ERROR(
      to_device(buffers_.rows, host_.rows, static_cast<int64_t>(token_rows.size_bytes())));
  FLEXQ_RETURN_IF_ERROR(rows_copied_.record(stream_));
  return pass_.final_norm(norm, buffers_.rows, 0, n_rows, row_begin, nullptr);
}

Status CudaExecutor::logits(const DeviceMatrix& lm_head, int32_t hidden_begin, int32_t logits_begin,
                            int32_t n_rows) {
  if (notes(StepExtent::kHidden) && hidden_begin == 0 && logits_begin == 0 &&
      n_rows == staged_.batch.n_tokens) {
    noted_.extent = StepExtent::kLogits;
    noted_.lm_head = lm_head;
    return Status();
  }
  FLEXQ_RETURN_IF_ERROR(enter_to_queue());
  n_flagged_ = 0;
  return pass_.logits(lm_head, hidden_begin, logits_begin, n_rows, nullptr);
}

Result<int32_t> CudaExecutor::find_nonfinite(int32_t n_rows, bool with_hidden) {
  if (n_rows == 0) return -1;
  FLEXQ_RETURN_IF_ERROR(enter_to_queue());
  if (n_flagged_ != n_rows) {
    n_flagged_ = 0;
    FLEXQ_RETURN_IF_ERROR(pass_.flag_nonfinite(n_rows, with_hidden));
  }
  FLEXQ_RETURN_IF_ERROR(synchronize("forward pass"));
  for (int32_t row = 0; row < n_rows; ++row) {
    if (host_.flags[row] != 0 || (with_hidden && host_.flags[n_rows + row] != 0)) return row;
  }
  return -1;
}

Status CudaExecutor::log_probs(std::span<const int32_t> tokens, float* log_probs) {
  FLEXQ_RETURN_IF_ERROR(enter_to_queue());
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

Status CudaExecutor::sample(std::span<const DeviceSampling> samplings, DeviceSample* samples) {
  FLEXQ_RETURN_IF_ERROR(enter_to_queue());
  const auto n = static_cast<int64_t>(samplings.size());
  CudaSampling params[kMaxSampleRows];
  for (int64_t first = 0; first < n; first += kMaxSampleRows) {
    const int64_t n_rows = std::min<int64_t>(kMaxSampleRows, n - first);
    for (int64_t i = 0; i < n_rows; ++i) {
      const DeviceSampling& from = samplings[static_cast<size_t>(first + i)];
      params[i] = {from.row, from.temperature, from.top_k, from.top_p, from.min_p, from.uniform};
    }
    FLEXQ_RETURN_IF_ERROR(check(
        cuda_sample(launch_, buffers_.logits, shape_.n_vocab, {params, static_cast<size_t>(n_rows)},
                    buffers_.samples + first, buffers_.scratch),
        "sampling"));
  }
  FLEXQ_RETURN_IF_ERROR(to_host(host_.samples, buffers_.samples, n * int64_t{sizeof(CudaSample)}));
  for (int64_t i = 0; i < n; ++i) {
    const CudaSample& sample = host_.samples[i];
    samples[i] = {sample.nonfinite != 0 ? -1 : sample.token, sample.log_prob};
  }
  return Status();
}

Result<const float*> CudaExecutor::logits_row(int32_t row) {
  float* out = host_.logits + int64_t{row} * shape_.n_vocab;
  uint8_t& fetched = fetched_logits_[static_cast<size_t>(row)];
  if (fetched == 0) {
    FLEXQ_RETURN_IF_ERROR(enter_to_queue());
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
    FLEXQ_RETURN_IF_ERROR(enter_to_queue());
    FLEXQ_RETURN_IF_ERROR(
        to_host(out, rows_from(buffers_.hidden, row).data, shape_.n_embd * int64_t{sizeof(float)}));
    fetched = 1;
  }
  return out;
}

Status CudaExecutor::finish() {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  FLEXQ_RETURN_IF_ERROR(settle());
  return synchronize("forward pass");
}

Status CudaExecutor::copy_page(int32_t from, int32_t to) {
  FLEXQ_RETURN_IF_ERROR(enter_to_queue());
  const int64_t bytes = page_bytes(shape_);
  return check(session_->runtime().memcpy_async(
                   pages_.data() + to * bytes, pages_.data() + from * bytes,
                   static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream_.get()),
               "copying a page");
}

Status CudaExecutor::read_page(int32_t page, std::span<uint8_t> to) {
  FLEXQ_RETURN_IF_ERROR(enter_to_queue());
  const int64_t bytes = page_bytes(shape_);
  FLEXQ_RETURN_IF_ERROR(copy_to_host(to.data(), pages_.data() + page * bytes, bytes));
  return synchronize("reading a page");
}

Status CudaExecutor::write_page(int32_t page, std::span<const uint8_t> from) {
  FLEXQ_RETURN_IF_ERROR(enter_to_queue());
  const int64_t bytes = page_bytes(shape_);
  FLEXQ_RETURN_IF_ERROR(to_device(pages_.data() + page * bytes, from.data(), bytes));
  return synchronize("writing a page");
}

Status CudaExecutor::poison_workspace() {
  FLEXQ_RETURN_IF_ERROR(enter_to_queue());
  // Every float becomes a NaN.
  return check(
      session_->runtime().memset_async(workspace_.data(), 0xff, workspace_.size(), stream_.get()),
      "poisoning the workspace");
}

}  // namespace flexq
