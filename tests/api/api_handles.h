// Owners of the handles of flexq.h, so that a failed REQUIRE leaks nothing.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <utility>

#include "flexq.h"

// A call that must succeed; shows flexq_last_error() when it does not.
#define REQUIRE_OK(call)                                               \
  do {                                                                 \
    const flexq_status required_status_ = (call);                      \
    INFO(#call, ": ", std::string(flexq_last_error()));                \
    REQUIRE(std::string(flexq_status_name(required_status_)) == "OK"); \
  } while (false)

// A call that must fail with FLEXQ_ERROR_<code> and a message that contains `text`.
#define CHECK_ERROR(call, code, text)                                 \
  do {                                                                \
    const flexq_status checked_status_ = (call);                      \
    const std::string checked_message_ = flexq_last_error();          \
    INFO(#call, ": ", checked_message_);                              \
    CHECK(std::string(flexq_status_name(checked_status_)) == (code)); \
    CHECK(checked_message_.find(text) != std::string::npos);          \
  } while (false)

#define CHECK_INVALID(call, text) CHECK_ERROR(call, "INVALID_ARGUMENT", text)

namespace flexq::test {

template <typename T, void (*Release)(T*)>
class Owned {
 public:
  Owned() = default;
  ~Owned() { Release(handle_); }
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  void reset() { Release(std::exchange(handle_, nullptr)); }
  // For output parameters.
  T** out() {
    reset();
    return &handle_;
  }
  T* get() const { return handle_; }
  operator T*() const { return handle_; }  // NOLINT: passed to the C functions as it is

 private:
  T* handle_ = nullptr;
};

using Source = Owned<flexq_source, flexq_source_release>;
using ModelOptions = Owned<flexq_model_options, flexq_model_options_release>;
using Model = Owned<flexq_model, flexq_model_release>;
using Tokenizer = Owned<flexq_tokenizer, flexq_tokenizer_release>;
using ContextOptions = Owned<flexq_context_options, flexq_context_options_release>;
using Chat = Owned<flexq_chat, flexq_chat_release>;
using Context = Owned<flexq_context, flexq_context_release>;
using Batch = Owned<flexq_batch, flexq_batch_release>;
using Sampling = Owned<flexq_sampling, flexq_sampling_release>;
using GeneratorOptions = Owned<flexq_generator_options, flexq_generator_options_release>;
using Generator = Owned<flexq_generator, flexq_generator_release>;
using EngineOptions = Owned<flexq_engine_options, flexq_engine_options_release>;
using Engine = Owned<flexq_engine, flexq_engine_release>;
using Request = Owned<flexq_request, flexq_request_release>;
using QuantizeOptions = Owned<flexq_quantize_options, flexq_quantize_options_release>;
using Continuations = Owned<flexq_continuations, flexq_continuations_release>;
using Questions = Owned<flexq_questions, flexq_questions_release>;
using Bundle = Owned<flexq_bundle, flexq_bundle_release>;

}  // namespace flexq::test
