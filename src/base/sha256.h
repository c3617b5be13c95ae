// SHA-256 (FIPS 180-4) by libcrypto, which uses the CPU's SHA instructions.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

namespace flexq {

using Sha256Digest = std::array<uint8_t, 32>;

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(std::span<const uint8_t> bytes);
  Sha256Digest finish();  // once

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Sha256Digest sha256(std::span<const uint8_t> bytes);

}  // namespace flexq
