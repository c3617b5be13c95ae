// A model that is slow enough to be interrupted: 19 million parameters, context 4096.
#pragma once

#include <string>

#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {

// The path of its checkpoint, made at the first call.
inline const std::string& slow_model() {
  static const TemporaryDirectory directory;
  static const bool is_written = [] {
    SyntheticOptions options;
    options.config.n_embd = 512;
    options.config.n_ff = 1408;
    options.config.n_layers = 6;
    options.config.n_heads = 8;
    options.config.n_kv_heads = 8;
    options.config.head_dim = 64;
    options.config.context_tokens = 4096;
    write_synthetic_checkpoint(directory.path(), options);
    return true;
  }();
  REQUIRE(is_written);
  return directory.path();
}

}  // namespace flexq::test
