// Speed of the CPU kernels, one thread:
//   decode   linear_w6_int8 for one token over matrices that rotate through 1 GiB, so that no
//            weight is in a cache: bytes/s counts packed codes and scales
//   floor    a loop that only reads the same bytes
//   prefill  linear_w6_int8 for 128 tokens: items/s counts operations (2 per weight and token)
// Run: bench_cpu_kernels --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
// The library prints bytes in units of 2^30 and items in units of 10^9.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/layout/w6_layout.h"

namespace {

constexpr int64_t kRotationBytes = int64_t{1} << 30;

// 1 GiB of random bytes that all weights are taken from.
const std::vector<uint64_t>& rotation_words() {
  static const std::vector<uint64_t> words = [] {
    std::vector<uint64_t> random_words(static_cast<size_t>(kRotationBytes / 8));
    std::mt19937_64 random(1);
    for (uint64_t& word : random_words)
      word = random();
    return random_words;
  }();
  return words;
}

// Random packed matrices of one shape that together fill the rotation.
class Weights {
 public:
  Weights(int64_t n_rows, int64_t n_cols) {
    const int64_t codes_bytes = flexq::w6::codes_bytes(n_rows, n_cols);
    const int64_t n_scales = flexq::w6::scales_bytes(n_rows, n_cols) / 2;
    const int64_t count = kRotationBytes / codes_bytes;
    matrix_bytes_ = codes_bytes + n_scales * 2;
    scales_.assign(static_cast<size_t>(count * n_scales), uint16_t{0x2000});  // 2^-7
    const auto* codes = reinterpret_cast<const uint8_t*>(rotation_words().data());
    for (int64_t i = 0; i < count; ++i)
      matrices_.push_back(
          {codes + i * codes_bytes, scales_.data() + i * n_scales, 1.0f, n_rows, n_cols});
  }
  const flexq::PackedW6& next() { return matrices_[position_++ % matrices_.size()]; }
  int64_t matrix_bytes() const { return matrix_bytes_; }

 private:
  int64_t matrix_bytes_ = 0;
  size_t position_ = 0;
  std::vector<uint16_t> scales_;
  std::vector<flexq::PackedW6> matrices_;
};

struct Activations {
  Activations(const flexq::CpuKernels& kernels, int64_t n_tokens, int64_t n_cols)
      : x(static_cast<size_t>(n_tokens * n_cols)) {
    const int64_t groups = flexq::w6::n_groups(n_cols);
    codes.resize(static_cast<size_t>(n_tokens * groups * flexq::w6::kGroupSize));
    scales.resize(static_cast<size_t>(n_tokens * groups));
    sums.resize(static_cast<size_t>(n_tokens * groups));
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    for (float& value : x)
      value = normal(random);
    for (int64_t t = 0; t < n_tokens; ++t)
      kernels.quantize_row(x.data() + t * n_cols, n_cols, 8,
                           codes.data() + t * groups * flexq::w6::kGroupSize,
                           scales.data() + t * groups, sums.data() + t * groups);
  }
  flexq::QuantizedRows rows() const { return {codes.data(), scales.data(), sums.data()}; }

