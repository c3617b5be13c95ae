// The raw form of chunks, and the checks on their values where whole bundles do not reach.
#include "bundle/chunk_codec.h"

#include <doctest/doctest.h>

#include <random>

#include "bundle/bundle_parts.h"

namespace flexq::test {

TEST_CASE("chunk layout: scales follow the codes on the next even byte") {
  // rows, cols -> codes, scales at, raw
  ChunkLayout layout = chunk_layout(WeightFormat::kInt6Group, 64, 64);
  CHECK(layout.values_bytes == 4096);
  CHECK(layout.scales_offset == 4096);
  CHECK(layout.raw_bytes == 4096 + 128);
  layout = chunk_layout(WeightFormat::kInt6Group, 3, 129);  // two groups, odd number of codes
  CHECK(layout.values_bytes == 387);
  CHECK(layout.scales_offset == 388);
  CHECK(layout.raw_bytes == 388 + 12);
  layout = chunk_layout(WeightFormat::kF32, 3, 5);
  CHECK(layout.values_bytes == 60);
  CHECK(layout.raw_bytes == 60);
  CHECK(chunk_layout(WeightFormat::kInt6Group, int64_t{1} << 40, int64_t{1} << 40).raw_bytes == -1);
  CHECK(chunk_layout(WeightFormat::kF32, -1, 5).raw_bytes == -1);
}

TEST_CASE("the byte that aligns scales must be zero") {
  Bytes raw(388 + 12, uint8_t{0});
  CHECK(check_chunk_values(WeightFormat::kInt6Group, 0, 3, 129, raw).ok());
  raw[387] = 1;
  const Status status = check_chunk_values(WeightFormat::kInt6Group, 0, 3, 129, raw);
  CHECK(status.code() == StatusCode::kCorrupt);
  CHECK(status.message() == "byte between codes and scales is not zero");
}

TEST_CASE("a bad value is found at every position") {
  const int64_t n_cols = 129;
  const int64_t n_rows = 70;  // more than one block of the search
  const ChunkLayout layout = chunk_layout(WeightFormat::kInt6Group, n_rows, n_cols);
  Bytes raw(static_cast<size_t>(layout.raw_bytes), uint8_t{0});
  for (int64_t i = 0; i < layout.values_bytes; i += 7) {
    raw[static_cast<size_t>(i)] = 0x40;
    const Status status = check_chunk_values(WeightFormat::kInt6Group, 100, n_rows, n_cols, raw);
    CHECK(status.message() == "row " + std::to_string(100 + i / n_cols) + ", column " +
                                  std::to_string(i % n_cols) + ": code outside [-32, 31]");
    raw[static_cast<size_t>(i)] = 0;
  }
}

TEST_CASE("chunks are compressed only where it gains 2%") {
  ChunkCompressor compressor;
  Bytes noise(100'000);
  std::mt19937 random(3);
  for (uint8_t& byte : noise)
    byte = static_cast<uint8_t>(random());
  Bytes out(static_cast<size_t>(ChunkCompressor::bound(static_cast<int64_t>(noise.size()))));
  CHECK(*compressor.compress(noise, out) == 0);
  const Bytes zeros(100'000, uint8_t{0});
  const auto n = compressor.compress(zeros, out);
  CHECK(*n > 0);
  CHECK(*n < 100);

  const auto frame = std::span(out).first(static_cast<size_t>(*n));
  CHECK(check_frame(frame, 100'000).ok());
  CHECK_FALSE(check_frame(frame, 99'999).ok());
  ChunkDecompressor decompressor;
  Bytes decoded(100'000, uint8_t{1});
  CHECK(decompressor.decompress(frame, decoded).ok());
  CHECK(decoded == zeros);
}

}  // namespace flexq::test
