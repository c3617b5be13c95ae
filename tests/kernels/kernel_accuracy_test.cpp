// Every floating point kernel against the same formula in double, within a bound derived from the
// number of roundings: a sum of n terms in any order is within (roundings on the longest path) *
// 2^-24 * sum |terms| of the exact one.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/half.h"
#include "kernels/kernel_test_support.h"
#include "kernels/ref/reference_kernels.h"

using namespace flexq;
using namespace flexq::test;

namespace {

constexpr double kEpsilon = 0x1p-24;

struct Shape {
  int64_t n_tokens, n_rows, n_cols;
};

struct Bounded {
  double value;
  double bound;
};

void check_within(const std::vector<Bounded>& expected, const std::vector<float>& found,
                  int64_t stride, const std::string& what) {
  REQUIRE(expected.size() == found.size());
  for (size_t i = 0; i < found.size(); ++i) {
    const double error = std::fabs(static_cast<double>(found[i]) - expected[i].value);
    if (error <= expected[i].bound) continue;
    FAIL_CHECK(what << ": row " << static_cast<int64_t>(i) / stride << ", column "
                    << static_cast<int64_t>(i) % stride << ": expected " << expected[i].value
                    << ", found " << found[i] << ", error " << error << ", bound "
                    << expected[i].bound);
    return;
  }
}

// sum a[i] * b[i] with the bound for `roundings` of them on the longest path.
template <typename Term>
Bounded bounded_sum(int64_t n, double roundings, Term term) {
  double sum = 0;
  double magnitude = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += term(i);
    magnitude += std::fabs(term(i));
  }
  return {sum, roundings * kEpsilon * magnitude};
}

double at(const std::vector<float>& values, int64_t index) {
  return values[static_cast<size_t>(index)];
}

}  // namespace

TEST_CASE("accuracy: the W6A6 and W6A8 linear layer from float weights to output") {
  Random random(201);
  for (const Shape& shape :
       {Shape{1, 33, 172}, Shape{3, 16, 64}, Shape{5, 40, 2048}, Shape{9, 17, 5632}}) {
    const int64_t n_tokens = shape.n_tokens, n_rows = shape.n_rows, n_cols = shape.n_cols;
    const int64_t groups = w6::n_groups(n_cols);
    const float multiplier = 0x1p-6f;
    const std::vector<float> weights = random.normals(n_rows * n_cols);
    const ref::QuantizedWeights qw =
        ref::quantize_weights(weights.data(), n_rows, n_cols, multiplier);
    const TestWeights w(qw.codes, qw.scales, multiplier, n_rows, n_cols);
    const std::vector<float> x = random.normals(n_tokens * n_cols);
    for (const int32_t bits : {6, 8}) {
      const ref::QuantizedActivations qx =
          ref::quantize_activations(x.data(), n_tokens, n_cols, bits);
      const std::vector<double> exact = ref::linear(qx, qw, multiplier, n_tokens, n_rows, n_cols);
      const std::vector<int32_t> dots =
          ref::group_dots(qx.codes.data(), qw.codes.data(), n_tokens, n_rows, n_cols);
      std::vector<Bounded> expected;
      for (int64_t t = 0; t < n_tokens; ++t) {
        for (int64_t n = 0; n < n_rows; ++n) {
          // sx * sw rounds once, then one fma per group.
          const Bounded sum = bounded_sum(groups, static_cast<double>(groups + 1), [&](int64_t g) {
            const size_t row_group = static_cast<size_t>(n * groups + g);
            return at(qx.scales, t * groups + g) * ref::half_value(qw.scales[row_group]) *
                   multiplier * dots[static_cast<size_t>((t * n_rows + n) * groups + g)];
          });
          expected.push_back({exact[static_cast<size_t>(t * n_rows + n)], sum.bound});
        }
      }
      for (const CpuKernels* kernels : all_tables()) {
        const auto rows = TestActivations::quantized(*kernels, x, n_tokens, n_cols, bits);
        std::vector<float> out = poisoned(n_tokens * n_rows);
        kernels->linear_w6_int8(w.view(), rows.view(), n_tokens, 0, w6::n_blocks(n_rows),
                                out.data(), n_rows);
        check_within(expected, out, n_rows, std::string("linear_w6_int8 ") + kernels->name);
      }
    }
  }
}

