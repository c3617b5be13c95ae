// cuda_linear_float against sums in double, and its promise that a token's bits do not depend on
// the tokens beside it.
#include <limits>
#include <thread>

#include "cuda/float_test_support.h"
#include "kernels/layout/cuda_int8_layout.h"

namespace flexq {
namespace {

using test::DeviceArray;
using test::Normals;

constexpr WeightFormat kFormats[] = {WeightFormat::kF32,       WeightFormat::kF16,
                                     WeightFormat::kBF16,      WeightFormat::kInt6Group,
                                     WeightFormat::kInt8Group, WeightFormat::kInt8Row};
const char* const kFormatNames[] = {"f32", "f16", "bf16", "int6 group", "int8 group", "int8 row"};

uint16_t nearest_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// A random matrix as the device stores it, and its values.
struct HostMatrix {
  WeightFormat format;
  int64_t rows;
  int64_t cols;
  float scale_multiplier = 1.0f;
  std::vector<double> weights;  // (rows, cols)
  std::vector<uint8_t> values;
  std::vector<uint8_t> scales;
};

template <typename T>
void append(std::vector<uint8_t>& bytes, T value) {
  const size_t at = bytes.size();
  bytes.resize(at + sizeof(T));
  std::memcpy(&bytes[at], &value, sizeof(T));
}

void pack_dense_row(HostMatrix& matrix, Normals& random) {
  for (int64_t k = 0; k < cuda_padded_cols(matrix.cols); ++k) {
    const float value = k < matrix.cols ? random() : 0.0f;
    float stored = value;
    if (matrix.format == WeightFormat::kF32) {
      append(matrix.values, value);
    } else if (matrix.format == WeightFormat::kF16) {
      append(matrix.values, float_to_half(value));
      stored = half_to_float(float_to_half(value));
    } else {
      append(matrix.values, nearest_bf16(value));
      stored = bf16_to_float(nearest_bf16(value));
    }
    if (k < matrix.cols) matrix.weights.push_back(stored);
  }
}

void pack_int8_row(HostMatrix& matrix, Normals& random) {
  const auto scale = 0.01f + std::fabs(random()) * 0.01f;
  append(matrix.scales, scale);
  for (int64_t k = 0; k < cuda_padded_cols(matrix.cols); ++k) {
    const auto code = static_cast<int8_t>(k < matrix.cols ? random.integer(-128, 127) : 0);
    append(matrix.values, code);
    if (k < matrix.cols) matrix.weights.push_back(static_cast<double>(code) * scale);
  }
}

void pack_grouped(HostMatrix& matrix, Normals& random) {
  namespace layout = cuda_int8;
  const int32_t bits = weight_bits(matrix.format);
  const int64_t groups = layout::n_groups(matrix.cols);
  matrix.scale_multiplier = 0.5f;
  matrix.weights.resize(static_cast<size_t>(matrix.rows * matrix.cols));
  matrix.values.assign(static_cast<size_t>(layout::codes_bytes(matrix.rows, matrix.cols, bits)), 0);
  matrix.scales.assign(static_cast<size_t>(layout::scales_bytes(matrix.rows, matrix.cols)), 0);
  const int32_t code_max = max_weight_code(matrix.format);
  for (int64_t row = 0; row < matrix.rows; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t unit = row / layout::kUnitRows * groups + group;
      const uint16_t scale = float_to_half(0.01f + std::fabs(random()) * 0.01f);
      std::memcpy(&matrix.scales[static_cast<size_t>(
                      (unit * layout::kUnitRows + row % layout::kUnitRows) * 2)],
                  &scale, 2);
      uint8_t* codes = &matrix.values[static_cast<size_t>(unit * layout::unit_bytes(bits))];
      for (int64_t col = 0; col < kGroupSize && group * kGroupSize + col < matrix.cols; ++col) {
        const auto code = static_cast<int32_t>(random.integer(-code_max - 1, code_max));
        const layout::Place place = layout::place_of(static_cast<int32_t>(row % layout::kUnitRows),
                                                     static_cast<int32_t>(col));
        if (bits == 8) {
          codes[layout::code_byte(place)] = static_cast<uint8_t>(code);
        } else {
          for (int32_t pair = 0; pair < 3; ++pair) {
            const layout::BitPlace at = layout::pair_place(place, pair);
            codes[at.byte] |= static_cast<uint8_t>((code >> 2 * pair & 3) << at.bit);
          }
        }
        matrix.weights[static_cast<size_t>(row * matrix.cols + group * kGroupSize + col)] =
            static_cast<double>(code) * half_to_float(scale) * matrix.scale_multiplier;
      }
    }
  }
}

HostMatrix random_matrix(WeightFormat format, int64_t rows, int64_t cols, Normals& random) {
  HostMatrix matrix{format, rows, cols, 1.0f, {}, {}, {}};
  if (is_grouped(format)) {
    pack_grouped(matrix, random);
    return matrix;
  }
  for (int64_t row = 0; row < rows; ++row)
    format == WeightFormat::kInt8Row ? pack_int8_row(matrix, random)
                                     : pack_dense_row(matrix, random);
  return matrix;
}

// A matrix in device memory.
struct DeviceWeights {
  explicit DeviceWeights(const HostMatrix& host) : values(host.values), scales(host.scales) {
    matrix.format = host.format;
    matrix.rows = host.rows;
    matrix.cols = host.cols;
    matrix.values = values.data();
    matrix.scales = scales.data();
    matrix.scale_multiplier = host.scale_multiplier;
  }
  DeviceArray<uint8_t> values;
  DeviceArray<uint8_t> scales;
  CudaMatrix matrix;
};

struct Call {
  int64_t first_token = 0;
  int64_t n_tokens = 0;
  CudaStore store = CudaStore::kSet;
};

struct Problem {
  int64_t rows;
  int64_t cols;
  int64_t n_tokens;
  int64_t x_stride;
  int64_t out_stride;
};

// Rows [first_token, first_token + n_tokens) of x through the layer, into the same rows of `out`.
void run(const CudaLaunch& launch, const Problem& problem, const CudaMatrix& matrix,
         DeviceArray<float>& x, DeviceArray<float>* bias, DeviceArray<float>& out,
         const Call& call) {
  const cudaError_t error = cuda_linear_float(
      launch, matrix, {x.data() + call.first_token * problem.x_stride, problem.x_stride},
      call.n_tokens, bias != nullptr ? bias->data() : nullptr, call.store,
      {out.data() + call.first_token * problem.out_stride, problem.out_stride}, nullptr);
  REQUIRE_MESSAGE(error == cudaSuccess, cudaGetErrorString(error));
}

struct Expected {
  double value;
  double bound;
};

// Rounding to TF32 costs 2^-11 of a factor: of every activation, and of fp32 weights. A group's
// 16 tensor-core steps truncate to 2^-22 of the running sum at worst; each later addition rounds.
Expected expect(const HostMatrix& matrix, const float* x, int64_t row) {
  double sum = 0;
  double magnitude = 0;
  for (int64_t k = 0; k < matrix.cols; ++k) {
    const double product = matrix.weights[static_cast<size_t>(row * matrix.cols + k)] * x[k];
    sum += product;
    magnitude += std::fabs(product);
  }
  const int n_roundings = matrix.format == WeightFormat::kF32 ? 2 : 1;
  const auto n_groups = static_cast<double>(matrix.cols / kGroupSize + 1);
  const double relative = n_roundings * 0x1.01p-11 + 16 * 0x1p-22 + (n_groups + 4) * 0x1p-24;
  return {sum, magnitude * relative};
}

void check_outputs(const HostMatrix& matrix, const Problem& problem, const std::vector<float>& x,
                   const std::vector<float>& bias, const std::vector<float>& before,
                   const std::vector<float>& out, int64_t row_step) {
  for (int64_t t = 0; t < problem.n_tokens; ++t) {
    for (int64_t n = 0; n < problem.out_stride; ++n) {
      const float found = out[static_cast<size_t>(t * problem.out_stride + n)];
      if (n >= matrix.rows) {
        // Beyond the row: as it was.
        if (!std::isnan(found)) {
          FAIL("token " << t << " column " << n << " was written: " << found);
        }
        continue;
      }
      if ((n + t) % row_step != 0) continue;
      Expected expected = expect(matrix, &x[static_cast<size_t>(t * problem.x_stride)], n);
      if (!bias.empty()) expected.value += bias[static_cast<size_t>(n)];
      if (!before.empty())
        expected.value += before[static_cast<size_t>(t * problem.out_stride + n)];
      expected.bound += std::fabs(expected.value) * 0x1p-22 + 1e-30;
      if (!(std::fabs(found - expected.value) <= expected.bound)) {
        FAIL("token " << t << " row " << n << ": found " << found << ", expected " << expected.value
                      << " within " << expected.bound);
      }
    }
  }
}

void check_same_bits(const std::vector<float>& a, const std::vector<float>& b,
                     const Problem& problem, int64_t first, int64_t n, const char* what) {
  for (int64_t t = first; t < first + n; ++t) {
    for (int64_t row = 0; row < problem.rows; ++row) {
      const auto i = static_cast<size_t>(t * problem.out_stride + row);
      if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) {
        FAIL(what << ": token " << t << " row " << row << ": " << a[i] << " and " << b[i]);
      }
    }
  }
}

}  // namespace

