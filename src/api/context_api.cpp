// Contexts, batches and sequences.
#include <string_view>

#include "api/handles.h"

using flexq::Status;
using flexq::StatusCode;
using flexq::api::EnteredContext;
using flexq::api::guarded;
using flexq::api::guarded_value;
using flexq::api::Held;

namespace flexq::api {

flexq_plan plan_info(const DeviceDescription& device, const WeightPlan& weights,
                     const ContextPlan& context) {
  flexq_plan plan = {};
  plan.kind = static_cast<int32_t>(device.kind);
  plan.weight_bytes = weights.total_bytes;
  plan.kv_bytes = context.kv_bytes;
  plan.kv_bytes_per_token = context.kv_bytes_per_token;
  plan.workspace_bytes = context.workspace_bytes;
  plan.total_bytes = weights.total_bytes + context.kv_bytes + context.workspace_bytes;
  plan.context_tokens = context.shape.context_tokens;
  plan.n_sequences = context.shape.n_sequences;
  plan.chunk_tokens = context.shape.chunk_tokens;
  plan.page_tokens = kPageTokens;
  copy_name(plan.device, device.id);
  return plan;
}

}  // namespace flexq::api

namespace {

Status set_context_option(flexq::ContextOptions& options, std::string_view key,
                          std::string_view value) {
  const auto unsupported = [&](const char* expected) {
    return Status::error(StatusCode::kUnsupportedValue, "%s: expected %s, found \"%.100s\"",
                         std::string(key).c_str(), expected, std::string(value).c_str());
  };
  if (key == "kv_type") {
    if (value == "auto") {
      options.kv_type.reset();
    } else if (value == "f16") {
      options.kv_type = flexq::KvType::kF16;
    } else if (value == "f32") {
      options.kv_type = flexq::KvType::kF32;
    } else if (value == "i8") {
      options.kv_type = flexq::KvType::kI8;
    } else {
      return unsupported("auto, f16, f32 or i8");
    }
    return Status();
  }
  if (key == "poison") {
    if (value != "on" && value != "off") return unsupported("on or off");
    options.poison_workspace = value == "on";
    return Status();
  }
  return Status::error(StatusCode::kUnknownOption,
                       "context option: expected kv_type or poison, found \"%.100s\"",
                       std::string(key).c_str());
}

// Sets one count of the options; the upper bounds depend on the model and are checked with it.
flexq_status set_count(flexq_context_options* options, int32_t flexq::ContextOptions::*field,
                       int32_t least, int32_t value, const char* name) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    if (value < least) return flexq::api::invalid_range(name, least, INT32_MAX, value);
    options->options.*field = value;
    return Status();
  });
}

Status check_output_row(const flexq::Context& context, int32_t row) {
  if (row >= 0 && row < context.output_count()) return Status();
  return Status::error(StatusCode::kInvalidArgument,
                       "output row: expected one of %d rows of the last decode, found %d",
                       context.output_count(), row);
}

}  // namespace

extern "C" {

flexq_status flexq_context_options_create(flexq_context_options** options) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    *options = new flexq_context_options;
    return Status();
  });
}

void flexq_context_options_release(flexq_context_options* options) {
  flexq::api::drop_reference(options);
}

flexq_status flexq_context_options_set_context_tokens(flexq_context_options* options,
                                                      int32_t n_tokens) {
  return set_count(options, &flexq::ContextOptions::context_tokens, 0, n_tokens, "context tokens");
}

flexq_status flexq_context_options_set_sequences(flexq_context_options* options,
                                                 int32_t n_sequences) {
  return set_count(options, &flexq::ContextOptions::n_sequences, 1, n_sequences, "sequences");
}

flexq_status flexq_context_options_set_chunk_tokens(flexq_context_options* options,
                                                    int32_t n_tokens) {
  return set_count(options, &flexq::ContextOptions::chunk_tokens, 1, n_tokens, "chunk tokens");
}

flexq_status flexq_context_options_set_cache_tokens(flexq_context_options* options,
                                                    int32_t n_tokens) {
  return set_count(options, &flexq::ContextOptions::cache_tokens, 0, n_tokens, "cache tokens");
}

flexq_status flexq_context_options_set_outputs(flexq_context_options* options, int32_t n_outputs) {
  return set_count(options, &flexq::ContextOptions::n_outputs, 1, n_outputs, "outputs");
}

flexq_status flexq_context_options_set(flexq_context_options* options, const char* key,
                                       const char* value) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    FLEXQ_REQUIRE(key);
    FLEXQ_REQUIRE(value);
    return set_context_option(options->options, key, value);
  });
}

flexq_status flexq_context_create(const flexq_model* model, const flexq_context_options* options,
                                  flexq_context** context) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(model);
    FLEXQ_REQUIRE(context);
    const Held held(model);
    auto made = std::make_unique<flexq_context>();
    FLEXQ_ASSIGN_OR_RETURN(
        made->context,
        flexq::Context::create(held->model,
                               options != nullptr ? options->options : flexq::ContextOptions()));
    *context = made.release();
    return Status();
  });
}

void flexq_context_release(flexq_context* context) {
  flexq::api::drop_reference(context);
}

flexq_status flexq_context_get_plan(const flexq_context* context, flexq_plan* plan) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    const Held held(context);
    const flexq::LlamaModel& llama = *held->context->model().llama;
    return flexq::api::fill_info(
        flexq::api::plan_info(llama.device().describe(), llama.plan(), held->context->plan()),
        plan);
  });
}