TEST_CASE("accuracy: linear_w6_f32") {
  Random random(202);
  for (const Shape& shape : {Shape{1, 50, 172}, Shape{7, 16, 64}, Shape{2, 40, 2048}}) {
    const int64_t n_tokens = shape.n_tokens, n_rows = shape.n_rows, n_cols = shape.n_cols;
    const int64_t groups = w6::n_groups(n_cols);
    const TestWeights w = TestWeights::random(random, n_rows, n_cols, 0.5f);
    const std::vector<float> x = random.normals(n_tokens * n_cols);
    std::vector<Bounded> expected;
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t n = 0; n < n_rows; ++n) {
        // 128 fma in the group, one per group after.
        expected.push_back(bounded_sum(n_cols, static_cast<double>(128 + groups), [&](int64_t k) {
          const size_t row_group = static_cast<size_t>(n * groups + k / w6::kGroupSize);
          return at(x, t * n_cols + k) * w.codes[static_cast<size_t>(n * n_cols + k)] *
                 ref::half_value(w.scales[row_group]) * 0.5;
        }));
      }
    }
    for (const CpuKernels* kernels : all_tables()) {
      std::vector<float> out = poisoned(n_tokens * n_rows);
      kernels->linear_w6_f32(w.view(), x.data(), n_cols, n_tokens, 0, w6::n_blocks(n_rows),
                             out.data(), n_rows);
      check_within(expected, out, n_rows, std::string("linear_w6_f32 ") + kernels->name);
    }
  }
}

TEST_CASE("accuracy: linear_dense") {
  Random random(203);
  for (const Shape& shape : {Shape{1, 35, 172}, Shape{4, 5, 64}, Shape{3, 7, 2050}}) {
    const int64_t n_tokens = shape.n_tokens, n_rows = shape.n_rows, n_cols = shape.n_cols;
    const std::vector<float> w = random.normals(n_rows * n_cols);
    const std::vector<float> x = random.normals(n_tokens * n_cols);
    std::vector<uint16_t> halves;
    for (const float value : w)
      halves.push_back(float_to_half(value));
    for (const bool f16 : {false, true}) {
      std::vector<Bounded> expected;
      for (int64_t t = 0; t < n_tokens; ++t) {
        for (int64_t n = 0; n < n_rows; ++n) {
          // One fma per 16 columns, then four levels of the tree.
          const double roundings = static_cast<double>((n_cols + 15) / 16 + 4);
          expected.push_back(bounded_sum(n_cols, roundings, [&](int64_t k) {
            const size_t index = static_cast<size_t>(n * n_cols + k);
            const double weight = f16 ? ref::half_value(halves[index]) : double{w[index]};
            return at(x, t * n_cols + k) * weight;
          }));
        }
      }
      for (const CpuKernels* kernels : all_tables()) {
        std::vector<float> out = poisoned(n_tokens * n_rows);
        kernels->linear_dense(f16 ? static_cast<const void*>(halves.data()) : w.data(),
                              f16 ? DenseType::kF16 : DenseType::kF32, n_cols, x.data(), n_cols,
                              n_tokens, 0, n_rows, out.data(), n_rows);
        check_within(expected, out, n_rows, std::string("linear_dense ") + kernels->name);
      }
    }
  }
}

TEST_CASE("accuracy: rms_norm, silu_mul, rope") {
  Random random(204);
  for (const int64_t n : {2, 64, 172, 2048}) {
    const std::vector<float> x = random.normals(n);
    const std::vector<float> y = random.normals(n);
    double mean_square = 0;
    for (const float value : x)
      mean_square += double{value} * value / static_cast<double>(n);
    // The sum of squares enters through a square root: half its relative error.
    const double norm_error = (static_cast<double>((n + 15) / 16 + 7) / 2 + 5) * kEpsilon;
    std::vector<Bounded> norm;
    std::vector<Bounded> silu;
    std::vector<Bounded> rotated(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      const double normed = at(x, i) / std::sqrt(mean_square + 1e-5) * at(y, i);
      norm.push_back({normed, norm_error * std::fabs(normed)});
      const double gated = at(x, i) / (1 + std::exp(-at(x, i))) * at(y, i);
      silu.push_back({gated, (1.2e-7 + 4 * kEpsilon) * std::fabs(gated)});
    }
    for (int64_t i = 0; i < n / 2; ++i) {
      const double a = at(x, i), b = at(x, i + n / 2), c = at(y, i), s = at(y, i + n / 2);
      // Each product and the sum round once.
      rotated[static_cast<size_t>(i)] = {
          a * c - b * s, 2 * kEpsilon * (std::fabs(a * c) + std::fabs(b * s)) + 1e-40};
      rotated[static_cast<size_t>(i + n / 2)] = {
          b * c + a * s, 2 * kEpsilon * (std::fabs(b * c) + std::fabs(a * s)) + 1e-40};
    }
    for (const CpuKernels* kernels : all_tables()) {
      std::vector<float> out = poisoned(n);
      kernels->rms_norm(x.data(), y.data(), n, 1e-5f, out.data());
      check_within(norm, out, n, std::string("rms_norm ") + kernels->name);
      kernels->silu_mul(x.data(), y.data(), n, out.data());
      check_within(silu, out, n, std::string("silu_mul ") + kernels->name);
      out = x;
      kernels->rope(out.data(), y.data(), y.data() + n / 2, 1, n);
      check_within(rotated, out, n, std::string("rope ") + kernels->name);
    }
  }
}