TEST_CASE("float linear: every format, ragged shapes, against double") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  CudaLaunch one_sm = launch;
  one_sm.n_sms = 1;  // large tiles even for small shapes
  CudaLaunch small_shared = launch;
  small_shared.sm = 75;  // fewer warps per CTA
  Normals random(11);
  const Problem problems[] = {
      {1, 1, 1, 1, 3},           {64, 64, 5, 64, 64},       {172, 64, 9, 64, 180},
      {64, 172, 33, 172, 64},    {33, 129, 17, 131, 37},    {130, 300, 70, 300, 130},
      {96, 1100, 140, 1104, 96}, {257, 2050, 8, 2050, 257}, {40, 4096, 3, 4096, 40},
  };
  for (size_t f = 0; f < std::size(kFormats); ++f) {
    for (const Problem& problem : problems) {
      const HostMatrix host = random_matrix(kFormats[f], problem.rows, problem.cols, random);
      DeviceWeights weights(host);
      const std::vector<float> x = random.vector(problem.n_tokens * problem.x_stride);
      const std::vector<float> bias = random.vector(problem.rows);
      DeviceArray<float> device_x(x);
      DeviceArray<float> device_bias(bias);
      DeviceArray<float> out(problem.n_tokens * problem.out_stride);
      for (const CudaLaunch& where : {launch, one_sm, small_shared}) {
        CAPTURE(kFormatNames[f]);
        CAPTURE(problem.rows);
        CAPTURE(problem.cols);
        CAPTURE(problem.n_tokens);
        out.poison();
        run(where, problem, weights.matrix, device_x, nullptr, out, {0, problem.n_tokens});
        check_outputs(host, problem, x, {}, {}, out.download(), 1);
        out.poison();
        run(where, problem, weights.matrix, device_x, &device_bias, out, {0, problem.n_tokens});
        const std::vector<float> first = out.download();
        check_outputs(host, problem, x, bias, {}, first, 1);
        run(where, problem, weights.matrix, device_x, &device_bias, out,
            {0, problem.n_tokens, CudaStore::kAdd});
        check_outputs(host, problem, x, bias, first, out.download(), 1);
      }
    }
  }
}

