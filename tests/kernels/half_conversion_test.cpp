// fp16 and bf16 conversions of every table against base/half.h and the reference.
#include <doctest/doctest.h>

#include <cmath>

#include "base/half.h"
#include "kernels/kernel_test_support.h"
#include "kernels/ref/reference_kernels.h"

using namespace flexq;
using namespace flexq::test;

namespace {

std::vector<uint16_t> all_bit_patterns() {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i)
    bits[i] = static_cast<uint16_t>(i);
  return bits;
}

// Every half, the midpoints between neighbours, the floats beside both, and random bits.
std::vector<float> hard_floats() {
  std::vector<float> values;
  for (uint32_t i = 0; i < 0x7c00; ++i) {
    const double low = ref::half_value(static_cast<uint16_t>(i));
    const double high = i + 1 == 0x7c00 ? 65536.0 : ref::half_value(static_cast<uint16_t>(i + 1));
    for (const double value : {low, (low + high) / 2}) {
      const float exact = static_cast<float>(value);
      for (const float x : {exact, std::nextafter(exact, 1e30f), std::nextafter(exact, -1e30f)}) {
        values.push_back(x);
        values.push_back(-x);
      }
    }
  }
  Random random(3);
  for (int i = 0; i < 500000; ++i)
    values.push_back(std::bit_cast<float>(random.bits()));
  return values;
}

}  // namespace

TEST_CASE("float_to_half: the bits of base/half.h, and the nearest half for finite values") {
  const std::vector<float> x = hard_floats();
  for (const CpuKernels* kernels : all_tables()) {
    std::vector<uint16_t> out(x.size());
    kernels->float_to_half(x.data(), static_cast<int64_t>(x.size()), out.data());
    for (size_t i = 0; i < x.size(); ++i) {
      if (out[i] == float_to_half(x[i]) &&
          (!std::isfinite(x[i]) || out[i] == ref::nearest_half(static_cast<double>(x[i]))))
        continue;
      FAIL(kernels->name << ": " << hex(x[i]) << " gave " << out[i] << ", base/half.h "
                         << float_to_half(x[i]));
    }
  }
}

TEST_CASE("half_to_float and bf16_to_float: all 65536 bit patterns, and there and back") {
  const std::vector<uint16_t> bits = all_bit_patterns();
  for (const CpuKernels* kernels : all_tables()) {
    CAPTURE(kernels->name);
    std::vector<float> halves(bits.size());
    std::vector<float> bf16s(bits.size());
    std::vector<uint16_t> back(bits.size());
    kernels->half_to_float(bits.data(), 65536, halves.data());
    kernels->bf16_to_float(bits.data(), 65536, bf16s.data());
    kernels->float_to_half(halves.data(), 65536, back.data());
    for (size_t i = 0; i < bits.size(); ++i) {
      CAPTURE(i);
      const double expected = ref::half_value(bits[i]);
      REQUIRE(comparable_bits(halves[i]) == comparable_bits(static_cast<float>(expected)));
      REQUIRE(comparable_bits(bf16s[i]) ==
              comparable_bits(std::bit_cast<float>(static_cast<uint32_t>(i) << 16)));
      if (!std::isnan(halves[i])) REQUIRE(back[i] == bits[i]);
    }
  }
}

TEST_CASE("conversions: every length, nothing past the end is touched") {
  Random random(4);
  for (const CpuKernels* kernels : all_tables()) {
    CAPTURE(kernels->name);
    for (int64_t n = 0; n <= 40; ++n) {
      const std::vector<float> x = random.normals(n);
      std::vector<uint16_t> halves(static_cast<size_t>(n));
      kernels->float_to_half(x.data(), n, halves.data());
      std::vector<uint16_t> guarded(static_cast<size_t>(n + 9), uint16_t{0xabcd});
      kernels->float_to_half(x.data(), n, guarded.data());
      for (size_t i = 0; i < guarded.size(); ++i)
        REQUIRE(guarded[i] == (i < halves.size() ? float_to_half(x[i]) : 0xabcd));
      std::vector<float> out = poisoned(n + 9);
      kernels->half_to_float(halves.data(), n, out.data());
      check_written(out, n + 9, 0, n, "half_to_float");
      out = poisoned(n + 9);
      kernels->bf16_to_float(halves.data(), n, out.data());
      check_written(out, n + 9, 0, n, "bf16_to_float");
    }
  }
}
