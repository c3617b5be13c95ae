// Speed of the CPU kernels, every table that this processor can run:
//   linear_int8, linear_f32   6- and 8-bit weights in groups, 1 to 128 tokens
//   rows                      row-major weights: lm_head
//   attention, small          one KV head; quantization, norm, activation
//   read_only                 a loop that only reads the rotation: the floor of decode
//   pack                      packing at load
// Weights rotate through 1.25 GiB, so that none is in a cache. bytes/s counts weights with scales,
// items/s operations (2 per weight and token); the library prints bytes in units of 2^30 and items
// in units of 10^9. threads:2 runs two independent copies side by side.
//
// Run: bench_cpu_kernels --benchmark_filter=avx512vnni --benchmark_repetitions=5
//      --benchmark_report_aggregates_only=true
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/layout/w8_layout.h"

namespace {

using flexq::CpuKernels;
using flexq::DenseType;
using flexq::KvElement;

constexpr int64_t kRotationBytes = int64_t{5} << 28;

// Random bytes that all weights are taken from.
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

// Pieces of the rotation, one after another; every thread starts elsewhere.
class Rotation {
 public:
  Rotation(const benchmark::State& state, int64_t piece_bytes)
      : bytes_(reinterpret_cast<const uint8_t*>(rotation_words().data())),
        piece_bytes_(piece_bytes),
        count_(kRotationBytes / piece_bytes),
        position_(count_ * state.thread_index() / state.threads()) {}
  const uint8_t* next() { return bytes_ + position_++ % count_ * piece_bytes_; }

