// Embedding, RMSNorm, SiLU and the quantizers on the GPU: quantized integers and scales exactly,
// norms within a bound from the number of roundings.
#include "cuda/int_linear_test_support.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/ref/reference_kernels.h"

using namespace flexq;
using namespace flexq::test;

namespace {

// Rows of n floats in rows `stride` apart, on both sides.
struct TestRows {
  TestRows(Random& random, int64_t n_rows, int64_t row_values, int64_t row_stride)
      : n(row_values),
        stride(row_stride),
        host(random.reals(n_rows * row_stride, -4.0f, 4.0f)),
        device(n_rows * row_stride) {
    // Magnitudes of real activations: most groups moderate, some tiny, some huge.
    for (int64_t row = 0; row < n_rows; ++row) {
      for (int64_t g = 0; g * kGroupSize < n; ++g) {
        const float factor = std::exp2(random.real(-20.0f, 12.0f));
        for (int64_t i = g * kGroupSize; i < std::min(n, (g + 1) * kGroupSize); ++i)
          host[static_cast<size_t>(row * stride + i)] *= factor;
      }
    }
    device.set(host);
  }
  CudaRows rows() const { return {device.data(), stride}; }

  int64_t n;
  int64_t stride;
  std::vector<float> host;
  DeviceArray<float> device;
};

std::vector<float> without_padding(const std::vector<float>& rows, int64_t stride, int64_t n) {
  std::vector<float> result;
  for (size_t begin = 0; begin < rows.size(); begin += static_cast<size_t>(stride))
    result.insert(result.end(), rows.begin() + static_cast<int64_t>(begin),
                  rows.begin() + static_cast<int64_t>(begin) + n);
  return result;
}

struct QuantizedOutput {
  QuantizedOutput(int64_t n_tokens, int64_t n)
      : groups(ref::n_groups(n)),
        codes(n_tokens * groups * kGroupSize),
        scales(n_tokens * groups) {}
  CudaQuantized get(CodesOrder order = CodesOrder::kNatural) const {
    return {codes.data(), scales.data(), order};
  }

  // x: the fp32 rows that were quantized, (n_tokens, n).
  void check(const std::vector<float>& x, int64_t n_tokens, int64_t n, int32_t bits,
             const std::string& what) const {
    const auto expected = ref::quantize_activations(x.data(), n_tokens, n, bits);
    const std::vector<int8_t> got = codes.get();
    const std::vector<float> got_scales = scales.get();
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t g = 0; g < groups; ++g) {
        const size_t index = static_cast<size_t>(t * groups + g);
        const float a = got_scales[index];
        const float b = expected.scales[index];
        REQUIRE_MESSAGE(
            (std::memcmp(&a, &b, 4) == 0 || (std::isnan(a) && std::isnan(b))),
            what << ": scale [" << t << ", " << g << "] is " << a << ", expected " << b);
        for (int64_t i = g * kGroupSize; i < (g + 1) * kGroupSize; ++i) {
          const int code = got[static_cast<size_t>(t * groups * kGroupSize + i)];
          const int want = i < n ? expected.codes[static_cast<size_t>(t * n + i)] : 0;
          REQUIRE_MESSAGE(code == want, what << ": code [" << t << ", " << i << "] is " << code
                                             << ", expected " << want);
        }
      }
    }
  }

  int64_t groups;
  DeviceArray<int8_t> codes;
  DeviceArray<float> scales;
};

constexpr int64_t kWidths[] = {1, 3, 64, 128, 172, 301, 1000, 2048, 4096, 5000, 11008};

}  // namespace

TEST_CASE("quantize: the CPU's integers, ties and limits included") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  Random random(1);
  for (const int64_t n : kWidths) {
    for (const int32_t bits : {6, 8}) {
      const int64_t n_tokens = random.integer(1, 9);
      TestRows x(random, n_tokens, n, n + random.integer(0, 1) * 7);
      // Row 0: halves and quarters of a scale of 1, so that quotients tie.
      const auto limit = static_cast<float>((1 << (bits - 1)) - 1);
      for (int64_t i = 0; i < n; ++i)
        x.host[static_cast<size_t>(i)] =
            i % kGroupSize == 0 ? limit
                                : static_cast<float>(random.integer(-2 * (1 << (bits - 1)),
                                                                    2 * (1 << (bits - 1)) - 1)) /
                                      2;
      if (n_tokens > 1) {
        x.host[static_cast<size_t>(x.stride)] = INFINITY;
        std::fill_n(x.host.begin() + x.stride + std::min<int64_t>(n, 128),
                    n - std::min<int64_t>(n, 128), 0.0f);
      }
      if (n_tokens > 2) x.host[static_cast<size_t>(2 * x.stride + n - 1)] = NAN;
      x.device.set(x.host);
      const QuantizedOutput out(n_tokens, n);
      check_cuda(cuda_quantize(launch, x.rows(), n, bits, n_tokens, out.get()));
      out.check(without_padding(x.host, x.stride, n), n_tokens, n, bits,
                "quantize " + std::to_string(n));
    }
  }
}

