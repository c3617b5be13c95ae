// Sampling on the device against the host's sampler: the same tokens for the same logits.
#include <algorithm>

#include "cuda/float_test_support.h"
#include "runtime/philox.h"
#include "runtime/sampler.h"

namespace flexq {
namespace {

using test::DeviceArray;
using test::Normals;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Samples rows of logits, which lie with a gap between them and in another order than they are
// sampled, in one call.
class DeviceSampler {
 public:
  explicit DeviceSampler(int64_t n_vocab)
      : launch_(test::make_launch()),
        n_vocab_(n_vocab),
        logits_(kMaxSampleRows * stride()),
        samples_(kMaxSampleRows),
        scratch_(cuda_sample_scratch_bytes(n_vocab, kMaxSampleRows)) {}

  std::vector<CudaSample> sample(const std::vector<std::vector<float>>& rows,
                                 std::vector<CudaSampling> samplings) {
    const auto n_rows = static_cast<int32_t>(rows.size());
    std::vector<float> logits(static_cast<size_t>(logits_.size()), kNan);
    for (int32_t i = 0; i < n_rows; ++i) {
      CudaSampling& sampling = samplings[static_cast<size_t>(i)];
      sampling.row = n_rows - 1 - i;
      std::ranges::copy(rows[static_cast<size_t>(i)], logits.begin() + sampling.row * stride());
    }
    logits_.upload(logits);
    samples_.poison();
    scratch_.poison();
    const cudaError_t error = cuda_sample(launch_, {logits_.data(), stride()}, n_vocab_, samplings,
                                          samples_.data(), scratch_.data());
    REQUIRE_MESSAGE(error == cudaSuccess, cudaGetErrorString(error));
    return samples_.download();
  }

 private:
  int64_t stride() const { return n_vocab_ + 3; }

