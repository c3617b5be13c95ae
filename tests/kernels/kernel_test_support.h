// Random operands, poisoned outputs and bitwise comparison for the kernel tests.
#pragma once

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/layout/w8_layout.h"

namespace flexq::test {

// Every table this processor can run, the portable one last. Says loudly which ones are skipped.
inline std::vector<const CpuKernels*> all_tables() {
  std::vector<const CpuKernels*> tables;
  for (const char* name : cpu_kernel_names()) {
    if (const CpuKernels* kernels = select_cpu_kernels(name)) {
      tables.push_back(kernels);
    } else {
      MESSAGE("SKIPPED: this processor cannot run the " << name << " kernels, they are not tested");
    }
  }
  return tables;
}

// Those that are compared with the portable one.
inline std::vector<const CpuKernels*> vector_tables() {
  std::vector<const CpuKernels*> tables = all_tables();
  tables.pop_back();
  return tables;
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // Uniform in [low, high].
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  bool chance(double probability) {
    return static_cast<double>(engine_() >> 11) * 0x1p-53 < probability;
  }
  float normal() { return normal_(engine_); }
  uint32_t bits() { return static_cast<uint32_t>(engine_() >> 32); }

  std::vector<float> normals(int64_t n) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values)
      value = normal();
    return values;
  }

  // Normal values with a share of special ones: zeros of both signs, subnormals, huge and tiny
  // values, and with `faults` infinities and NaN.
  std::vector<float> hard_values(int64_t n, bool faults) {
    static constexpr uint32_t kSpecial[] = {0x00000000, 0x80000000, 0x00000001, 0x807fffff,
                                            0x00800000, 0x7f7fffff, 0xfe000000, 0x1e3ce508,
                                            0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345};
    std::vector<float> values = normals(n);
    const double share = chance(0.5) ? 0.02 : 0.3;
    for (float& value : values) {
      if (chance(share)) value = std::bit_cast<float>(kSpecial[integer(0, faults ? 11 : 7)]);
    }
    return values;
  }

  std::vector<int8_t> codes(int64_t n, int64_t low, int64_t high) {
    std::vector<int8_t> values(static_cast<size_t>(n));
    for (int8_t& value : values)
      value = static_cast<int8_t>(integer(low, high));
    return values;
  }

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<float> normal_;
};

// All NaN count as one: the contract leaves their payload open.
inline uint32_t comparable_bits(float value) {
  return std::isnan(value) ? 0x7fc00000u : std::bit_cast<uint32_t>(value);
}

// Index of the first element whose bits differ, -1 when none does.
inline int64_t first_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (comparable_bits(a[i]) != comparable_bits(b[i])) return static_cast<int64_t>(i);
  }
  return -1;
}

inline std::string hex(float value) {
  char text[48];
  std::snprintf(text, sizeof(text), "%a (%08x)", static_cast<double>(value),
                std::bit_cast<uint32_t>(value));
  return text;
}

// Fails with the first mismatch as coordinates. stride: length of a row.
inline void check_same_bits(const std::vector<float>& expected, const std::vector<float>& found,
                            int64_t stride, const std::string& what) {
  const int64_t index = first_difference(expected, found);
  if (index < 0) return;
  FAIL_CHECK(what << ": row " << index / stride << ", column " << index % stride << ": expected "
                  << hex(expected[static_cast<size_t>(index)]) << ", found "
                  << hex(found[static_cast<size_t>(index)]));
}

constexpr uint32_t kPoisonBits = 0x7fdeadbeu;  // a NaN that no kernel makes

inline std::vector<float> poisoned(int64_t n) {
  return std::vector<float>(static_cast<size_t>(n), std::bit_cast<float>(kPoisonBits));
}

inline bool is_poison(float value) {
  return std::bit_cast<uint32_t>(value) == kPoisonBits;
}

// Fails unless exactly the columns [begin, end) of every row were written.
inline void check_written(const std::vector<float>& out, int64_t stride, int64_t begin, int64_t end,
                          const std::string& what) {
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t column = static_cast<int64_t>(i) % stride;
    const bool expected = column >= begin && column < end;
    if (expected == is_poison(out[i])) {
      FAIL_CHECK(what << ": row " << static_cast<int64_t>(i) / stride << ", column " << column
                      << (expected ? " was not written" : " was overwritten"));
      return;
    }
  }
}

