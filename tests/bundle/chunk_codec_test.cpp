// The raw form of chunks, and the checks on their values where whole bundles do not reach.
#include "bundle/chunk_codec.h"

#include <doctest/doctest.h>
#include <zstd.h>

#include <new>
#include <random>

#include "bundle/bundle_parts.h"
#include "reliability/allocation_faults.h"

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
  layout = chunk_layout(WeightFormat::kInt8Group, 3, 129);  // the same as in 6 bits
  CHECK(layout.scales_offset == 388);
  CHECK(layout.raw_bytes == 388 + 12);
  layout = chunk_layout(WeightFormat::kInt8Row, 3, 129);  // one scale per row
  CHECK(layout.values_bytes == 387);
  CHECK(layout.scales_offset == 388);
  CHECK(layout.raw_bytes == 388 + 6);
  layout = chunk_layout(WeightFormat::kF32, 3, 5);
  CHECK(layout.values_bytes == 60);
  CHECK(layout.raw_bytes == 60);
  CHECK(chunk_layout(WeightFormat::kInt6Group, int64_t{1} << 40, int64_t{1} << 40).raw_bytes == -1);
  CHECK(chunk_layout(WeightFormat::kF32, -1, 5).raw_bytes == -1);
  layout = chunk_layout(WeightFormat::kInt8Row, int64_t{1} << 62, 1);  // only with its scales
  CHECK(layout.values_bytes == -1);
  CHECK(layout.scales_offset == -1);
  CHECK(layout.raw_bytes == -1);
}

TEST_CASE("the byte that aligns scales must be zero") {
  for (const WeightFormat format :
       {WeightFormat::kInt6Group, WeightFormat::kInt8Group, WeightFormat::kInt8Row}) {
    Bytes raw(static_cast<size_t>(chunk_layout(format, 3, 129).raw_bytes), uint8_t{0});
    CHECK(check_chunk_values(format, 0, 3, 129, raw).ok());
    raw[387] = 1;
    const Status status = check_chunk_values(format, 0, 3, 129, raw);
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK(status.message() == "byte between codes and scales is not zero");
  }
}

TEST_CASE("every byte is an 8-bit code, and only the scales behind them can be wrong") {
  const int64_t n_cols = 256;
  for (const WeightFormat format : {WeightFormat::kInt8Group, WeightFormat::kInt8Row}) {
    const ChunkLayout layout = chunk_layout(format, 2, n_cols);
    Bytes raw(static_cast<size_t>(layout.raw_bytes), uint8_t{0});
    for (size_t i = 0; i < 256; ++i)
      raw[i] = static_cast<uint8_t>(i);
    CHECK(check_chunk_values(format, 0, 2, n_cols, raw).ok());
    raw.back() = 0x80;  // the sign of the last scale
    const int64_t group = format == WeightFormat::kInt8Group ? 1 : 0;
    CHECK(check_chunk_values(format, 16, 2, n_cols, raw).message() ==
          "row 17, group " + std::to_string(group) + ": scale is negative or not finite");
  }
}