TEST_CASE("quantize: values around the borders between codes, scales of every size") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  Random random(3);
  constexpr int64_t kTokens = 2000;
  constexpr int64_t kWidth = 8 * kGroupSize;
  for (const int32_t bits : {6, 8}) {
    const auto limit = static_cast<float>((1 << (bits - 1)) - 1);
    TestRows x(random, kTokens, kWidth, kWidth);
    for (int64_t group = 0; group < kTokens * 8; ++group) {
      float* values = x.host.data() + group * kGroupSize;
      const float largest =
          std::ldexp(random.real(1.0f, 2.0f), static_cast<int>(random.integer(-20, 127)));
      const float scale = std::max(largest / limit, 1e-5f);
      values[0] = largest;
      for (int64_t i = 1; i < kGroupSize; ++i) {
        float value =
            (static_cast<float>(random.integer(0, static_cast<int64_t>(limit) - 1)) + 0.5f) * scale;
        for (int64_t ulps = random.integer(-3, 3); ulps != 0; ulps += ulps < 0 ? 1 : -1)
          value = std::nextafter(value, ulps < 0 ? 0.0f : INFINITY);
        values[i] = random.integer(0, 1) == 0 ? value : -value;
      }
    }
    x.device.set(x.host);
    const QuantizedOutput out(kTokens, kWidth);
    check_cuda(cuda_quantize(launch, x.rows(), kWidth, bits, kTokens, out.get()));
    out.check(x.host, kTokens, kWidth, bits, "quantize to " + std::to_string(bits) + " bits");
  }
}

TEST_CASE("quantize: codes and scales in tensor order are those in natural order, moved") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  Random random(5);
  const int64_t n = 1000;
  const int64_t n_tokens = 3;
  const TestRows x(random, n_tokens, n, n);
  const TestRows up(random, n_tokens, n, n);
  const DeviceArray<float> weight(random.reals(n, -2.0f, 2.0f));
  const auto check = [&](const char* what, auto quantize) {
    const QuantizedOutput natural(n_tokens, n);
    const QuantizedOutput tensor(n_tokens, n);
    check_cuda(quantize(natural.get()));
    check_cuda(quantize(tensor.get(CodesOrder::kTensor)));
    const std::vector<int8_t> expected = natural.codes.get();
    const std::vector<int8_t> got = tensor.codes.get();
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto col = static_cast<int32_t>(i % kGroupSize);
      const size_t place = i - static_cast<size_t>(col) +
                           static_cast<size_t>(cuda_int8::tensor_word(col / 4) * 4 + col % 4);
      REQUIRE_MESSAGE(got[place] == expected[i], what << ": code " << i << " is " << int{got[place]}
                                                      << ", expected " << int{expected[i]});
    }
    const std::vector<float> scales = natural.scales.get();
    const std::vector<float> tensor_scales = tensor.scales.get();
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t g = 0; g < natural.groups; ++g)
        REQUIRE(tensor_scales[static_cast<size_t>(g * n_tokens + t)] ==
                scales[static_cast<size_t>(t * natural.groups + g)]);
    }
  };
  check("quantize", [&](const CudaQuantized& out) {
    return cuda_quantize(launch, x.rows(), n, 6, n_tokens, out);
  });
  check("rms_norm_quantize", [&](const CudaQuantized& out) {
    return cuda_rms_norm_quantize(launch, x.rows(), weight.data(), n, 1e-5f, 6, n_tokens, out);
  });
  check("silu_mul_quantize", [&](const CudaQuantized& out) {
    return cuda_silu_mul_quantize(launch, x.rows(), up.rows(), n, 8, n_tokens, out);
  });
}

