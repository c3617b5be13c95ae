// Keys and values of up to 16 tokens as a saved sequence holds them, token after token, against a
// page of the KV cache, head after head. A token: (n_layers, 2, n_kv_heads, head_dim) elements, 2
// standing for K and V; for kI8 the (n_layers, 2, n_kv_heads) fp16 scales behind them.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"
#include "device/device.h"

namespace flexq {

// The first n_tokens tokens of a page, to a block and back. page: (page_bytes(shape)); block:
// (n_tokens, bytes of a token). Where a block ends the page is left as it is.
void page_to_block(const ExecutorShape& shape, int32_t n_tokens, std::span<const uint8_t> page,
                   std::span<uint8_t> block);
void block_to_page(const ExecutorShape& shape, int32_t n_tokens, std::span<const uint8_t> block,
                   std::span<uint8_t> page);

// Whether a block holds what a cache can: finite numbers (kNonFinite), codes from -127 to 127, and
// scales of rows that were quantized (kCorrupt). first_token: the sequence's position of its first
// token, for messages. The block is aligned to 4 bytes.
Status check_block_values(const ExecutorShape& shape, std::span<const uint8_t> block,
                          int32_t first_token);

}  // namespace flexq
