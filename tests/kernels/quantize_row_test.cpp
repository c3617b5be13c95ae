// quantize_row of every table against the reference quantizer, on values where rounding, clamping
// and padding are easily wrong.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "kernels/kernel_test_support.h"
#include "kernels/ref/reference_kernels.h"

using namespace flexq;
using namespace flexq::test;

namespace {

void check_row(const std::vector<float>& x, int32_t bits, const std::string& what) {
  const int64_t n_cols = static_cast<int64_t>(x.size());
  const ref::QuantizedActivations expected = ref::quantize_activations(x.data(), 1, n_cols, bits);
  for (const CpuKernels* kernels : all_tables()) {
    CAPTURE(what);
    CAPTURE(kernels->name);
    TestActivations found(1, n_cols);
    found.codes.assign(found.codes.size(), int8_t{99});
    kernels->quantize_row(x.data(), n_cols, bits, found.codes.data(), found.scales.data(),
                          found.sums.data());
    REQUIRE(first_difference(expected.scales, found.scales) == -1);
    REQUIRE(expected.sums == found.sums);
    for (size_t k = 0; k < found.codes.size(); ++k) {
      CAPTURE(k);
      REQUIRE(int{found.codes[k]} == (k < x.size() ? int{expected.codes[k]} : 0));
    }
  }
}

}  // namespace

TEST_CASE("quantize_row: ties go to the even code") {
  for (const int32_t bits : {6, 8}) {
    const int32_t code_max = (1 << (bits - 1)) - 1;
    for (const float scale : {1.0f, 0.25f, 0x1p-10f, 3.0f, 0.1f}) {
      std::vector<float> x = {static_cast<float>(code_max) * scale};
      for (int32_t code = -code_max; code < code_max; ++code)
        x.push_back((static_cast<float>(code) + 0.5f) * scale);
      x.resize(128, 0.0f);
      check_row(x, bits, "ties");
      for (float& value : x)
        value = std::nextafter(value, 0.0f);
      check_row(x, bits, "below ties");
    }
  }
}

TEST_CASE("quantize_row: zeros, tiny values under the scale's lower bound, subnormals") {
  for (const int32_t bits : {6, 8}) {
    check_row(std::vector<float>(128, 0.0f), bits, "zeros");
    check_row(std::vector<float>(130, -0.0f), bits, "negative zeros");
    check_row(std::vector<float>(64, 1e-40f), bits, "subnormals");
    for (const float amax : {31e-5f, 127e-5f, 5e-6f, 1.5e-5f, 2.5e-5f}) {
      std::vector<float> x;
      for (int i = -64; i < 64; ++i)
        x.push_back(amax * static_cast<float>(i) / 64.0f);
      check_row(x, bits, "tiny");
      for (float& value : x)
        value = std::nextafter(value, 1.0f);
      check_row(x, bits, "tiny, next");
    }
    check_row(std::vector<float>(200, 3.4e38f), bits, "the largest");
  }
}

TEST_CASE("quantize_row: random rows of every length, values of all magnitudes") {
  Random random(7);
  for (int64_t n_cols = 1; n_cols <= 400; ++n_cols) {
    std::vector<float> x = random.normals(n_cols);
    const float magnitude = std::ldexp(1.0f, static_cast<int>(random.integer(-30, 30)));
    for (float& value : x)
      value *= magnitude;
    check_row(x, n_cols % 2 == 0 ? 6 : 8, "normal");
    for (float& value : x) {  // any finite bit pattern
      do {
        value = std::bit_cast<float>(random.bits());
      } while (!std::isfinite(value));
    }
    check_row(x, n_cols % 2 == 0 ? 8 : 6, "any bits");
  }
}

TEST_CASE("quantize_row: one fault spoils its own group only") {
  Random random(8);
  for (const uint32_t fault : {0x7f800000u, 0xff800000u, 0x7fc00000u, 0xff800001u}) {
    for (int round = 0; round < 40; ++round) {
      std::vector<float> x = random.normals(300);
      x[static_cast<size_t>(random.integer(0, 299))] = std::bit_cast<float>(fault);
      check_row(x, round % 2 == 0 ? 6 : 8, "fault");
    }
  }
}