TEST_CASE("values are judged in chunks of their size only, from the first scale to the last") {
  const ChunkLayout layout = chunk_layout(WeightFormat::kInt6Group, 2, 256);
  Bytes raw(static_cast<size_t>(layout.raw_bytes), uint8_t{0});
  CHECK(check_chunk_values(WeightFormat::kInt6Group, 0, 2, 256, raw).ok());
  for (int64_t i = 0; i < 4; ++i) {
    const size_t sign_at = static_cast<size_t>(layout.scales_offset + 2 * i + 1);
    raw[sign_at] = 0x80;
    CHECK(check_chunk_values(WeightFormat::kInt6Group, 0, 2, 256, raw).message() ==
          "row " + std::to_string(i / 2) + ", group " + std::to_string(i % 2) +
              ": scale is negative or not finite");
    raw[sign_at] = 0;
  }
  raw.push_back(0);
  const Status status = check_chunk_values(WeightFormat::kInt6Group, 0, 2, 256, raw);
  CHECK(status.code() == StatusCode::kInternal);
  CHECK(status.message() == "chunk of 521 bytes, expected 520");
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

TEST_CASE("a gain of exactly 2% is enough") {
  // Noise, which costs its size, in front of zeros, which cost next to nothing: one length of the
  // noise gives the frame that is wanted.
  ChunkCompressor compressor;
  Bytes raw(5000, uint8_t{0});
  Bytes out(static_cast<size_t>(ChunkCompressor::bound(5000)));
  std::mt19937 random(5);
  bool exact = false;
  for (size_t i = 0; i < raw.size() && !exact; ++i) {
    raw[i] = static_cast<uint8_t>(random());
    if (i < 4800) continue;
    exact = ZSTD_compress(out.data(), out.size(), raw.data(), raw.size(), 1) == 4900;
  }
  REQUIRE(exact);
  CHECK(*compressor.compress(raw, out) == 4900);
}

TEST_CASE("what zstd refuses, and why") {
  ChunkCompressor compressor;
  ChunkDecompressor decompressor;
  const Bytes raw(1000, uint8_t{7});
  Bytes frame(static_cast<size_t>(ChunkCompressor::bound(1000)));
  const Status no_room = compressor.compress(raw, std::span(frame).first(4)).status();
  CHECK(no_room.code() == StatusCode::kInternal);
  CHECK(no_room.message() == "zstd cannot compress 1000 bytes: Destination buffer is too small");

  frame.resize(static_cast<size_t>(*compressor.compress(raw, frame)));
  Bytes decoded(1001);
  const Status too_short = decompressor.decompress(frame, decoded);
  CHECK(too_short.code() == StatusCode::kCorrupt);
  CHECK(too_short.message() == "zstd frame decodes to 1000 bytes, expected 1001");
  const Status garbage = decompressor.decompress(raw, decoded);
  CHECK(garbage.code() == StatusCode::kCorrupt);
  CHECK(garbage.message() == "zstd frame does not decode: Unknown frame descriptor");
  CHECK(check_frame(std::span(frame).first(3), 1000).message() == "not a zstd frame");
  CHECK(check_frame(std::span(frame).first(4), 1000).message() == "damaged zstd frame header");
}

TEST_CASE("contexts of decompression are used again") {
  ChunkCompressor compressor;
  const Bytes raw(1000, uint8_t{7});
  Bytes frame(static_cast<size_t>(ChunkCompressor::bound(1000)));
  frame.resize(static_cast<size_t>(*compressor.compress(raw, frame)));
  Bytes decoded(1000);
  ChunkDecompressor decompressor;
  REQUIRE(decompressor.decompress(frame, decoded).ok());
  const AllocationFault none(Allocations::kHeap, INT64_MAX, false);
  CHECK(decompressor.decompress(frame, decoded).ok());
  CHECK(none.count() == 0);
}

TEST_CASE("no memory for a codec is out of memory") {
  const Bytes raw(1000, uint8_t{7});
  Bytes frame(static_cast<size_t>(ChunkCompressor::bound(1000)));
  frame.resize(static_cast<size_t>(*ChunkCompressor().compress(raw, frame)));
  // Runs `work` with the k-th allocation failing, for every k.
  const auto fail_each = [](auto work) {
    for (int64_t k = 0; k < 100; ++k) {
      StatusCode code = StatusCode::kOk;
      const AllocationFault fault(Allocations::kHeap, k, false);
      try {
        code = work().code();
      } catch (const std::bad_alloc&) {
        code = StatusCode::kOutOfMemory;
      }
      if (!fault.fired()) {
        CHECK(code == StatusCode::kOk);
        return;
      }
      CHECK(code == StatusCode::kOutOfMemory);
    }
    FAIL("more allocations than a codec should need");
  };
  Bytes out(static_cast<size_t>(ChunkCompressor::bound(1000)));
  fail_each([&] { return ChunkCompressor().compress(raw, out).status(); });
  fail_each([&] { return ChunkDecompressor().decompress(frame, std::span(out).first(1000)); });
}

}  // namespace flexq::test
