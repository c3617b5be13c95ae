// No damaged byte gets through, and none does harm.
#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "bundle/bundle_parts.h"

namespace flexq::test {
namespace {

// What a damaged file may be refused with: never ok, never a status that blames anything else.
bool is_clean_refusal(const Status& status) {
  return status.code() == StatusCode::kCorrupt ||
         status.code() == StatusCode::kUnsupportedVersion ||
         status.code() == StatusCode::kLimitExceeded || status.code() == StatusCode::kSignature;
}

// Runs body(i) for every i below `count` on two threads; returns the first i that failed, or -1.
template <typename Body>
int64_t first_failure(int64_t count, Body body) {
  constexpr int kThreads = 2;
  std::atomic<int64_t> failure{INT64_MAX};
  const auto run = [&](int thread) {
    for (int64_t i = thread; i < count && failure.load() == INT64_MAX; i += kThreads)
      if (!body(i, thread)) failure.store(i);
  };
  std::thread other(run, 1);
  run(0);
  other.join();
  return failure.load() == INT64_MAX ? -1 : failure.load();
}

}  // namespace

TEST_CASE("the bundle that is damaged below loads, and has 64 KiB") {
  CHECK(tiny_bundle().size() == 65'536);
  const Status status = load(tiny_bundle());
  CHECK_MESSAGE(status.ok(), status.message());
}

TEST_CASE("T1_truncations: every truncation of a 64 KiB bundle is refused") {
  const Bytes& bundle = tiny_bundle();
  const int64_t size = static_cast<int64_t>(bundle.size());
  CHECK(first_failure(size, [&](int64_t n_bytes, int) {
          // An exact copy, so that a sanitizer sees one byte too many.
          const Bytes cut(bundle.begin(), bundle.begin() + n_bytes);
          return is_clean_refusal(load(cut));
        }) == -1);
}

TEST_CASE("T1_truncations: the header agrees with the truncated size") {
  const BundleParts parts = take_apart(tiny_bundle());
  const int64_t size = static_cast<int64_t>(tiny_bundle().size());
  CHECK(first_failure(size - parts.header.segment_base, [&](int64_t n_bytes, int) {
          const int64_t n_kept = parts.header.segment_base + n_bytes;
          Bytes cut(tiny_bundle().begin(), tiny_bundle().begin() + n_kept);
          std::memcpy(cut.data() + 40, &n_kept, 8);
          rehash(cut);
          return is_clean_refusal(load(cut));
        }) == -1);
}

TEST_CASE("T2_bit_flips: every single-bit flip of a 64 KiB bundle is refused") {
  Bytes copies[2] = {tiny_bundle(), tiny_bundle()};
  const int64_t n_bits = static_cast<int64_t>(tiny_bundle().size()) * 8;
  CHECK(first_failure(n_bits, [&](int64_t bit, int thread) {
          uint8_t& byte = copies[thread][static_cast<size_t>(bit / 8)];
          const uint8_t mask = static_cast<uint8_t>(1u << (bit % 8));
          byte ^= mask;
          const bool refused = is_clean_refusal(load(copies[thread]));
          byte ^= mask;
          return refused;
        }) == -1);
}

}  // namespace flexq::test
