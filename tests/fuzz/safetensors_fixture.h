// The checkpoint whose weights the target `safetensors` replaces.
#pragma once

#include "support/synthetic_checkpoint.h"

namespace flexq::test {

inline SyntheticFiles fuzz_checkpoint_files() {
  SyntheticOptions options;
  options.config.n_layers = 1;
  options.config.n_embd = 8;
  options.config.n_heads = 2;
  options.config.n_kv_heads = 1;
  options.config.head_dim = 4;
  options.config.n_ff = 8;
  options.config.n_vocab = 8;
  options.with_tokenizer = false;
  return make_synthetic_checkpoint(options);
}

}  // namespace flexq::test
