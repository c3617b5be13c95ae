// Owners of the handles of flexq.h, for programs with and without doctest.
#pragma once

#include <memory>

#include "flexq.h"

namespace flexq::test {

template <auto kRelease>
struct Releaser {
  template <typename T>
  void operator()(T* handle) const {
    kRelease(handle);
  }
};
template <typename T, auto kRelease>
using Handle = std::unique_ptr<T, Releaser<kRelease>>;
using SourceHandle = Handle<flexq_source, flexq_source_release>;
using ModelHandle = Handle<flexq_model, flexq_model_release>;
using ModelOptionsHandle = Handle<flexq_model_options, flexq_model_options_release>;
using TokenizerHandle = Handle<flexq_tokenizer, flexq_tokenizer_release>;
using ContextHandle = Handle<flexq_context, flexq_context_release>;
using ContextOptionsHandle = Handle<flexq_context_options, flexq_context_options_release>;
using ChatHandle = Handle<flexq_chat, flexq_chat_release>;
using BatchHandle = Handle<flexq_batch, flexq_batch_release>;
using SamplingHandle = Handle<flexq_sampling, flexq_sampling_release>;
using GeneratorHandle = Handle<flexq_generator, flexq_generator_release>;
using GeneratorOptionsHandle = Handle<flexq_generator_options, flexq_generator_options_release>;
using EngineHandle = Handle<flexq_engine, flexq_engine_release>;
using RequestHandle = Handle<flexq_request, flexq_request_release>;
using QuantizeOptionsHandle = Handle<flexq_quantize_options, flexq_quantize_options_release>;
using ContinuationsHandle = Handle<flexq_continuations, flexq_continuations_release>;
using QuestionsHandle = Handle<flexq_questions, flexq_questions_release>;
using BundleHandle = Handle<flexq_bundle, flexq_bundle_release>;

// create(handle, flexq_model_load, source, options): calls load(source, options, &new handle) and
// moves what it made into `handle`. A failed call leaves `handle` empty.
template <typename T, typename D, typename Function, typename... Args>
flexq_status create(std::unique_ptr<T, D>& handle, Function function, Args... args) {
  T* made = nullptr;
  const flexq_status status = function(args..., &made);
  handle.reset(made);
  return status;
}

}  // namespace flexq::test