TEST_CASE("float linear: a token has the same bits alone and in any batch") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  CudaLaunch one_sm = launch;
  one_sm.n_sms = 1;
  CudaLaunch small_shared = launch;
  small_shared.sm = 75;
  Normals random(12);
  for (size_t f = 0; f < std::size(kFormats); ++f) {
    for (const auto& [rows, cols] :
         {std::pair<int64_t, int64_t>{200, 1100}, {1024, 4096}, {48, 688}}) {
      const Problem problem = {rows, cols, 200, cols, rows};
      const HostMatrix host = random_matrix(kFormats[f], rows, cols, random);
      DeviceWeights weights(host);
      const std::vector<float> x = random.vector(problem.n_tokens * problem.x_stride);
      DeviceArray<float> device_x(x);
      DeviceArray<float> out(problem.n_tokens * problem.out_stride);
      CAPTURE(kFormatNames[f]);
      CAPTURE(rows);
      CAPTURE(cols);
      run(one_sm, problem, weights.matrix, device_x, nullptr, out, {0, 200});
      const std::vector<float> large = out.download();
      check_outputs(host, problem, x, {}, {}, large, 131);
      for (const int64_t batch : {1, 2, 8, 11, 16, 29, 32, 64, 100, 200}) {
        CAPTURE(batch);
        out.poison();
        for (int64_t first = 0; first < 200; first += batch)
          run(batch % 2 == 0 ? launch : small_shared, problem, weights.matrix, device_x, nullptr,
              out, {first, std::min(batch, 200 - first)});
        check_same_bits(large, out.download(), problem, 0, 200, "batches");
      }
    }
  }
}

