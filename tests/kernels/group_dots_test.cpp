// T25: int32 group dots of every CPU table equal the reference, for 6- and 8-bit weights, through
// linear_w6_int8 and linear_w8_int8 themselves: with
// all scales 1 and one group of activations that is not zero the fp32 output is the integer.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/kernel_test_support.h"
#include "kernels/ref/reference_kernels.h"

using namespace flexq;
using namespace flexq::test;

namespace {

struct Shape {
  int64_t n_tokens;
  int64_t n_rows;
  int64_t n_cols;
};

// Small, odd and ragged, with the sizes where kernels change their path among them.
Shape random_shape(Random& random) {
  static constexpr int64_t kTokens[] = {1, 2, 3, 5, 7, 11, 12, 13};
  Shape shape = {kTokens[random.integer(0, 7)], random.integer(1, 50), random.integer(1, 300)};
  if (random.chance(0.005)) shape.n_tokens = random.integer(60, 140);
  if (random.chance(0.2)) shape.n_cols = std::max<int64_t>(1, shape.n_cols / 64 * 64);
  return shape;
}

// Codes in the whole range, or all near one end, where 16-bit sums would overflow first.
std::vector<int8_t> random_codes(Random& random, int64_t n, int64_t low, int64_t high) {
  const int64_t kind = random.integer(0, 9);
  if (kind == 0) return random.codes(n, low, low);
  if (kind == 1) return random.codes(n, high, high);
  if (kind == 2) return random.codes(n, low, low + 1);
  return random.codes(n, low, high);
}

template <typename Format>
void check_shape(Random& random, const std::vector<const CpuKernels*>& tables) {
  const Shape shape = random_shape(random);
  const int64_t groups = w6::n_groups(shape.n_cols);
  const PackedWeights<Format> w(
      random_codes(random, shape.n_rows * shape.n_cols, Format::kLowest, Format::kHighest),
      std::vector<uint16_t>(static_cast<size_t>(shape.n_rows * groups), 0x3c00), 1.0f, shape.n_rows,
      shape.n_cols);
  const bool eight_bits = random.chance(0.7);
  std::vector<int8_t> x_codes = random_codes(random, shape.n_tokens * shape.n_cols,
                                             eight_bits ? -128 : -32, eight_bits ? 127 : 31);
  const int64_t live_group = random.integer(0, groups - 1);
  TestActivations x(shape.n_tokens, shape.n_cols);
  for (int64_t t = 0; t < shape.n_tokens; ++t) {
    for (int64_t k = 0; k < shape.n_cols; ++k) {
      int8_t& code = x_codes[static_cast<size_t>(t * shape.n_cols + k)];
      if (k / w6::kGroupSize != live_group) code = 0;
      x.row(t)[k] = code;
      x.sums[static_cast<size_t>(t * groups + k / w6::kGroupSize)] += code;
    }
  }
  const std::vector<int32_t> dots =
      ref::group_dots(x_codes.data(), w.codes.data(), shape.n_tokens, shape.n_rows, shape.n_cols);
  const int64_t blocks = w6::n_blocks(shape.n_rows);
  const int64_t block_begin = random.integer(0, blocks - 1);
  const int64_t block_end = random.integer(block_begin + 1, blocks);
  const int64_t row_begin = block_begin * w6::kUnitRows;
  const int64_t row_end = std::min(shape.n_rows, block_end * w6::kUnitRows);
  const int64_t stride = blocks * w6::kUnitRows + random.integer(0, 5);
  std::vector<float> expected = poisoned(shape.n_tokens * stride);
  for (int64_t t = 0; t < shape.n_tokens; ++t) {
    for (int64_t n = row_begin; n < row_end; ++n)
      expected[static_cast<size_t>(t * stride + n)] = static_cast<float>(
          dots[static_cast<size_t>((t * shape.n_rows + n) * groups + live_group)]);
  }
  for (const CpuKernels* kernels : tables) {
    std::vector<float> out = poisoned(shape.n_tokens * stride);
    (kernels->*Format::linear_int8)(w.view(), x.view(), shape.n_tokens, block_begin, block_end,
                                    out.data(), stride);
    if (std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)) == 0) continue;
    const std::string what =
        std::string(kernels->name) + " " + Format::kName + " M=" + std::to_string(shape.n_tokens) +
        " N=" + std::to_string(shape.n_rows) + " K=" + std::to_string(shape.n_cols);
    check_written(out, stride, row_begin, row_end, what);
    check_same_bits(expected, out, stride, what);
    FAIL("memcmp differs: " << what);
  }
}

}  // namespace

TEST_CASE("T25_int32_group_dots: 10,000 random shapes per format, memcmp with the reference") {
  Random random(25);
  const std::vector<const CpuKernels*> tables = all_tables();
  for (int round = 0; round < 10000; ++round) {
    check_shape<W6>(random, tables);
    check_shape<W8>(random, tables);
  }
}
