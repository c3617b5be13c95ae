// What tests of whole models on a GPU share. Everything through flexq.h.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "reliability/tiny_model.h"
#include "support/skipped.h"
#include "support/test_data.h"

namespace flexq::test {

// Whether this machine has a GPU that libflexq_cuda.so can use; says loudly when it has none, which
// is a failure where FLEXQ_REQUIRE_GPU is set.
inline bool has_gpu() {
  if (flexq_device_count() > 1) return true;
  if (std::getenv("FLEXQ_REQUIRE_GPU") != nullptr) {
    SourceHandle source = source_of(tiny_model_bytes());
    ModelOptionsHandle options = model_options(1);
    REQUIRE_OK(flexq_model_options_set_device(options.get(), "cuda"));
    ModelHandle model;
    static_cast<void>(create(model, flexq_model_load, source.get(), options.get()));
    FAIL("FLEXQ_REQUIRE_GPU is set, but: " << flexq_last_error());
  }
  case_skipped = true;
  MESSAGE("SKIPPED: no CUDA device");
  return false;
}

// A bundle of the checkpoint under a policy, made once per process; for "none" the checkpoint.
inline std::string bundle_of(const std::string& checkpoint, const std::string& policy) {
  static const TemporaryDirectory directory;
  static std::map<std::string, std::string> made;
  if (policy == "none") return checkpoint;
  std::string& path = made[checkpoint + " " + policy];
  if (path.empty()) {
    path = directory.file(std::to_string(made.size()) + ".flexq");
    QuantizeOptionsHandle options;
    REQUIRE_OK(create(options, flexq_quantize_options_create));
    REQUIRE_OK(flexq_quantize_options_set_policy(options.get(), policy.c_str()));
    REQUIRE_OK(flexq_quantize(checkpoint.c_str(), path.c_str(), options.get()));
  }
  return path;
}

inline ModelHandle load_on(const std::string& path, const std::string& device,
                           const std::string& cuda_kernels = "auto") {
  SourceHandle source;
  REQUIRE_OK(create(source, flexq_source_open, path.c_str()));
  ModelOptionsHandle options = model_options(0);
  REQUIRE_OK(flexq_model_options_set_device(options.get(), device.c_str()));
  REQUIRE_OK(flexq_model_options_set(options.get(), "cuda.kernels", cuda_kernels.c_str()));
  ModelHandle model;
  REQUIRE_OK(create(model, flexq_model_load, source.get(), options.get()));
  return model;
}

struct ContextShape {
  int32_t n_sequences = 1;
  int32_t chunk_tokens = 256;
  int32_t n_outputs = 1;
  int32_t context_tokens = 0;
  const char* kv_type = "auto";
  const char* poison = "off";
};

inline ContextOptionsHandle options_of(const ContextShape& shape) {
  ContextOptionsHandle options;
  REQUIRE_OK(create(options, flexq_context_options_create));
  REQUIRE_OK(flexq_context_options_set_sequences(options.get(), shape.n_sequences));
  REQUIRE_OK(flexq_context_options_set_chunk_tokens(options.get(), shape.chunk_tokens));
  REQUIRE_OK(flexq_context_options_set_outputs(options.get(), shape.n_outputs));
  REQUIRE_OK(flexq_context_options_set_context_tokens(options.get(), shape.context_tokens));
  REQUIRE_OK(flexq_context_options_set(options.get(), "kv_type", shape.kv_type));
  REQUIRE_OK(flexq_context_options_set(options.get(), "poison", shape.poison));
  return options;
}

inline ContextHandle make_context(const ModelHandle& model, const ContextShape& shape) {
  ContextHandle context;
  REQUIRE_OK(create(context, flexq_context_create, model.get(), options_of(shape).get()));
  return context;
}

// Decodes tokens of one sequence and gives the bytes of all output rows.
inline std::string decode_bytes(flexq_context* context, int32_t sequence,
                                const std::vector<int32_t>& tokens, int32_t output) {
  BatchHandle batch;
  REQUIRE_OK(create(batch, flexq_batch_create));
  REQUIRE_OK(flexq_batch_add(batch.get(), sequence, tokens.data(),
                             static_cast<int32_t>(tokens.size()), output));
  REQUIRE_OK(flexq_context_decode(context, batch.get()));
  return output_bytes(context);
}

inline flexq_model_info info_of(const ModelHandle& model) {
  flexq_model_info info = {};
  info.struct_size = sizeof info;
  REQUIRE_OK(flexq_model_get_info(model.get(), &info));
  return info;
}

// Token ids of the model's whole vocabulary, a function of the seed only.
inline std::vector<int32_t> some_tokens(const ModelHandle& model, int32_t n, uint64_t seed) {
  const auto n_vocab = static_cast<uint64_t>(info_of(model).n_vocab);
  std::vector<int32_t> tokens;
  uint64_t state = seed * 2 + 1;
  for (int32_t i = 0; i < n; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(static_cast<int32_t>((state >> 33) % n_vocab));
  }
  return tokens;
}

}  // namespace flexq::test
