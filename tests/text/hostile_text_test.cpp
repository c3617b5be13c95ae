// Texts meant to blow up an encoder: work and memory stay within n log n and n.
#include <doctest/doctest.h>
#include <malloc.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <new>

#include "text/every_tokenizer.h"
#include "text/utf8.h"

namespace {

std::atomic<int64_t> live_bytes{0};
std::atomic<int64_t> peak_bytes{0};

}  // namespace

// Counts what this program holds, to see how much one call of encode() needs.
void* operator new(size_t n_bytes) {
  void* memory = std::malloc(n_bytes);
  if (memory == nullptr) throw std::bad_alloc();
  const int64_t live = live_bytes += static_cast<int64_t>(malloc_usable_size(memory));
  if (live > peak_bytes) peak_bytes = live;
  return memory;
}
// std::stable_sort asks for its buffer this way and gives it back to the ordinary delete.
void* operator new(size_t n_bytes, const std::nothrow_t&) noexcept {
  try {
    return operator new(n_bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* memory) noexcept {
  live_bytes -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  operator delete(memory);
}

namespace flexq::test {
namespace {

constexpr size_t kTextBytes = size_t{1} << 20;

std::string repeat(std::string_view unit) {
  std::string text;
  text.reserve(kTextBytes + unit.size());
  while (text.size() < kTextBytes)
    text += unit;
  return text;
}

std::string random_bytes() {
  std::mt19937 random(1);
  std::string text(kTextBytes, '\0');
  for (char& byte : text)
    byte = static_cast<char>(random());
  return text;
}

// Characters after normalization: invalid bytes count as one each, plus the dummy prefix.
double count_symbols(std::string_view text) {
  double n = 1;
  while (!text.empty()) {
    text.remove_prefix(static_cast<size_t>(std::max(1, valid_character_bytes(text))));
    ++n;
  }
  return n;
}

}  // namespace

TEST_CASE("T23_hostile_texts through every tokenizer") {
  const std::pair<std::string, std::string> texts[] = {
      {"one letter", repeat("a")},
      {"spaces", repeat(" ")},
      {"emoji", repeat("\xF0\x9F\x98\x80")},
      {"CJK", repeat("\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E")},
      {"words", repeat("the quick brown fox jumps over the lazy dog ")},
      {"random bytes", random_bytes()},
      {"invalid UTF-8", repeat("\xE2\x96")},
  };
  for (const auto& [path, tokenizer] : every_tokenizer()) {
    for (const auto& [name, text] : texts) {
      const bool is_byte_level = tokenizer->data().kind == TokenizerKind::kByteLevelBpe;
      const double n = is_byte_level ? static_cast<double>(replace_invalid_utf8(text).size())
                                     : count_symbols(text);
      const int64_t live_before = live_bytes;
      peak_bytes = live_before;
      const auto start = std::chrono::steady_clock::now();
      EncodeCounters counters;
      const auto ids = tokenizer->encode(text, {}, &counters);
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      REQUIRE(ids.ok());
      const double bytes_per_symbol = static_cast<double>(peak_bytes - live_before) / n;
      MESSAGE(path << ", " << name << ": " << n << " symbols, " << counters.n_queue_operations
                   << " queue operations, " << bytes_per_symbol << " bytes per symbol, " << seconds
                   << " s");
      CHECK(static_cast<double>(counters.n_queue_operations) <= 4 * n * std::log2(n));
      // 20 bytes per symbol and 16 per queued pair, at most two of those; vectors that double
      // hold up to three times their size while they grow; the normalized text; the ids.
      CHECK(bytes_per_symbol <= 256);
      if (is_valid_utf8(text) && !tokenizer->data().remove_extra_whitespaces)
        CHECK(decode_ids(*tokenizer, *ids) == text);
    }
  }
}

TEST_CASE("a text beyond the limit is refused") {
  const auto tokenizer = load_tokenizer(source_path("samples/data/stories260k/tokenizer.model"));
  // Never read, so never backed by memory.
  const std::string_view too_long("", static_cast<size_t>(kMaxTextBytes) + 1);
  CHECK(tokenizer->encode(too_long).status().code() == StatusCode::kLimitExceeded);
}

}  // namespace flexq::test
