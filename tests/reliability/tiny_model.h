// What the reliability tests share: a model of one layer in memory, owners of C handles, and whole
// results of the C interface as C++ values.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "flexq.h"
#include "support/synthetic_checkpoint.h"

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

#define REQUIRE_OK(call)                                               \
  do {                                                                 \
    const flexq_status required_status_ = (call);                      \
    INFO(#call, ": ", std::string(flexq_last_error()));                \
    REQUIRE(std::string(flexq_status_name(required_status_)) == "OK"); \
  } while (false)

// One layer, context 256, small_model_config() otherwise.
ModelConfig tiny_model_config();
// Lets later TemporaryDirectory objects lie in memory where the machine offers that: thousands of
// writes with their fsync would otherwise wait for a disk.
void keep_temporaries_in_memory();

// Makes the folder `parent`/tiny, the same checkpoint every time, with every optional file, and
// returns its path.
std::string write_tiny_checkpoint(const std::string& parent);
// The bundle of write_tiny_checkpoint() under a policy.
const std::string& tiny_model_bytes(const std::string& policy = "flexq");

std::string read_file_bytes(const std::string& path);

SourceHandle source_of(const std::string& bytes);
ModelOptionsHandle model_options(int32_t n_threads, const char* kernels = "auto");
ModelHandle load_tiny_model(const std::string& policy = "flexq", int32_t n_threads = 2,
                            const char* kernels = "auto");

// Kernel sets that this build has and this processor runs.
std::vector<std::string> usable_kernels();
// Names of all policies that quantize takes.
std::vector<std::string> all_policies();

// `n` token ids of the tiny model's whole vocabulary, a function of the seed only.
std::vector<int32_t> tiny_tokens(int64_t n, uint64_t seed);

// The bytes of all output rows of the last decode.
std::string output_bytes(const flexq_context* context);

}  // namespace flexq::test
