// A small model without files, and saved sequences of it as bytes. Errors that nobody expects
// become std::runtime_error.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/context.h"
#include "runtime/model_loader.h"

namespace flexq::test {

// Two layers, of 4 x 4 keys and values a token.
ModelConfig small_session_config();
std::shared_ptr<const LoadedModel> small_session_model(uint64_t seed = 1);
std::shared_ptr<Context> session_context(std::shared_ptr<const LoadedModel> model, KvType kv_type,
                                         int32_t context_tokens = 48, int32_t n_sequences = 1,
                                         int32_t cache_tokens = 0);

// Puts n_tokens tokens into a sequence, a function of their number only.
void fill_sequence(Context& context, int32_t sequence, int32_t n_tokens);
std::vector<uint8_t> saved_sequence(Context& context, int32_t sequence);
Status restore_bytes(Context& context, int32_t sequence, std::span<const uint8_t> bytes);

// Makes the hashes of a session right after its bytes were changed: of the blocks as far as they
// lie where the header says, and of the whole.
void seal_session(std::span<uint8_t> bytes);

}  // namespace flexq::test