  CudaLaunch launch_;
  int64_t n_vocab_;
  DeviceArray<float> logits_;
  DeviceArray<CudaSample> samples_;
  DeviceArray<uint8_t> scratch_;
};

enum class Row { kNormal, kPeaked, kTied, kEqual, kForbidden, kFewTied, kHuge };
constexpr Row kRows[] = {Row::kNormal,    Row::kPeaked,  Row::kTied, Row::kEqual,
                         Row::kForbidden, Row::kFewTied, Row::kHuge};

std::vector<float> random_logits(Row row, int64_t n, Normals& random) {
  std::vector<float> logits = random.vector(n);
  for (float& x : logits) {
    switch (row) {
      case Row::kPeaked:
        x *= 6;
        break;
      case Row::kTied:
        x = std::round(x * 2);  // zeros of both signs among them
        break;
      case Row::kEqual:
        x = -3.25f;
        break;
      case Row::kForbidden:
        if (random.integer(0, 3) != 0) x = -kInfinity;
        break;
      case Row::kFewTied:
        x = random.integer(0, 50) == 0 ? 5.0f : x;
        break;
      case Row::kHuge:
        x *= 1e38f;
        break;
      default:
        break;
    }
  }
  // Never all forbidden here.
  logits[static_cast<size_t>(random.integer(0, n - 1))] = row == Row::kEqual ? -3.25f : 5.5f;
  for (float& x : logits) {
    if (x == kInfinity) x = std::numeric_limits<float>::max();
  }
  return logits;
}

SamplingParams random_params(Normals& random, int64_t n_vocab) {
  SamplingParams params;
  const float temperatures[] = {0.0f, 0.2f, 0.7f, 1.0f, 1.5f, 20.0f, 1e-30f};
  params.temperature = temperatures[random.integer(0, 6)];
  const int64_t top_ks[] = {0, 0, 1, 2, 40, 1000, n_vocab, n_vocab - 1};
  params.top_k = static_cast<int32_t>(top_ks[random.integer(0, 7)]);
  const float top_ps[] = {1.0f, 1.0f, 0.95f, 0.5f, 0.01f, 0.0f, 0.9999f};
  params.top_p = top_ps[random.integer(0, 6)];
  const float min_ps[] = {0.0f, 0.0f, 0.05f, 0.3f, 1.0f, 1e-6f};
  params.min_p = min_ps[random.integer(0, 5)];
  params.seed = static_cast<uint64_t>(random.integer(0, 1 << 30));
  return params;
}

CudaSampling device_params(const SamplingParams& params, int32_t position) {
  return {0,
          params.temperature,
          params.top_k,
          params.top_p,
          params.min_p,
          uniform_at(params.seed, position)};
}

// The rows' tokens are the host's. Position 0 has that of the first row, and so on.
void compare(DeviceSampler& device, Sampler& host, const std::vector<std::vector<float>>& rows,
             const std::vector<SamplingParams>& params) {
  std::vector<CudaSampling> samplings;
  for (size_t i = 0; i < rows.size(); ++i)
    samplings.push_back(device_params(params[i], static_cast<int32_t>(i)));
  const std::vector<CudaSample> samples = device.sample(rows, samplings);
  for (size_t i = 0; i < rows.size(); ++i) {
    const Result<SampledToken> expected =
        host.sample(params[i], rows[i], {}, static_cast<int32_t>(i));
    const CudaSample found = samples[i];
    CAPTURE(rows[i].size());
    CAPTURE(rows.size());
    CAPTURE(i);
    CAPTURE(params[i].temperature);
    CAPTURE(params[i].top_k);
    CAPTURE(params[i].top_p);
    CAPTURE(params[i].min_p);
    CAPTURE(params[i].seed);
    REQUIRE(found.nonfinite == (expected.ok() ? 0 : 1));
    if (!expected.ok()) continue;
    REQUIRE(found.token == expected.value().token);
    const double bound = 1e-5 + 1e-6 * std::fabs(expected.value().log_prob);
    REQUIRE(std::fabs(found.log_prob - expected.value().log_prob) <= bound);
  }
}

}  // namespace

TEST_CASE("sampling: the host's token for thousands of random rows") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  Normals random(31);
  Sampler host;
  struct Vocabulary {
    int64_t n;
    int rows;
  };
  for (const Vocabulary& vocabulary : {Vocabulary{1, 20},
                                       {2, 200},
                                       {37, 1500},
                                       {1024, 600},
                                       {1025, 600},
                                       {5000, 800},
                                       {32000, 500},
                                       {128256, 120}}) {
    DeviceSampler device(vocabulary.n);
    for (int i = 0; i < vocabulary.rows;) {
      // From one row to as many as there can be, of all kinds.
      const int n_rows = 1 + i % kMaxSampleRows;
      std::vector<std::vector<float>> rows;
      std::vector<SamplingParams> params;
      for (int k = 0; k < n_rows; ++k, ++i) {
        rows.push_back(random_logits(kRows[i % std::size(kRows)], vocabulary.n, random));
        params.push_back(random_params(random, vocabulary.n));
      }
      compare(device, host, rows, params);
    }
  }
}

TEST_CASE("sampling: NaN, infinities and rows without a token are told") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  Normals random(32);
  Sampler host;
  const int64_t n = 3000;
  DeviceSampler device(n);
  for (int i = 0; i < 60; ++i) {
    std::vector<float> logits = random.vector(n);
    const auto at = static_cast<size_t>(random.integer(0, n - 1));
    if (i % 4 == 0) logits[at] = kNan;
    if (i % 4 == 1) logits[at] = kInfinity;
    if (i % 4 == 2) std::fill(logits.begin(), logits.end(), -kInfinity);
    if (i % 4 == 3) logits[at] = -kInfinity;  // allowed
    SamplingParams params = random_params(random, n);
    if (i % 8 < 4) params.temperature = 0;
    compare(device, host, {logits, random.vector(n)}, {params, params});
  }
}