  std::vector<float> x;
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> sums;
};

const flexq::CpuKernels* table(int64_t index) {
  return index == 0 ? &flexq::portable_kernels() : flexq::avx2_kernels();
}

void bench_linear_int8(benchmark::State& state) {
  const flexq::CpuKernels* kernels = table(state.range(0));
  if (kernels == nullptr) {
    state.SkipWithError("this processor lacks AVX2");
    return;
  }
  const int64_t n_rows = state.range(1);
  const int64_t n_cols = state.range(2);
  const int64_t n_tokens = state.range(3);
  Weights weights(n_rows, n_cols);
  const Activations x(*kernels, n_tokens, n_cols);
  std::vector<float> out(static_cast<size_t>(n_tokens * n_rows));
  for (auto _ : state) {
    kernels->linear_w6_int8(weights.next(), x.rows(), n_tokens, 0, flexq::w6::n_blocks(n_rows),
                            out.data(), n_rows);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * weights.matrix_bytes());
  state.SetItemsProcessed(state.iterations() * 2 * n_rows * n_cols * n_tokens);
  state.SetLabel(kernels->name);
}

void bench_linear_f32(benchmark::State& state) {
  const flexq::CpuKernels* kernels = table(state.range(0));
  if (kernels == nullptr) {
    state.SkipWithError("this processor lacks AVX2");
    return;
  }
  const int64_t n_rows = state.range(1);
  const int64_t n_cols = state.range(2);
  const int64_t n_tokens = state.range(3);
  Weights weights(n_rows, n_cols);
  const Activations x(*kernels, n_tokens, n_cols);
  std::vector<float> out(static_cast<size_t>(n_tokens * n_rows));
  for (auto _ : state) {
    kernels->linear_w6_f32(weights.next(), x.x.data(), n_cols, n_tokens, 0,
                           flexq::w6::n_blocks(n_rows), out.data(), n_rows);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * weights.matrix_bytes());
  state.SetItemsProcessed(state.iterations() * 2 * n_rows * n_cols * n_tokens);
  state.SetLabel(kernels->name);
}

// A row-major fp16 matrix that does not fit a cache: lm_head.
void bench_linear_dense(benchmark::State& state) {
  const flexq::CpuKernels* kernels = table(state.range(0));
  if (kernels == nullptr) {
    state.SkipWithError("this processor lacks AVX2");
    return;
  }
  const int64_t n_rows = state.range(1);
  const int64_t n_cols = state.range(2);
  const int64_t n_tokens = state.range(3);
  const int64_t matrix = n_rows * n_cols;
  const int64_t count = (kRotationBytes / 2 + matrix - 1) / matrix;
  const std::vector<uint16_t> weights(static_cast<size_t>(count * matrix), uint16_t{0x2c01});
  const Activations x(*kernels, n_tokens, n_cols);
  std::vector<float> out(static_cast<size_t>(n_tokens * n_rows));
  int64_t position = 0;
  for (auto _ : state) {
    kernels->linear_dense(weights.data() + position++ % count * matrix, flexq::DenseType::kF16,
                          n_cols, x.x.data(), n_cols, n_tokens, 0, n_rows, out.data(), n_rows);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * matrix * 2);
  state.SetItemsProcessed(state.iterations() * 2 * matrix * n_tokens);
  state.SetLabel(kernels->name);
}

// One KV head of head_dim 64 shared by 8 query heads, fp16, pages of 16 tokens.
void bench_attention(benchmark::State& state) {
  const flexq::CpuKernels* kernels = table(state.range(0));
  if (kernels == nullptr) {
    state.SkipWithError("this processor lacks AVX2");
    return;
  }
  constexpr int64_t kHeadDim = 64;
  constexpr int64_t kPageTokens = 16;
  constexpr int64_t kQueries = 8;
  const int64_t positions = state.range(1);
  const int64_t half_page = kPageTokens * kHeadDim;
  const int64_t n_pages = (positions + kPageTokens - 1) / kPageTokens;
  const std::vector<uint16_t> cache(static_cast<size_t>(n_pages * half_page * 2), uint16_t{0x2c01});
  std::vector<const uint8_t*> pages;
  for (int64_t i = 0; i < n_pages; ++i)
    pages.push_back(reinterpret_cast<const uint8_t*>(cache.data() + i * half_page * 2));
  const std::vector<float> q(kQueries * kHeadDim, 0.5f);
  std::vector<float> out(kQueries * kHeadDim);
  std::vector<float> scores(static_cast<size_t>(n_pages * kPageTokens));
  flexq::AttentionArgs args;
  args.q = q.data();
  args.out = out.data();
  args.scores = scores.data();
  args.pages = pages.data();
  args.v_offset_bytes = half_page * 2;
  args.page_tokens = kPageTokens;
  args.n_positions = positions;
  args.head_dim = kHeadDim;
  args.n_q = kQueries;
  args.scale = 0.125f;
  for (auto _ : state) {
    kernels->attention(args);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 4 * positions * kHeadDim * kQueries);
  state.SetLabel(kernels->name);
}

// The floor of decode: every byte is read once, with eight independent sums, and asked for ahead as
// the decode kernel does.
void bench_read_only(benchmark::State& state) {
  const std::vector<uint64_t>& words = rotation_words();
  for (auto _ : state) {
    uint64_t sum[8] = {};
    for (size_t i = 0; i < words.size(); i += 8) {
      __builtin_prefetch(words.data() + i + 128, 0, 3);
      __builtin_prefetch(words.data() + i + 768, 0, 2);
      for (size_t j = 0; j < 8; ++j)
        sum[j] ^= words[i + j];
    }
    benchmark::DoNotOptimize(sum);
  }
  state.SetBytesProcessed(state.iterations() * kRotationBytes);
}

// Packing at load, bytes/s of row-major codes.
void bench_pack(benchmark::State& state) {
  constexpr int64_t kRows = 2048;
  constexpr int64_t kCols = 2048;
  const std::vector<int8_t> codes(kRows * kCols, int8_t{-7});
  const std::vector<uint16_t> scales(kRows * flexq::w6::n_groups(kCols), uint16_t{0x2000});
  std::vector<uint8_t> packed(static_cast<size_t>(flexq::w6::codes_bytes(kRows, kCols)));
  std::vector<uint16_t> packed_scales(
      static_cast<size_t>(flexq::w6::scales_bytes(kRows, kCols) / 2));
  for (auto _ : state) {
    flexq::w6::pack_w6_rows(codes.data(), scales.data(), 0, kRows, kRows, kCols, packed.data(),
                            packed_scales.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * kRows * kCols);
}

// Arguments: table (0 portable, 1 AVX2), N, K, tokens. The linear layers of TinyLlama-1.1B.
BENCHMARK(bench_read_only)->Unit(benchmark::kMillisecond);
BENCHMARK(bench_linear_int8)
    ->ArgsProduct({{1}, {2048}, {2048, 5632}, {1, 2, 4, 16, 128}})
    ->ArgsProduct({{1}, {5632}, {2048}, {1, 2, 4, 16, 128}})
    ->ArgsProduct({{0}, {5632}, {2048}, {1, 128}})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(bench_linear_f32)
    ->ArgsProduct({{0, 1}, {5632}, {2048}, {1, 128}})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(bench_linear_dense)
    ->ArgsProduct({{0, 1}, {32000}, {2048}, {1, 3}})
    ->Args({1, 2048, 2048, 128})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(bench_attention)->ArgsProduct({{0, 1}, {512, 4096}})->Unit(benchmark::kMicrosecond);
BENCHMARK(bench_pack)->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
