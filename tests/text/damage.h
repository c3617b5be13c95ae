// Files and segments damaged in every way: what is accepted must also work.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "text/text_fixtures.h"
#include "text/tokenizer_segment.h"

namespace flexq::test {

inline std::vector<uint8_t> serialize(const TokenizerData& data) {
  auto bytes = serialize_tokenizer(data);
  REQUIRE_MESSAGE(bytes.ok(), bytes.status().message());
  return std::move(bytes).value();
}

// Whatever was accepted must also work.
inline void use(Result<TokenizerData> data, int64_t& n_accepted) {
  if (!data.ok()) {
    REQUIRE(!data.status().message().empty());
    return;
  }
  ++n_accepted;
  auto tokenizer = Tokenizer::create(std::move(data).value());
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
  const auto ids = encode_text(**tokenizer, "Once  upon <s> \xF0\x9F\xA6\x99\xFF ");
  decode_ids(**tokenizer, ids);
}

template <typename Reader>
int64_t use_truncations(std::span<const uint8_t> bytes, size_t step, Reader read) {
  int64_t n_accepted = 0;
  for (size_t n_bytes = 0; n_bytes < bytes.size(); n_bytes += step) {
    // A copy of its own, so that a sanitizer sees any read beyond it.
    const std::vector<uint8_t> copy(bytes.begin(), bytes.begin() + static_cast<long>(n_bytes));
    use(read(copy), n_accepted);
  }
  return n_accepted;
}

template <typename Reader>
int64_t use_bit_flips(std::span<const uint8_t> bytes, Reader read, size_t step = 1) {
  int64_t n_accepted = 0;
  std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  for (size_t bit = 0; bit < copy.size() * 8; bit += step) {
    const uint8_t mask = static_cast<uint8_t>(1u << (bit % 8));
    copy[bit / 8] ^= mask;
    use(read(copy), n_accepted);
    copy[bit / 8] ^= mask;
  }
  return n_accepted;
}

template <typename Reader>
void use_random_damage(std::span<const uint8_t> bytes, int n_rounds, Reader read) {
  std::mt19937 random(13);
  int64_t n_accepted = 0;
  for (int round = 0; round < n_rounds; ++round) {
    std::vector<uint8_t> copy(bytes.begin(), bytes.end());
    for (uint32_t n = 1 + random() % 6; n > 0; --n) {
      const size_t at = random() % copy.size();
      copy[at] = static_cast<uint8_t>(random());
      if (random() % 4 == 0) copy.erase(copy.begin() + static_cast<long>(at));
    }
    use(read(copy), n_accepted);
  }
}

}  // namespace flexq::test