flexq_status flexq_context_get_counters(const flexq_context* context,
                                        flexq_context_counters* counters) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    const flexq::KvCache& cache = entered->cache();
    flexq_context_counters filled = {};
    filled.pages_total = cache.pages_total();
    filled.pages_used = cache.pages_used();
    for (int32_t i = 0; i < cache.n_sequences(); ++i) {
      if (cache.length(i) > 0) ++filled.n_sequences_used;
    }
    filled.tokens_computed = entered->counters().tokens_computed;
    filled.forward_calls = entered->counters().forward_calls;
    filled.compute_ns = entered->counters().compute_ns;
    filled.pages_copied = cache.pages_copied();
    return flexq::api::fill_info(filled, counters);
  });
}

flexq_status flexq_batch_create(flexq_batch** batch) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(batch);
    *batch = new flexq_batch;
    return Status();
  });
}

void flexq_batch_release(flexq_batch* batch) {
  flexq::api::drop_reference(batch);
}

flexq_status flexq_batch_clear(flexq_batch* batch) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(batch);
    batch->items.clear();
    batch->tokens.clear();
    batch->cancelled.store(false);
    return Status();
  });
}

flexq_status flexq_batch_add(flexq_batch* batch, int32_t sequence, const int32_t* tokens,
                             int32_t n_tokens, int32_t output) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(batch);
    FLEXQ_REQUIRE(tokens);
    if (sequence < 0) return flexq::api::invalid_range("sequence", 0, INT32_MAX, sequence);
    if (n_tokens < 1) return flexq::api::invalid_range("n_tokens", 1, INT32_MAX, n_tokens);
    if (output < FLEXQ_OUTPUT_NONE || output > FLEXQ_OUTPUT_ALL) {
      return flexq::api::invalid_range("output", FLEXQ_OUTPUT_NONE, FLEXQ_OUTPUT_ALL, output);
    }
    const size_t begin = batch->tokens.size();
    batch->items.reserve(batch->items.size() + 1);  // so that nothing below fails half-way
    batch->tokens.insert(batch->tokens.end(), tokens, tokens + n_tokens);
    batch->items.push_back(
        {sequence, begin, static_cast<size_t>(n_tokens), static_cast<flexq::OutputRows>(output)});
    return Status();
  });
}

void flexq_batch_cancel(flexq_batch* batch) {
  const Held held(batch);
  if (held) held->cancelled.store(true);
}

flexq_status flexq_context_decode(flexq_context* context, flexq_batch* batch) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    FLEXQ_REQUIRE(batch);
    const Held held_batch(batch);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    batch->views.clear();
    for (const flexq_batch::Item& item : batch->items) {
      batch->views.push_back(
          {item.sequence, std::span<const int32_t>(batch->tokens).subspan(item.begin, item.count),
           item.output});
    }
    return entered->decode(batch->views, [&]() -> Status {
      if (!batch->cancelled.load(std::memory_order_relaxed)) return Status();
      return Status::error(StatusCode::kCancelled, "decode was cancelled");
    });
  });
}

int32_t flexq_context_output_count(const flexq_context* context) {
  return guarded_value(0, [&]() -> int32_t {
    if (context == nullptr) return 0;
    const EnteredContext entered(context);
    return entered.status().ok() ? entered->output_count() : 0;
  });
}

flexq_status flexq_context_logits(const flexq_context* context, int32_t row, const float** logits,
                                  int32_t* n_vocab) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    FLEXQ_REQUIRE(logits);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    FLEXQ_RETURN_IF_ERROR(check_output_row(*entered, row));
    FLEXQ_ASSIGN_OR_RETURN(*logits, entered->logits_row(row));
    if (n_vocab != nullptr) *n_vocab = entered->plan().shape.n_vocab;
    return Status();
  });
}

flexq_status flexq_context_embedding(const flexq_context* context, int32_t row,
                                     const float** embedding, int32_t* n_embd) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    FLEXQ_REQUIRE(embedding);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    FLEXQ_RETURN_IF_ERROR(check_output_row(*entered, row));
    FLEXQ_ASSIGN_OR_RETURN(*embedding, entered->hidden_row(row));
    if (n_embd != nullptr) *n_embd = entered->plan().shape.n_embd;
    return Status();
  });
}

int32_t flexq_context_sequence_length(const flexq_context* context, int32_t sequence) {
  return guarded_value(-1, [&]() -> int32_t {
    if (context == nullptr || sequence < 0) return -1;
    const EnteredContext entered(context);
    if (!entered.status().ok()) return -1;
    const flexq::KvCache& cache = entered->cache();
    return sequence < cache.n_sequences() ? cache.length(sequence) : -1;
  });
}

flexq_status flexq_context_rewind(flexq_context* context, int32_t sequence, int32_t n_tokens) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    return entered->rewind(sequence, n_tokens);
  });
}

flexq_status flexq_context_fork(flexq_context* context, int32_t from, int32_t to) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    return entered->fork(from, to);
  });
}

flexq_status flexq_context_score(flexq_context* context, const int32_t* tokens, int32_t n_tokens,
                                 float* log_probs, flexq_progress_callback progress,
                                 void* user_data) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    FLEXQ_REQUIRE(tokens);
    FLEXQ_REQUIRE(log_probs);
    if (n_tokens < 2) return flexq::api::invalid_range("n_tokens", 2, INT32_MAX, n_tokens);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    return entered->score({tokens, static_cast<size_t>(n_tokens)}, log_probs,
                          [&](int64_t done, int64_t total) {
                            return progress != nullptr && progress(done, total, user_data) != 0;
                          });
  });
}

}  // extern "C"