TEST_CASE("silu_mul: the CPU's bits, and quantized from them") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  Random random(2);
  for (const int64_t n : kWidths) {
    const int64_t n_tokens = random.integer(1, 5);
    const TestRows gate(random, n_tokens, n, n + random.integer(0, 4));
    const TestRows up(random, n_tokens, n, n + random.integer(0, 4));
    const QuantizedOutput out(n_tokens, n);
    const int32_t bits = random.integer(0, 1) == 0 ? 6 : 8;
    check_cuda(
        cuda_silu_mul_quantize(launch, gate.rows(), up.rows(), n, bits, n_tokens, out.get()));
    REQUIRE(std::memcmp(gate.device.get().data(), gate.host.data(), gate.host.size() * 4) == 0);
    check_cuda(cuda_silu_mul(launch, gate.rows(), up.rows(), n, n_tokens));
    const std::vector<float> got = gate.device.get();
    std::vector<float> expected(static_cast<size_t>(n_tokens * n));
    for (int64_t t = 0; t < n_tokens; ++t)
      portable_kernels().silu_mul(gate.host.data() + t * gate.stride,
                                  up.host.data() + t * up.stride, n, expected.data() + t * n);
    check_same_bits(got, gate.stride, expected, n, "silu_mul " + std::to_string(n));
    out.check(expected, n_tokens, n, bits, "silu_mul_quantize " + std::to_string(n));
    // Against double: exp and three more roundings, 1.2e-7 and 2^-24 each; where exp(-gate) is
    // infinite the result is 0, and subnormal quotients are 1e-45 apart.
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t i = 0; i < n; ++i) {
        const double g = gate.host[static_cast<size_t>(t * gate.stride + i)];
        const double u = up.host[static_cast<size_t>(t * up.stride + i)];
        const double want = g / (1 + std::exp(-g)) * u;
        const double value = expected[static_cast<size_t>(t * n + i)];
        const double bound =
            4e-7 * std::fabs(want) + 4e-39 * std::fabs(g * u) + 1e-45 * (std::fabs(u) + 1);
        REQUIRE_MESSAGE(std::fabs(value - want) <= bound, "silu_mul: [" << t << ", " << i << "] is "
                                                                        << value << ", expected "
                                                                        << want);
      }
    }
  }
}

TEST_CASE("rms_norm: within its roundings; quantized from the same bits") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  Random random(3);
  for (const int64_t n : kWidths) {
    const int64_t n_tokens = random.integer(1, 6);
    const TestRows x(random, n_tokens, n, n + random.integer(0, 4));
    const std::vector<float> weight = random.reals(n, -2.0f, 2.0f);
    const DeviceArray<float> device_weight(weight);
    const float eps = 1e-5f;
    DeviceArray<float> out(n_tokens * n);
    check_cuda(cuda_rms_norm(launch, x.rows(), nullptr, device_weight.data(), n, eps, n_tokens,
                             {out.data(), n}, nullptr));
    const std::vector<float> got = out.get();
    // A square passes n / 4096 * 4 + 4 fmas of its thread and 10 additions of the trees; their
    // relative error halves in the root, then a division by n, +eps, root, 1/., two products.
    const double u = std::ldexp(1.0, -24);
    const double bound =
        ((static_cast<double>(n) / 1024 + 4 + 10) / 2 + 1 + 0.5 + 1 + 1 + 2 + 1) * u;
    for (int64_t t = 0; t < n_tokens; ++t) {
      double sum = 0;
      for (int64_t i = 0; i < n; ++i)
        sum += std::pow(double{x.host[static_cast<size_t>(t * x.stride + i)]}, 2);
      const double inverse = 1 / std::sqrt(sum / static_cast<double>(n) + double{eps});
      for (int64_t i = 0; i < n; ++i) {
        const double want = x.host[static_cast<size_t>(t * x.stride + i)] * inverse *
                            double{weight[static_cast<size_t>(i)]};
        const double value = got[static_cast<size_t>(t * n + i)];
        REQUIRE_MESSAGE(std::fabs(value - want) <= bound * std::fabs(want) + 1e-37,
                        "rms_norm " << n << ": [" << t << ", " << i << "] is " << value
                                    << ", expected " << want << " within " << bound);
      }
    }
    for (const int32_t bits : {6, 8}) {
      const QuantizedOutput quantized(n_tokens, n);
      check_cuda(cuda_rms_norm_quantize(launch, x.rows(), device_weight.data(), n, eps, bits,
                                        n_tokens, quantized.get()));
      quantized.check(got, n_tokens, n, bits, "rms_norm_quantize " + std::to_string(n));
    }
    // Chosen rows, any order; a row alone has the bits it has among others.
    const std::vector<int32_t> rows = {static_cast<int32_t>(n_tokens - 1), 0};
    const DeviceArray<int32_t> device_rows(rows);
    DeviceArray<float> chosen(2 * n);
    check_cuda(cuda_rms_norm(launch, x.rows(), device_rows.data(), device_weight.data(), n, eps, 2,
                             {chosen.data(), n}, nullptr));
    std::vector<float> expected(got.end() - n, got.end());
    expected.insert(expected.end(), got.begin(), got.begin() + n);
    check_same_bits(chosen.get(), n, expected, n, "chosen rows " + std::to_string(n));
  }
}

