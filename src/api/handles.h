// What stands behind the opaque types of flexq.h.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/api_guard.h"
#include "bundle/bundle_reader.h"
#include "eval/choice_tasks.h"
#include "eval/continuation_scores.h"
#include "quantize/quantize_checkpoint.h"
#include "runtime/context.h"
#include "runtime/generator.h"
#include "runtime/model_loader.h"
#include "serving/engine.h"
#include "text/chat_template.h"

struct flexq_chat;

namespace flexq::api {

// A plan as flexq.h shows it.
flexq_plan plan_info(const DeviceDescription& device, const WeightPlan& weights,
                     const ContextPlan& context);

// A caller's text; NULL is fine when it is empty.
inline Status make_text(const char* name, const char* text, int64_t n_bytes,
                        std::string_view* out) {
  if (n_bytes < 0) return negative_length(name, n_bytes);
  if (text == nullptr && n_bytes > 0) return null_argument(name);
  *out =
      text == nullptr ? std::string_view() : std::string_view(text, static_cast<size_t>(n_bytes));
  return Status();
}

// FLEXQ_ENCODE_ flags.
inline Status make_encode_options(int32_t flags, EncodeOptions* options) {
  if ((flags & ~(FLEXQ_ENCODE_ADD_BOS | FLEXQ_ENCODE_PARSE_SPECIAL)) != 0) {
    return Status::error(StatusCode::kInvalidArgument,
                         "encode flags: expected FLEXQ_ENCODE_ flags, found %d", flags);
  }
  options->add_bos = (flags & FLEXQ_ENCODE_ADD_BOS) != 0;
  options->parse_special = (flags & FLEXQ_ENCODE_PARSE_SPECIAL) != 0;
  return Status();
}

inline constexpr int32_t kMaxAlternatives = 20;

// An event's alternatives, as the separate arrays that flexq.h shows.
struct AlternativeArrays {
  std::vector<int32_t> tokens;
  std::vector<float> log_probs;

  void reserve();  // so that filling them finds memory
  void fill(std::span<const TokenLogProb> alternatives);
};

// Shows an event through the C struct, whose struct_size it leaves alone; the pointers are those of
// the event and of the arrays.
void show_event(const TokenEvent& event, AlternativeArrays& arrays, flexq_token_event* out);

// As flexq_tokenizer_encode_chat and flexq_generator_options_add_chat_stops.
Result<std::vector<int32_t>> encode_conversation(const Tokenizer& tokenizer,
                                                 const char* template_name, const flexq_chat& chat,
                                                 bool add_generation_prompt);
Status add_chat_stops(const Tokenizer& tokenizer, const char* template_name,
                      GeneratorOptions* options);

}  // namespace flexq::api

struct flexq_source : flexq::api::Handle {
  flexq::ModelSource source;
};

struct flexq_model_options : flexq::api::Handle {
  flexq::LoadOptions load;
  flexq_progress_callback progress = nullptr;
  void* progress_user_data = nullptr;
};

struct flexq_model : flexq::api::Handle {
  std::shared_ptr<const flexq::LoadedModel> model;
};

struct flexq_tokenizer : flexq::api::Handle {
  std::shared_ptr<const flexq::Tokenizer> tokenizer;
};

struct flexq_chat : flexq::api::Handle {
  struct Message {
    flexq::ChatRole role;
    std::string content;
  };
  std::vector<Message> messages;
};

struct flexq_context_options : flexq::api::Handle {
  flexq::ContextOptions options;
};

struct flexq_context : flexq::api::Handle {
  std::shared_ptr<flexq::Context> context;
};

namespace flexq::api {

// A context that is not released and that no other thread uses for the duration of a call, where
// status() says so; else another thread is using it.
class EnteredContext {
 public:
  explicit EnteredContext(const flexq_context* context) : held_(context), use_(*held_->context) {}
  Status status() const { return use_.status(); }
  Context* operator->() const { return held_->context.get(); }
  Context& operator*() const { return *held_->context; }

 private:
  Held<const flexq_context> held_;
  ContextUse use_;
};

}  // namespace flexq::api

struct flexq_batch : flexq::api::Handle {
  struct Item {
    int32_t sequence;
    size_t begin;  // in tokens
    size_t count;
    flexq::OutputRows output;
  };
  std::vector<Item> items;
  std::vector<int32_t> tokens;
  std::vector<flexq::BatchItem> views;  // scratch of flexq_context_decode
  std::atomic<bool> cancelled{false};
};

struct flexq_sampling : flexq::api::Handle {
  flexq::SamplingParams params;
};

struct flexq_generator_options : flexq::api::Handle {
  flexq::GeneratorOptions options;
};

struct flexq_generator : flexq::api::Handle {
  std::unique_ptr<flexq::Generator> generator;
  flexq::api::AlternativeArrays alternatives;  // of the last event
};

struct flexq_engine_options : flexq::api::Handle {
  flexq::EngineOptions options;
};

struct flexq_engine : flexq::api::Handle {
  std::unique_ptr<flexq::Engine> engine;
};

struct flexq_request : flexq::api::Handle {
  std::shared_ptr<flexq::Request> request;
  std::atomic<bool> being_read{false};
  flexq::RequestEvent event;                   // the last one that was fetched
  flexq::api::AlternativeArrays alternatives;  // of it
};

struct flexq_quantize_options : flexq::api::Handle {
  flexq::QuantizeOptions options;
};

struct flexq_bundle : flexq::api::Handle {
  std::unique_ptr<flexq::Bundle> bundle;
  std::string json;  // made at open, so that asking for its length costs nothing
};

struct flexq_continuations : flexq::api::Handle {
  std::vector<flexq::Continuation> list;
};

struct flexq_questions : flexq::api::Handle {
  std::vector<flexq::Question> list;
};