// The two packed formats.
struct W6 {
  using Packed = PackedW6;
  static constexpr int64_t kLowest = -32, kHighest = 31;
  static constexpr const char* kName = "w6";
  static constexpr auto codes_bytes = w6::codes_bytes;
  static constexpr auto pack = w6::pack_w6_rows;
  static constexpr auto unpack = w6::unpack_w6_rows;
  static constexpr auto linear_int8 = &CpuKernels::linear_w6_int8;
  static constexpr auto linear_f32 = &CpuKernels::linear_w6_f32;
};
struct W8 {
  using Packed = PackedW8;
  static constexpr int64_t kLowest = -128, kHighest = 127;
  static constexpr const char* kName = "w8";
  static constexpr auto codes_bytes = w8::codes_bytes;
  static constexpr auto pack = w8::pack_w8_rows;
  static constexpr auto unpack = w8::unpack_w8_rows;
  static constexpr auto linear_int8 = &CpuKernels::linear_w8_int8;
  static constexpr auto linear_f32 = &CpuKernels::linear_w8_f32;
};

// A packed matrix with the unpacked data it came from.
template <typename Format>
struct PackedWeights {
  PackedWeights(std::vector<int8_t> unpacked_codes, std::vector<uint16_t> unpacked_scales,
                float multiplier, int64_t rows, int64_t cols)
      : n_rows(rows),
        n_cols(cols),
        scale_multiplier(multiplier),
        codes(std::move(unpacked_codes)),
        scales(std::move(unpacked_scales)),
        packed_codes(static_cast<size_t>(Format::codes_bytes(rows, cols)), uint8_t{0xaa}),
        packed_scales(static_cast<size_t>(w6::scales_bytes(rows, cols) / 2), uint16_t{0xaaaa}) {
    Format::pack(codes.data(), scales.data(), 0, rows, rows, cols, packed_codes.data(),
                 packed_scales.data());
  }
  // Random codes; scales of about 2^-7.
  static PackedWeights random(Random& random, int64_t rows, int64_t cols, float multiplier) {
    std::vector<uint16_t> scales(static_cast<size_t>(rows * w6::n_groups(cols)));
    for (uint16_t& scale : scales)
      scale = static_cast<uint16_t>(random.integer(0x1800, 0x2800));
    return PackedWeights(random.codes(rows * cols, Format::kLowest, Format::kHighest), scales,
                         multiplier, rows, cols);
  }
  typename Format::Packed view() const {
    return {packed_codes.data(), packed_scales.data(), scale_multiplier, n_rows, n_cols};
  }

  int64_t n_rows;
  int64_t n_cols;
  float scale_multiplier;
  std::vector<int8_t> codes;
  std::vector<uint16_t> scales;
  std::vector<uint8_t> packed_codes;
  std::vector<uint16_t> packed_scales;
};

// Quantized activations in the padded form the kernels take.
struct TestActivations {
  TestActivations(int64_t tokens, int64_t cols)
      : n_tokens(tokens),
        n_groups(w6::n_groups(cols)),
        codes(static_cast<size_t>(tokens * n_groups * w6::kGroupSize), int8_t{0}),
        scales(static_cast<size_t>(tokens * n_groups), 1.0f),
        sums(static_cast<size_t>(tokens * n_groups), 0) {}
  static TestActivations quantized(const CpuKernels& kernels, const std::vector<float>& x,
                                   int64_t tokens, int64_t cols, int32_t bits) {
    TestActivations result(tokens, cols);
    for (int64_t t = 0; t < tokens; ++t)
      kernels.quantize_row(x.data() + t * cols, cols, bits, result.row(t),
                           result.scales.data() + t * result.n_groups,
                           result.sums.data() + t * result.n_groups);
    return result;
  }
  int8_t* row(int64_t token) { return codes.data() + token * n_groups * w6::kGroupSize; }
  QuantizedRows view() const { return {codes.data(), scales.data(), sums.data()}; }

  int64_t n_tokens;
  int64_t n_groups;
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> sums;
};

}  // namespace flexq::test