 private:
  const uint8_t* const bytes_;
  const int64_t piece_bytes_;
  const int64_t count_;
  int64_t position_;
};

struct Shape {
  int64_t n_rows, n_cols, n_tokens;
  std::string text() const {
    return std::to_string(n_rows) + "x" + std::to_string(n_cols) + "/" + std::to_string(n_tokens);
  }
};

void count_linear(benchmark::State& state, const Shape& shape, int64_t matrix_bytes) {
  state.SetBytesProcessed(state.iterations() * matrix_bytes);
  state.SetItemsProcessed(state.iterations() * 2 * shape.n_rows * shape.n_cols * shape.n_tokens);
}

struct Activations {
  Activations(const CpuKernels& kernels, const Shape& shape)
      : x(static_cast<size_t>(shape.n_tokens * shape.n_cols)) {
    const int64_t n_cols = shape.n_cols;
    const int64_t groups = flexq::w6::n_groups(n_cols);
    codes.resize(static_cast<size_t>(shape.n_tokens * groups * flexq::w6::kGroupSize));
    scales.resize(static_cast<size_t>(shape.n_tokens * groups));
    sums.resize(static_cast<size_t>(shape.n_tokens * groups));
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    for (float& value : x)
      value = normal(random);
    for (int64_t t = 0; t < shape.n_tokens; ++t)
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

// W6 or W8, quantized or float input.
template <typename Packed>
void bench_group_linear(benchmark::State& state, const CpuKernels& kernels, Shape shape,
                        bool quantized) {
  constexpr bool kW6 = std::is_same_v<Packed, flexq::PackedW6>;
  const int64_t codes_bytes = kW6 ? flexq::w6::codes_bytes(shape.n_rows, shape.n_cols)
                                  : flexq::w8::codes_bytes(shape.n_rows, shape.n_cols);
  const int64_t scales_bytes = flexq::w6::scales_bytes(shape.n_rows, shape.n_cols);
  // Scales too come from memory: each matrix has its own.
  const int64_t count = kRotationBytes / codes_bytes;
  const std::vector<uint16_t> scales(static_cast<size_t>(count * scales_bytes / 2), 0x2000);
  Rotation rotation(state, codes_bytes);
  const Activations x(kernels, shape);
  std::vector<float> out(static_cast<size_t>(shape.n_tokens * shape.n_rows));
  const int64_t blocks = flexq::w6::n_blocks(shape.n_rows);
  int64_t position = 0;
  for (auto _ : state) {
    const Packed w = {rotation.next(), scales.data() + position++ % count * scales_bytes / 2, 1.0f,
                      shape.n_rows, shape.n_cols};
    if constexpr (kW6) {
      if (quantized)
        kernels.linear_w6_int8(w, x.rows(), shape.n_tokens, 0, blocks, out.data(), shape.n_rows);
      else
        kernels.linear_w6_f32(w, x.x.data(), shape.n_cols, shape.n_tokens, 0, blocks, out.data(),
                              shape.n_rows);
    } else {
      if (quantized)
        kernels.linear_w8_int8(w, x.rows(), shape.n_tokens, 0, blocks, out.data(), shape.n_rows);
      else
        kernels.linear_w8_f32(w, x.x.data(), shape.n_cols, shape.n_tokens, 0, blocks, out.data(),
                              shape.n_rows);
    }
    benchmark::ClobberMemory();
  }
  count_linear(state, shape, codes_bytes + scales_bytes);
}

void bench_dense(benchmark::State& state, const CpuKernels& kernels, Shape shape, DenseType type) {
  const int64_t matrix_bytes = shape.n_rows * shape.n_cols * (type == DenseType::kF32 ? 4 : 2);
  Rotation rotation(state, matrix_bytes);
  const Activations x(kernels, shape);
  std::vector<float> out(static_cast<size_t>(shape.n_tokens * shape.n_rows));
  for (auto _ : state) {
    kernels.linear_dense(rotation.next(), type, shape.n_cols, x.x.data(), shape.n_cols,
                         shape.n_tokens, 0, shape.n_rows, out.data(), shape.n_rows);
    benchmark::ClobberMemory();
  }
  count_linear(state, shape, matrix_bytes);
}

void bench_i8_rows(benchmark::State& state, const CpuKernels& kernels, Shape shape) {
  const int64_t matrix_bytes = shape.n_rows * shape.n_cols;
  Rotation rotation(state, matrix_bytes);
  const Activations x(kernels, shape);
  const std::vector<float> scales(static_cast<size_t>(shape.n_rows), 0.01f);
  std::vector<float> out(static_cast<size_t>(shape.n_tokens * shape.n_rows));
  for (auto _ : state) {
    const auto* codes = reinterpret_cast<const int8_t*>(rotation.next());
    kernels.linear_i8_rows({codes, scales.data()}, shape.n_cols, x.x.data(), shape.n_cols,
                           shape.n_tokens, 0, shape.n_rows, out.data(), shape.n_rows);
    benchmark::ClobberMemory();
  }
  count_linear(state, shape, matrix_bytes);
}

// One KV head of head_dim 64 shared by 8 query heads, pages of 16 tokens.
void bench_attention(benchmark::State& state, const CpuKernels& kernels, KvElement type,
                     int64_t positions) {
  constexpr int64_t kHeadDim = 64;
  constexpr int64_t kPageTokens = 16;
  constexpr int64_t kQueries = 8;
  const int64_t element_bytes = type == KvElement::kF32 ? 4 : type == KvElement::kF16 ? 2 : 1;
  const int64_t half_page =
      kPageTokens * kHeadDim * element_bytes + (type == KvElement::kI8 ? kPageTokens * 2 : 0);
  const int64_t n_pages = (positions + kPageTokens - 1) / kPageTokens;
  const std::vector<uint8_t> cache(static_cast<size_t>(n_pages * half_page * 2), uint8_t{0x2c});
  std::vector<const uint8_t*> pages;
  for (int64_t i = 0; i < n_pages; ++i)
    pages.push_back(cache.data() + i * half_page * 2);
  const std::vector<float> q(kQueries * kHeadDim, 0.5f);
  std::vector<float> out(kQueries * kHeadDim);
  std::vector<float> scores(static_cast<size_t>(n_pages * kPageTokens));
  flexq::AttentionArgs args;
  args.q = q.data();
  args.out = out.data();
  args.scores = scores.data();
  args.pages = pages.data();
  args.v_offset_bytes = half_page;
  args.page_tokens = kPageTokens;
  args.n_positions = positions;
  args.head_dim = kHeadDim;
  args.n_q = kQueries;
  args.scale = 0.125f;
  args.kv_type = type;
  for (auto _ : state) {
    kernels.attention(args);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 4 * positions * kHeadDim * kQueries);
}

// Rows of 2048 floats from L1 or L2.
void bench_small(benchmark::State& state, const CpuKernels& kernels, const std::string& entry) {
  constexpr int64_t kCols = 2048;
  const Activations x(kernels, {1, kCols, 2});
  const float* row = x.x.data();
  std::vector<float> out(kCols);
  std::vector<int8_t> codes(kCols);
  std::vector<float> scales(kCols / flexq::w6::kGroupSize);
  std::vector<int32_t> sums(kCols / flexq::w6::kGroupSize);
  uint16_t kv_scale = 0;
  for (auto _ : state) {
    if (entry == "quantize_row")
      kernels.quantize_row(row, kCols, 8, codes.data(), scales.data(), sums.data());
    if (entry == "quantize_kv_row") kernels.quantize_kv_row(row, kCols, codes.data(), &kv_scale);
    if (entry == "rms_norm") kernels.rms_norm(row, row + kCols, kCols, 1e-5f, out.data());
    if (entry == "silu_mul") kernels.silu_mul(row, row + kCols, kCols, out.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kCols);
}

// Every byte is read once, with eight independent sums and the prefetch distance of the kernels.
void bench_read_only(benchmark::State& state) {
  constexpr int64_t kPieceWords = 1 << 20;
  Rotation rotation(state, kPieceWords * 8);
  for (auto _ : state) {
    const auto* words = reinterpret_cast<const uint64_t*>(rotation.next());
    uint64_t sum[8] = {};
    for (int64_t i = 0; i < kPieceWords; i += 8) {
      __builtin_prefetch(words + i + 1024 / 8, 0, 3);
      __builtin_prefetch(words + i + 6144 / 8, 0, 2);
      for (int64_t j = 0; j < 8; ++j)
        sum[j] ^= words[i + j];
    }
    benchmark::DoNotOptimize(sum);
  }
  state.SetBytesProcessed(state.iterations() * kPieceWords * 8);
}

// Packing at load, bytes/s of row-major codes.
template <typename Pack>
void bench_pack(benchmark::State& state, Pack pack, int64_t packed_bytes, int64_t n) {
  const std::vector<int8_t> codes(static_cast<size_t>(n * n), int8_t{-7});
  const std::vector<uint16_t> scales(static_cast<size_t>(n * flexq::w6::n_groups(n)), 0x2000);
  std::vector<uint8_t> packed(static_cast<size_t>(packed_bytes));
  std::vector<uint16_t> packed_scales(static_cast<size_t>(flexq::w6::scales_bytes(n, n) / 2));
  for (auto _ : state) {
    pack(codes.data(), scales.data(), 0, n, n, n, packed.data(), packed_scales.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * n * n);
}

template <typename Run>
benchmark::internal::Benchmark* add(const std::string& name, Run run) {
  return benchmark::RegisterBenchmark(name.c_str(), run)->Unit(benchmark::kMicrosecond);
}

// The linear layers of TinyLlama-1.1B.
void add_linears(const std::string& table, const CpuKernels& kernels) {
  const bool portable = table == "portable";
  for (const Shape& layer :
       {Shape{2048, 2048, 0}, Shape{256, 2048, 0}, Shape{5632, 2048, 0}, Shape{2048, 5632, 0}}) {
    for (const int64_t n_tokens : {1, 2, 4, 8, 16, 128}) {
      if (portable && n_tokens != 1 && n_tokens != 128) continue;
      const Shape shape = {layer.n_rows, layer.n_cols, n_tokens};
      for (const bool quantized : {true, false}) {
        const std::string entry = quantized ? "linear_int8/" : "linear_f32/";
        for (const int threads : {1, 2}) {
          add(table + "/" + entry + "w6/" + shape.text(),
              [&kernels, shape, quantized](auto& state) {
                bench_group_linear<flexq::PackedW6>(state, kernels, shape, quantized);
              })
              ->Threads(threads)
              ->UseRealTime();
          add(table + "/" + entry + "w8/" + shape.text(),
              [&kernels, shape, quantized](auto& state) {
                bench_group_linear<flexq::PackedW8>(state, kernels, shape, quantized);
              })
              ->Threads(threads)
              ->UseRealTime();
        }
      }
    }
  }
}

void add_table(const std::string& table, const CpuKernels& kernels) {
  add_linears(table, kernels);
  for (const Shape& shape :
       {Shape{32000, 2048, 1}, Shape{32000, 2048, 4}, Shape{2048, 2048, 128}}) {
    for (const int threads : {1, 2}) {
      add(table + "/rows/i8/" + shape.text(),
          [&kernels, shape](auto& state) { bench_i8_rows(state, kernels, shape); })
          ->Threads(threads)
          ->UseRealTime();
      for (const DenseType type : {DenseType::kF32, DenseType::kF16, DenseType::kBF16}) {
        const char* names[] = {"f32/", "f16/", "bf16/"};
        add(table + "/rows/" + names[static_cast<int>(type)] + shape.text(),
            [&kernels, shape, type](auto& state) { bench_dense(state, kernels, shape, type); })
            ->Threads(threads)
            ->UseRealTime();
      }
    }
  }
  for (const KvElement type : {KvElement::kF16, KvElement::kF32, KvElement::kI8}) {
    for (const int64_t positions : {64, 512, 4096}) {
      const char* names[] = {"f16/", "f32/", "i8/"};
      add(table + "/attention/" + names[static_cast<int>(type)] + std::to_string(positions),
          [&kernels, type, positions](auto& state) {
            bench_attention(state, kernels, type, positions);
          });
    }
  }
  for (const std::string entry : {"quantize_row", "quantize_kv_row", "rms_norm", "silu_mul"})
    add(table + "/small/" + entry,
        [&kernels, entry](auto& state) { bench_small(state, kernels, entry); });
}

}  // namespace

int main(int argc, char** argv) {
  for (const int threads : {1, 2})
    add("read_only", bench_read_only)->Threads(threads)->UseRealTime();
  for (const char* name : flexq::cpu_kernel_names()) {
    if (const CpuKernels* kernels = flexq::select_cpu_kernels(name)) add_table(name, *kernels);
  }
  add("pack/w6", [](auto& state) {
    bench_pack(state, flexq::w6::pack_w6_rows, flexq::w6::codes_bytes(2048, 2048), 2048);
  });
  add("pack/w8", [](auto& state) {
    bench_pack(state, flexq::w8::pack_w8_rows, flexq::w8::codes_bytes(2048, 2048), 2048);
  });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