TEST_CASE("sampling: rows with NaN or infinity, and log-probabilities") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  Normals random(33);
  const int64_t n_rows = 9;
  for (const int64_t n : {1, 31, 32000, 128256}) {
    const int64_t stride = n + 5;
    std::vector<float> rows = random.vector(n_rows * stride);
    for (float& x : rows)
      x *= 5;
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < n_rows; ++i)
      tokens.push_back(static_cast<int32_t>(random.integer(0, n - 1)));
    DeviceArray<float> device_rows(rows);
    DeviceArray<int32_t> device_tokens(tokens);
    DeviceArray<float> log_probs(n_rows);
    REQUIRE(cuda_log_probs(launch, {device_rows.data(), stride}, n, device_tokens.data(), n_rows,
                           log_probs.data()) == cudaSuccess);
    const std::vector<float> found = log_probs.download();
    for (int64_t i = 0; i < n_rows; ++i) {
      const float* row = &rows[static_cast<size_t>(i * stride)];
      const double largest = *std::max_element(row, row + n);
      double sum = 0;
      for (int64_t k = 0; k < n; ++k)
        sum += std::exp(row[k] - largest);
      const double expected = row[tokens[static_cast<size_t>(i)]] - largest - std::log(sum);
      CAPTURE(n);
      CAPTURE(i);
      CHECK(std::fabs(found[static_cast<size_t>(i)] - expected) <= 1e-5);
    }

    // Row 2 NaN, row 4 infinity, row 6 -infinity, row 8 NaN beyond its end.
    rows[static_cast<size_t>(2 * stride + random.integer(0, n - 1))] = kNan;
    rows[static_cast<size_t>(4 * stride + random.integer(0, n - 1))] = kInfinity;
    rows[static_cast<size_t>(6 * stride + n - 1)] = -kInfinity;
    rows[static_cast<size_t>(8 * stride + n)] = kNan;
    device_rows.upload(rows);
    // Rows that start on 16 bytes, as those of a workspace do: row 1 ends in NaN.
    const int64_t aligned_stride = (n + 7) / 4 * 4;
    std::vector<float> aligned_rows = random.vector(n_rows * aligned_stride);
    aligned_rows[static_cast<size_t>(aligned_stride + n - 1)] = kNan;
    aligned_rows[static_cast<size_t>(3 * aligned_stride + n)] = kNan;
    DeviceArray<float> device_aligned_rows(aligned_rows);
    const CudaRowsOfWidth searched[] = {{{device_rows.data(), stride}, n},
                                        {{device_aligned_rows.data(), aligned_stride}, n}};
    for (const size_t n_sets : {1, 2}) {
      DeviceArray<int32_t> flags(n_rows * 2);
      REQUIRE(cuda_find_nonfinite(launch, std::span(searched).first(n_sets), n_rows,
                                  flags.data()) == cudaSuccess);
      const std::vector<int32_t> found_flags = flags.download();
      for (int64_t i = 0; i < n_rows; ++i) {
        CAPTURE(n);
        CAPTURE(i);
        CHECK(found_flags[static_cast<size_t>(i)] == (i == 2 || i == 4 || i == 6 ? 1 : 0));
        if (n_sets == 2) CHECK(found_flags[static_cast<size_t>(n_rows + i)] == (i == 1 ? 1 : 0));
      }
    }
  }
}

// Run with --no-skip.
TEST_CASE("sampling: timings" * doctest::skip()) {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  Normals random(34);
  struct Setting {
    const char* name;
    CudaSampling sampling;
  };
  for (const int64_t n : {32000, 128256}) {
    DeviceArray<float> logits(random_logits(Row::kPeaked, n, random));
    DeviceArray<uint8_t> scratch(cuda_sample_scratch_bytes(n, kMaxSampleRows));
    DeviceArray<CudaSample> samples(kMaxSampleRows);
    for (const Setting& setting :
         {Setting{"greedy", {0, 0, 0, 1, 0, 0.5f}},
          Setting{"temperature", {0, 0.8f, 0, 1, 0, 0.5f}},
          Setting{"top-k", {0, 0.8f, 40, 1, 0, 0.5f}},
          Setting{"top-k, min-p, top-p", {0, 0.8f, 40, 0.95f, 0.05f, 0.5f}}}) {
      for (const int n_rows : {1, kMaxSampleRows}) {
        const std::vector<CudaSampling> samplings(static_cast<size_t>(n_rows), setting.sampling);
        const double us = test::microseconds(50, [&](int) {
          return cuda_sample(launch, {logits.data(), n}, n, samplings, samples.data(),
                             scratch.data());
        });
        std::printf("sample %6lld, %2d rows, %-20s %8.1f us\n", static_cast<long long>(n), n_rows,
                    setting.name, us);
      }
    }
  }
}

}  // namespace flexq
