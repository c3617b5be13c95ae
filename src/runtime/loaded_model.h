// A model ready to run: weights on a device, tokenizer, thread pool.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/sha256.h"
#include "base/thread_pool.h"
#include "model/llama_model.h"
#include "model/rope_table.h"
#include "text/tokenizer.h"

namespace flexq {

// Immutable and shareable, except for the pool, which takes callers from any thread.
struct LoadedModel {
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<LlamaModel> llama;
  RopeTable rope;
  std::shared_ptr<const Tokenizer> tokenizer;  // null where the source has none
  std::string policy;                          // "flexq", ...; "none" for a checkpoint
  std::optional<Sha256Digest> identity;        // see WeightSource
  bool is_end_token(int32_t token) const;
};

}  // namespace flexq