TEST_CASE("float linear: infinities and NaN come through, from their token only") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  Normals random(13);
  const Problem problem = {70, 200, 40, 200, 70};
  const HostMatrix host = random_matrix(WeightFormat::kF16, problem.rows, problem.cols, random);
  DeviceWeights weights(host);
  std::vector<float> x = random.vector(problem.n_tokens * problem.x_stride);
  x[3 * 200 + 7] = std::numeric_limits<float>::quiet_NaN();
  x[11 * 200 + 199] = INFINITY;
  DeviceArray<float> device_x(x);
  DeviceArray<float> out(problem.n_tokens * problem.out_stride);
  for (const int64_t batch : {4, 12, 40}) {
    out.poison();
    for (int64_t first = 0; first < 40; first += batch)
      run(launch, problem, weights.matrix, device_x, nullptr, out,
          {first, std::min(batch, 40 - first)});
    const std::vector<float> found = out.download();
    for (int64_t t = 0; t < 40; ++t) {
      for (int64_t n = 0; n < 70; ++n) {
        CAPTURE(t);
        CAPTURE(n);
        REQUIRE(std::isfinite(found[static_cast<size_t>(t * 70 + n)]) == (t != 3 && t != 11));
      }
    }
  }
}

TEST_CASE("float linear: tokens with outputs that are not finite are flagged") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  Normals random(91);
  constexpr int64_t kCols = 256;
  constexpr int64_t kRows = 100;
  const HostMatrix host = random_matrix(WeightFormat::kF16, kRows, kCols, random);
  DeviceWeights weights(host);
  // The kernels for few tokens and for many.
  for (const int64_t n_tokens : {1, 3, 8, 20, 300}) {
    std::vector<float> x = random.vector(n_tokens * kCols);
    std::vector<int32_t> expected(static_cast<size_t>(n_tokens), 0);
    for (int64_t t = 0; t < n_tokens; t += 3) {
      x[static_cast<size_t>(t * kCols + t % kCols)] = t % 2 == 0
                                                          ? std::numeric_limits<float>::quiet_NaN()
                                                          : std::numeric_limits<float>::infinity();
      expected[static_cast<size_t>(t)] = 1;
    }
    DeviceArray<float> device_x(x);
    DeviceArray<float> out(n_tokens * kRows);
    DeviceArray<int32_t> flags(std::vector<int32_t>(static_cast<size_t>(n_tokens), 0));
    REQUIRE(cuda_linear_float(launch, weights.matrix, {device_x.data(), kCols}, n_tokens, nullptr,
                              CudaStore::kSet, {out.data(), kRows}, flags.data()) == cudaSuccess);
    CAPTURE(n_tokens);
    CHECK(flags.download() == expected);
  }
}

