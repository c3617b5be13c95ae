// Owners for the handles of flexq.h: each releases its handle at the end of the scope.
#pragma once

#include <flexq.h>

#include <memory>

namespace flexq_tool {

template <auto Release>
struct Releaser {
  template <typename T>
  void operator()(T* handle) const {
    Release(handle);
  }
};

using Source = std::unique_ptr<flexq_source, Releaser<flexq_source_release>>;
using ModelOptions = std::unique_ptr<flexq_model_options, Releaser<flexq_model_options_release>>;
using Model = std::unique_ptr<flexq_model, Releaser<flexq_model_release>>;
using Tokenizer = std::unique_ptr<flexq_tokenizer, Releaser<flexq_tokenizer_release>>;
using ContextOptions =
    std::unique_ptr<flexq_context_options, Releaser<flexq_context_options_release>>;
using Chat = std::unique_ptr<flexq_chat, Releaser<flexq_chat_release>>;
using Context = std::unique_ptr<flexq_context, Releaser<flexq_context_release>>;
using Batch = std::unique_ptr<flexq_batch, Releaser<flexq_batch_release>>;
using Sampling = std::unique_ptr<flexq_sampling, Releaser<flexq_sampling_release>>;
using GeneratorOptions =
    std::unique_ptr<flexq_generator_options, Releaser<flexq_generator_options_release>>;
using Generator = std::unique_ptr<flexq_generator, Releaser<flexq_generator_release>>;
using QuantizeOptions =
    std::unique_ptr<flexq_quantize_options, Releaser<flexq_quantize_options_release>>;
using Questions = std::unique_ptr<flexq_questions, Releaser<flexq_questions_release>>;
using Bundle = std::unique_ptr<flexq_bundle, Releaser<flexq_bundle_release>>;

// Fits an owner to an output parameter: flexq_source_open(path, Out(source)). The owner has the
// handle when the full expression ends.
template <typename Owner>
class Out {
 public:
  explicit Out(Owner& owner) : owner_(owner) {}
  ~Out() { owner_.reset(handle_); }
  Out(const Out&) = delete;
  Out& operator=(const Out&) = delete;
  operator typename Owner::pointer *() { return &handle_; }

 private:
  Owner& owner_;
  typename Owner::pointer handle_ = nullptr;
};

}  // namespace flexq_tool
