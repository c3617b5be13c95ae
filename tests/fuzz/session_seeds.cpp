#include <limits>
#include <span>
#include <vector>

#include "base/little_endian.h"
#include "fuzz/seeds.h"
#include "runtime/session_header.h"
#include "runtime/small_session.h"

namespace flexq::test {
namespace {

constexpr size_t kFieldBytes = 60;
constexpr size_t kTokensAt = 24;
constexpr size_t kVocabAt = 44;
constexpr size_t kNoteBytesAt = 48;
constexpr size_t kSeedFront = 1 + kFieldBytes;  // where the tokens of a seed begin
constexpr int32_t kTokens = 19;
constexpr std::string_view kNote = "a note";

std::vector<uint8_t> session_of(KvType kv_type) {
  const auto context = session_context(small_session_model(), kv_type);
  fill_sequence(*context, 0, kTokens);
  const auto status =
      context->set_note(0, {reinterpret_cast<const uint8_t*>(kNote.data()), kNote.size()});
  if (!status.ok()) return {};
  return saved_sequence(*context, 0);
}

// Without what the target puts in: see session_state_target.cpp.
std::string seed_of(uint8_t mode, std::span<const uint8_t> session) {
  constexpr size_t kFrontBytes =
      static_cast<size_t>(kSessionHeaderBytes) + 4 * kTokens + kNote.size();
  constexpr size_t kHashBytes = 2 * sizeof(Sha256Digest);
  std::string seed(1, static_cast<char>(mode));
  const auto add = [&](std::span<const uint8_t> part) { seed.append(part.begin(), part.end()); };
  add(session.first(kFieldBytes));
  add(session.subspan(kSessionHeaderBytes, kFrontBytes - kSessionHeaderBytes));
  add(session.subspan(kFrontBytes + kHashBytes));
  return seed;
}

template <typename T>
std::string with_field(std::string seed, size_t at, T value) {
  const std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(seed.data()), seed.size());
  store_little_endian(bytes, 1 + at, value);
  return seed;
}

}  // namespace

void add_session_seeds(Seeds& seeds) {
  const std::string folder = "session_state/";
  for (const auto& [kv_type, name] :
       {std::pair(KvType::kF16, "f16"), std::pair(KvType::kF32, "f32"),
        std::pair(KvType::kI8, "i8")}) {
    const std::vector<uint8_t> session = session_of(kv_type);
    const auto mode = static_cast<uint8_t>(kv_type);
    seeds[folder + "valid_" + name] = seed_of(mode, session);
    seeds[folder + "valid_" + name + "_as_it_is"] =
        static_cast<char>(mode | 8) + std::string(session.begin(), session.end());
  }
  const std::vector<uint8_t> session = session_of(KvType::kF16);
  const std::string seed = seed_of(0, session);
  const auto refused = [&](const std::string& name, const std::string& bytes) {
    seeds[folder + "refused_" + name] = bytes;
  };
  refused("other_kv_type", std::string(1, '\x02') + seed.substr(1));
  refused("other_model", std::string(1, '\x20') + seed.substr(1));
  refused("size", with_field(std::string(1, '\x10') + seed.substr(1), 16, int64_t{1}));
  refused("cut", std::string(1, '\x08') + std::string(session.begin(), session.end() - 1));
  refused("no_tokens", with_field(seed, kTokensAt, int32_t{0}));
  refused("tokens_negative", with_field(seed, kTokensAt, int32_t{-1}));
  refused("tokens_huge", with_field(seed, kTokensAt, std::numeric_limits<int32_t>::max()));
  refused("tokens_beyond_context", with_field(seed, kTokensAt, int32_t{64}));
  refused("note_negative", with_field(seed, kNoteBytesAt, int64_t{-1}));
  refused("note_wraps", with_field(seed, kNoteBytesAt, std::numeric_limits<int64_t>::max()));
  refused("layers_huge", with_field(seed, 32, std::numeric_limits<int32_t>::max()));
  refused("zero_dimension", with_field(seed, 40, int32_t{0}));
  refused("vocabulary", with_field(seed, kVocabAt, int32_t{25}));
  refused("token_outside", with_field(seed, kFieldBytes, int32_t{24}));
  refused("token_negative", with_field(seed, kFieldBytes, int32_t{-1}));
  refused("nan", with_field(seed, seed.size() - 3, uint16_t{0x7e00}));
  refused("infinity", with_field(seed, seed.size() - 3, uint16_t{0xfc00}));
  const std::string int8_seed = seed_of(2, session_of(KvType::kI8));
  refused("scale_nan", with_field(int8_seed, int8_seed.size() - 3, uint16_t{0x7e00}));
  refused("scale_zero", with_field(int8_seed, int8_seed.size() - 3, uint16_t{0}));
  refused("scale_negative", with_field(int8_seed, int8_seed.size() - 3, uint16_t{0xbc00}));
  refused("code", with_field(int8_seed, kSeedFront + 4 * kTokens + kNote.size() - 1, int8_t{-128}));
}

}  // namespace flexq::test