// A limit that each launch set to its own size would be too low for the other thread's.
TEST_CASE("float linear: threads whose launches of one kernel differ in shared memory") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  const auto launch_often = [&](int64_t cols, cudaError_t* error) {
    Normals random(static_cast<uint64_t>(cols));
    const HostMatrix host = random_matrix(WeightFormat::kF16, 64, cols, random);
    DeviceWeights weights(host);
    constexpr int64_t kTokens = 4;
    DeviceArray<float> x(random.vector(kTokens * cols));
    DeviceArray<float> out(kTokens * 64);
    for (int i = 0; i < 20000 && *error == cudaSuccess; ++i) {
      *error = cuda_linear_float(launch, weights.matrix, {x.data(), cols}, kTokens, nullptr,
                                 CudaStore::kSet, {out.data(), 64}, nullptr);
    }
    if (*error == cudaSuccess) *error = cudaDeviceSynchronize();
  };
  cudaError_t errors[2] = {};
  {
    const std::jthread other([&] { launch_often(4096, &errors[0]); });
    launch_often(2560, &errors[1]);
  }
  for (const cudaError_t error : errors)
    CHECK_MESSAGE(error == cudaSuccess, cudaGetErrorString(error));
}

// Run with --no-skip.
TEST_CASE("float linear: timings" * doctest::skip()) {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  Normals random(14);
  struct Timed {
    int64_t rows, cols, n_tokens;
  };
  for (const Timed& timed : {Timed{32000, 4096, 1},
                             {32000, 4096, 8},
                             {32000, 4096, 16},
                             {32000, 4096, 32},
                             {4096, 4096, 1},
                             {22016, 4096, 1},
                             {4096, 11008, 1},
                             {4096, 4096, 16},
                             {4096, 4096, 32},
                             {4096, 4096, 64},
                             {4096, 4096, 512},
                             {4096, 4096, 2048},
                             {22016, 4096, 2048}}) {
    for (size_t f = 0; f < std::size(kFormats); ++f) {
      if (timed.n_tokens > 1 && kFormats[f] == WeightFormat::kBF16) continue;
      const bool grouped = is_grouped(kFormats[f]);
      const int64_t bytes =
          grouped ? cuda_int8::codes_bytes(timed.rows, timed.cols, weight_bits(kFormats[f]))
                  : timed.rows * cuda_padded_cols(timed.cols) * element_bytes(kFormats[f]);
      // Enough copies that none is still in the L2 cache when its turn comes.
      const int64_t copies = std::max<int64_t>(1, (int64_t{200} << 20) / bytes);
      std::vector<float> noise = random.vector(1 << 20);
      if (kFormats[f] == WeightFormat::kF16 || kFormats[f] == WeightFormat::kBF16)
        for (float& value : noise)
          value = std::bit_cast<float>(uint32_t{0x3c013c02});
      DeviceArray<uint8_t> values(bytes * copies);
      for (int64_t at = 0; at < bytes * copies; at += 4 << 20)
        REQUIRE(cudaMemcpy(values.data() + at, noise.data(),
                           static_cast<size_t>(std::min<int64_t>(4 << 20, bytes * copies - at)),
                           cudaMemcpyHostToDevice) == cudaSuccess);
      DeviceArray<uint16_t> scales(std::vector<uint16_t>(
          static_cast<size_t>(cuda_int8::scales_bytes(timed.rows, timed.cols) / 2 + 2 * timed.rows),
          0x3c00));
      DeviceArray<float> x(random.vector(timed.n_tokens * timed.cols));
      DeviceArray<float> out(timed.n_tokens * timed.rows);
      const double us = test::microseconds(timed.n_tokens > 100 ? 10 : 40, [&](int i) {
        CudaMatrix matrix;
        matrix.format = kFormats[f];
        matrix.rows = timed.rows;
        matrix.cols = timed.cols;
        matrix.values = values.data() + i % copies * bytes;
        matrix.scales = reinterpret_cast<const uint8_t*>(scales.data());
        return cuda_linear_float(launch, matrix, {x.data(), timed.cols}, timed.n_tokens, nullptr,
                                 CudaStore::kSet, {out.data(), timed.rows}, nullptr);
      });
      const double flops = 2.0 * static_cast<double>(timed.rows * timed.cols * timed.n_tokens);
      std::printf("linear %-10s %6lld x %5lld, %4lld tokens: %8.1f us, %5.2f TB/s, %6.1f TFLOPS\n",
                  kFormatNames[f], static_cast<long long>(timed.rows),
                  static_cast<long long>(timed.cols), static_cast<long long>(timed.n_tokens), us,
                  static_cast<double>(bytes) / us * 1e-6, flops / us * 1e-6);
    }
  }
}

}  // namespace flexq
