// The handles of flexq.h as C++ values, and its status codes as exceptions: what the samples need.
#pragma once

#include <flexq.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace sample {

inline void check(flexq_status status) {
  if (status != FLEXQ_OK)
    throw std::runtime_error(std::string(flexq_status_name(status)) + ": " + flexq_last_error());
}

template <auto kRelease>
struct Releaser {
  template <typename T>
  void operator()(T* handle) const noexcept {
    kRelease(handle);
  }
};
template <typename T, auto kRelease>
using Handle = std::unique_ptr<T, Releaser<kRelease>>;

using Source = Handle<flexq_source, flexq_source_release>;
using ModelOptions = Handle<flexq_model_options, flexq_model_options_release>;
using Model = Handle<flexq_model, flexq_model_release>;
using Tokenizer = Handle<flexq_tokenizer, flexq_tokenizer_release>;
using Chat = Handle<flexq_chat, flexq_chat_release>;
using ContextOptions = Handle<flexq_context_options, flexq_context_options_release>;
using Context = Handle<flexq_context, flexq_context_release>;
using Batch = Handle<flexq_batch, flexq_batch_release>;
using Sampling = Handle<flexq_sampling, flexq_sampling_release>;
using GeneratorOptions = Handle<flexq_generator_options, flexq_generator_options_release>;
using Generator = Handle<flexq_generator, flexq_generator_release>;
using QuantizeOptions = Handle<flexq_quantize_options, flexq_quantize_options_release>;
using Bundle = Handle<flexq_bundle, flexq_bundle_release>;

// create<Model>(flexq_model_load, source.get(), nullptr): every function that makes a handle writes
// it through its last parameter.
template <typename H, typename Function, typename... Arguments>
H create(Function function, Arguments... arguments) {
  typename H::pointer handle = nullptr;
  check(function(arguments..., &handle));
  return H(handle);
}

// A container (std::string, std::vector<int32_t>) filled by a function that takes (buffer,
// capacity, length): asked for the length first.
template <typename Container, typename Length, typename Fill>
Container read(Fill fill) {
  Length length = 0;
  const flexq_status status = fill(nullptr, Length{0}, &length);
  if (status != FLEXQ_ERROR_BUFFER_TOO_SMALL) check(status);
  Container content(static_cast<size_t>(length), {});
  check(fill(content.data(), length, &length));
  return content;
}
template <typename Fill>
std::string read_text(Fill fill) {
  return read<std::string, int64_t>(fill);
}
template <typename Fill>
std::vector<int32_t> read_tokens(Fill fill) {
  return read<std::vector<int32_t>, int32_t>(fill);
}

inline int64_t n_bytes(const std::string& text) {
  return static_cast<int64_t>(text.size());
}

}  // namespace sample