TEST_CASE("accuracy: attention") {
  Random random(205);
  struct Case {
    int64_t head_dim, n_positions;
  };
  for (const Case& size : {Case{8, 1}, Case{10, 18}, Case{64, 37}, Case{128, 500}}) {
    const int64_t head_dim = size.head_dim, n_positions = size.n_positions;
    constexpr int64_t kPageTokens = 16;
    const int64_t n_pages = (n_positions + kPageTokens - 1) / kPageTokens;
    const int64_t page_elements = kPageTokens * head_dim;
    const std::vector<float> cache = random.normals(n_pages * page_elements * 2);
    const std::vector<float> q = random.normals(head_dim);
    const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
    std::vector<const uint8_t*> pages;
    for (int64_t i = 0; i < n_pages; ++i)
      pages.push_back(
          reinterpret_cast<const uint8_t*>(cache.data() + (n_pages - 1 - i) * page_elements * 2));
    const auto row = [&](int64_t position, bool value) {
      const int64_t page = n_pages - 1 - position / kPageTokens;
      return page * page_elements * 2 + (value ? page_elements : 0) +
             position % kPageTokens * head_dim;
    };
    std::vector<double> weights;
    double max_score = -1e300;
    double score_error = 0;
    for (int64_t p = 0; p < n_positions; ++p) {
      // dot16, the product with a rounded scale, and the subtraction of the maximum.
      const double roundings = static_cast<double>((head_dim + 15) / 16 + 4 + 4);
      const Bounded score = bounded_sum(head_dim, roundings, [&](int64_t d) {
        return at(q, d) * at(cache, row(p, false) + d) * scale;
      });
      weights.push_back(score.value);
      max_score = std::max(max_score, score.value);
      score_error = std::max(score_error, score.bound);
    }
    double sum = 0;
    for (double& weight : weights)
      sum += weight = std::exp(weight - max_score);
    // e is off by twice the error of a score and by exp's own; once in the numerator, once in the
    // sum; then one fma per position, sum16, the reciprocal and the product.
    const double relative = 2 * (2 * score_error + 1.2e-7) +
                            (static_cast<double>(n_positions + n_positions / 16) + 8) * kEpsilon;
    std::vector<Bounded> expected;
    for (int64_t d = 0; d < head_dim; ++d)
      expected.push_back(bounded_sum(n_positions, relative / kEpsilon, [&](int64_t p) {
        return weights[static_cast<size_t>(p)] / sum * at(cache, row(p, true) + d);
      }));
    for (const CpuKernels* kernels : all_tables()) {
      std::vector<float> out = poisoned(head_dim);
      std::vector<float> scores(static_cast<size_t>(n_pages * kPageTokens));
      AttentionArgs args;
      args.q = q.data();
      args.out = out.data();
      args.scores = scores.data();
      args.pages = pages.data();
      args.v_offset_bytes = page_elements * 4;
      args.page_tokens = kPageTokens;
      args.n_positions = n_positions;
      args.head_dim = head_dim;
      args.n_q = 1;
      args.scale = static_cast<float>(scale);
      args.kv_type = DenseType::kF32;
      kernels->attention(args);
      check_within(expected, out, head_dim, std::string("attention ") + kernels->name);
    }
  }
}

TEST_CASE("the reference quantizer: every weight is within half a step, or clamped") {
  Random random(206);
  const std::vector<float> w = random.normals(8 * 300);
  const ref::QuantizedWeights q = ref::quantize_weights(w.data(), 8, 300, 0x1p-3f);
  for (int64_t n = 0; n < 8; ++n) {
    for (int64_t k = 0; k < 300; ++k) {
      const double step = ref::half_value(q.scales[static_cast<size_t>(n * 3 + k / 128)]) * 0.125;
      const int code = q.codes[static_cast<size_t>(n * 300 + k)];
      const double error = at(w, n * 300 + k) - code * step;
      // The stored scale may be up to 2^-11 below max / 31: the largest weight then lies past 31.
      REQUIRE(std::fabs(error) <= step * (code == 31 || code == -32 ? 0.52 : 0.5 + 1e-6));
    }
  }
}