TEST_CASE("rms_norm: an overflow reaches the output as NaN") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  for (const float fault : {1e30f, INFINITY, NAN}) {
    std::vector<float> x(300, 1.0f);
    x[200] = fault;
    const DeviceArray<float> device(x);
    const DeviceArray<float> weight(std::vector<float>(300, 1.0f));
    const DeviceArray<float> out(300);
    // The row between two flags that stay as they are.
    const DeviceArray<int32_t> flags(std::vector<int32_t>{7, 0, 7});
    check_cuda(cuda_rms_norm(launch, {device.data(), 300}, nullptr, weight.data(), 300, 1e-5f, 1,
                             {out.data(), 300}, flags.data() + 1));
    for (const float value : out.get())
      REQUIRE(std::isnan(value));
    CHECK(flags.get() == std::vector<int32_t>{7, 1, 7});
  }
}

TEST_CASE("embed: every format, exactly") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  Random random(4);
  for (const int64_t n_embd : {8, 64, 100, 2048, 5000}) {
    const int64_t n_vocab = 50;
    const int64_t stride = cuda_padded_cols(n_embd);
    const int64_t n_tokens = random.integer(1, 20);
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < n_tokens; ++i)
      tokens.push_back(static_cast<int32_t>(random.integer(0, n_vocab - 1)));
    const DeviceArray<int32_t> device_tokens(tokens);
    for (const WeightFormat format :
         {WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kBF16, WeightFormat::kInt8Row}) {
      const int64_t bytes = element_bytes(format);
      std::vector<uint8_t> table(static_cast<size_t>(n_vocab * stride * bytes));
      std::vector<float> values(static_cast<size_t>(n_vocab * stride));
      const std::vector<float> scales = random.reals(n_vocab, 0.001f, 0.1f);
      for (size_t i = 0; i < values.size(); ++i) {
        const float value = random.real(-3.0f, 3.0f);
        if (format == WeightFormat::kF32) {
          values[i] = value;
          std::memcpy(&table[i * 4], &value, 4);
        } else if (format == WeightFormat::kInt8Row) {
          const auto code = static_cast<int8_t>(value * 40);
          values[i] = code * scales[i / static_cast<size_t>(stride)];
          table[i] = static_cast<uint8_t>(code);
        } else {
          const uint16_t half = format == WeightFormat::kF16
                                    ? float_to_half(value)
                                    : static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
          values[i] = format == WeightFormat::kF16 ? half_to_float(half) : bf16_to_float(half);
          std::memcpy(&table[i * 2], &half, 2);
        }
      }
      const DeviceArray<uint8_t> device_table(table);
      const DeviceArray<float> device_scales(scales);
      CudaMatrix embedding;
      embedding.format = format;
      embedding.rows = n_vocab;
      embedding.cols = n_embd;
      embedding.values = device_table.data();
      embedding.scales = reinterpret_cast<const uint8_t*>(device_scales.data());
      const DeviceArray<float> x(n_tokens * (n_embd + 3));
      check_cuda(
          cuda_embed(launch, embedding, device_tokens.data(), n_tokens, {x.data(), n_embd + 3}));
      std::vector<float> expected;
      for (const int32_t token : tokens)
        expected.insert(expected.end(), values.begin() + token * stride,
                        values.begin() + token * stride + n_embd);
      check_same_bits(x.get(), n_embd + 3, expected, n_embd,
                      "embed format " + std::to_string(static_cast<int>(format)));
    }
  }
}
