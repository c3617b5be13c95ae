// Linears that normalize and quantize their own input, in chains of overlapping launches, against
// the kernels that do one thing each: the same bits.
#include <numeric>

#include "cuda/int_linear_test_support.h"
#include "kernels/cuda/fused_linear_shape.h"

using namespace flexq;
using namespace flexq::test;

namespace {

struct Subject {
  WeightFormat format;
  int32_t bits;  // of the activations
  int64_t n_cols;
  int64_t n_tokens;
  std::vector<int64_t> n_rows;  // of each part
  bool norm;
  bool bias;
  CudaStore store;

  std::string name() const {
    std::string text = "w" + std::to_string(weight_bits(format)) + "a" + std::to_string(bits) +
                       " K " + std::to_string(n_cols) + " M " + std::to_string(n_tokens) + " N";
    for (const int64_t n : n_rows)
      text += " " + std::to_string(n);
    return text + (norm ? " norm" : "") + (bias ? " bias" : "") + " store " +
           std::to_string(static_cast<int>(store));
  }
  FusedProblem problem(const CudaLaunch& launch) const {
    return {launch.sm, CudaFamily::kInt8, weight_bits(format), n_cols, n_tokens};
  }
};

// Matrices of one K, their biases and outputs.
class Parts {
 public:
  Parts(const CudaLaunch& launch, Random& random, const Subject& subject) {
    for (const int64_t n : subject.n_rows) {
      const IntProduct p =
          random_product(random, subject.format, subject.bits, n, subject.n_cols, subject.n_tokens);
      devices_.push_back(std::make_unique<DeviceProduct>(launch, p, CudaFamily::kInt8));
      check_cuda(devices_.back()->pack_error());
      const int64_t stride = n + 3;
      before_.push_back(random.reals(subject.n_tokens * stride, -1.0f, 1.0f));
      outputs_.push_back(std::make_unique<DeviceArray<float>>(before_.back()));
      CudaLinearPart part;
      part.w = devices_.back()->matrix();
      part.bias = subject.bias ? devices_.back()->bias() : nullptr;
      part.out = {outputs_.back()->data(), stride};
      parts_.push_back(part);
    }
  }
  std::span<const CudaLinearPart> get() const { return parts_; }
  void reset() const {
    for (size_t i = 0; i < outputs_.size(); ++i)
      outputs_[i]->set(before_[i]);
  }
  // Outputs that the store promises; the second part of kSiluMul is scratch.
  std::vector<std::vector<float>> results(CudaStore store) const {
    std::vector<std::vector<float>> all;
    for (size_t i = 0; i < (store == CudaStore::kSiluMul ? 1 : outputs_.size()); ++i)
      all.push_back(outputs_[i]->get());
    return all;
  }

 private:
  std::vector<std::unique_ptr<DeviceProduct>> devices_;
  std::vector<std::vector<float>> before_;
  std::vector<std::unique_ptr<DeviceArray<float>>> outputs_;
  std::vector<CudaLinearPart> parts_;
};

// Activations whose groups differ in magnitude.
std::vector<float> activations(Random& random, int64_t n_tokens, int64_t n, int64_t stride) {
  std::vector<float> x = random.reals(n_tokens * stride, -4.0f, 4.0f);
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t i = 0; i < n; ++i)
      x[static_cast<size_t>(t * stride + i)] *=
          std::exp2(static_cast<float>(i / kGroupSize % 7) - 3.0f);
  }
  return x;
}

void check_subject(const CudaLaunch& launch, Random& random, const Subject& subject) {
  const Parts parts(launch, random, subject);
  const int64_t stride = (subject.n_cols + 63) / 64 * 64;
  const DeviceArray<float> x(activations(random, subject.n_tokens, subject.n_cols, stride));
  const DeviceArray<float> norm(random.reals(subject.n_cols, 0.5f, 1.5f));
  const int64_t groups = cuda_int8::n_groups(subject.n_cols);
  const DeviceArray<int8_t> codes(subject.n_tokens * groups * kGroupSize);
  const DeviceArray<float> scales(subject.n_tokens * groups);
  const DeviceArray<uint8_t> scratch(16);
  const CudaRows rows = {x.data(), stride};
  constexpr float kEps = 1e-5f;
  const auto quantize = [&](CodesOrder order) {
    const CudaQuantized out = {codes.data(), scales.data(), order};
    check_cuda(subject.norm ? cuda_rms_norm_quantize(launch, rows, norm.data(), subject.n_cols,
                                                     kEps, subject.bits, subject.n_tokens, out)
                            : cuda_quantize(launch, rows, subject.n_cols, subject.bits,
                                            subject.n_tokens, out));
    return out;
  };
  const CudaQuantized ordered =
      quantize(codes_order(linear_problem(launch, parts.get(), subject.n_tokens, subject.store)));
  check_cuda(cuda_linear_int(launch, parts.get(), ordered, subject.bits, subject.n_tokens,
                             subject.store, scratch.data()));
  const auto expected = parts.results(subject.store);
  const auto check_results = [&](const char* how) {
    const auto got = parts.results(subject.store);
    for (size_t i = 0; i < got.size(); ++i) {
      check_same_bits(got[i], static_cast<int64_t>(got[i].size()), expected[i],
                      static_cast<int64_t>(got[i].size()),
                      subject.name() + ", " + how + ", part " + std::to_string(i));
    }
  };
  if (can_fuse_linear(subject.problem(launch))) {
    parts.reset();
    const CudaQuantized natural = quantize(CodesOrder::kNatural);
    check_cuda(cuda_linear_fused(launch, parts.get(), natural, subject.n_tokens, subject.store));
    check_results("codes");
  }
  if (fuses_quantization(subject.problem(launch), subject.norm)) {
    parts.reset();
    const CudaSource source = {x.data(), subject.norm ? norm.data() : nullptr, kEps};
    check_cuda(cuda_linear_fused(launch, parts.get(), source, subject.bits, subject.store));
    check_results("row");
  }
}

// in -> joint (x, y) -> silu pair -> add, as in a layer, in overlapping launches.
void check_chain(const CudaLaunch& launch, Random& random, int64_t n_embd, int64_t n_ff, int laps,
                 int repeats) {
  const Subject first = {WeightFormat::kInt6Group, 6, n_embd, 1, {n_embd, 256}, true, false,
                         CudaStore::kSet};
  const Subject second = {WeightFormat::kInt6Group, 6, n_embd, 1, {n_ff, n_ff}, true, false,
                          CudaStore::kSiluMul};
  const Subject third = {WeightFormat::kInt6Group, 8, n_ff, 1, {n_embd}, false, false,
                         CudaStore::kAdd};
  if (!fuses_quantization(first.problem(launch), true)) return;
  const Parts a(launch, random, first);
  const Parts b(launch, random, second);
  const Parts c(launch, random, third);
  const DeviceArray<float> norm(random.reals(n_embd, 0.5f, 1.5f));
  const DeviceArray<int8_t> codes(4096);
  const DeviceArray<float> scales(32);
  const DeviceArray<uint8_t> scratch(16);
  const DeviceArray<float> x(activations(random, 1, n_embd, n_embd));
  const float* row = x.data();
  const auto run = [&](bool fused) {
    a.reset();
    b.reset();
    c.reset();
    const float* input = row;
    const auto step = [&](const Subject& subject, const Parts& parts, const float* from) {
      const float* factor = subject.norm ? norm.data() : nullptr;
      if (fused) {
        check_cuda(cuda_linear_fused(launch, parts.get(), CudaSource{from, factor, 1e-5f},
                                     subject.bits, subject.store));
        return;
      }
      const CudaRows rows = {const_cast<float*>(from), subject.n_cols};
      const CudaQuantized quantized = {codes.data(), scales.data(), CodesOrder::kNatural};
      check_cuda(factor != nullptr
                     ? cuda_rms_norm_quantize(launch, rows, factor, subject.n_cols, 1e-5f,
                                              subject.bits, 1, quantized)
                     : cuda_quantize(launch, rows, subject.n_cols, subject.bits, 1, quantized));
      check_cuda(cuda_linear_int(launch, parts.get(), quantized, subject.bits, 1, subject.store,
                                 scratch.data()));
    };
    for (int lap = 0; lap < laps; ++lap) {
      step(first, a, input);
      step(second, b, a.get()[0].out.data);
      step(third, c, b.get()[0].out.data);
      input = c.get()[0].out.data;
    }
    return c.results(CudaStore::kAdd)[0];
  };
  const std::vector<float> expected = run(false);
  for (int repeat = 0; repeat < repeats; ++repeat)
    check_same_bits(run(true), n_embd + 3, expected, n_embd + 3, "chain " + std::to_string(repeat));
}

constexpr std::pair<WeightFormat, int32_t> kPrecisions[] = {
    {WeightFormat::kInt6Group, 6}, {WeightFormat::kInt6Group, 8}, {WeightFormat::kInt8Group, 8}};

}  // namespace

TEST_CASE("fused linears on the GPU: the bits of the kernels that do one thing each") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  Random random(11);
  const auto pick = [&](auto... values) {
    const int64_t all[] = {values...};
    return all[random.integer(0, static_cast<int64_t>(sizeof...(values)) - 1)];
  };
  for (int i = 0; i < 600; ++i) {
    const auto [format, bits] = kPrecisions[random.integer(0, 2)];
    Subject subject = {format,
                       bits,
                       random.integer(1, 1400),
                       1,
                       {},
                       random.integer(0, 1) == 1,
                       random.integer(0, 1) == 1,
                       CudaStore::kSet};
    if (random.integer(0, 2) == 0) subject.n_cols = pick(128, 4096, 5120, 8192, 11008, 4097, 9000);
    if (random.integer(0, 1) == 0) subject.n_tokens = random.integer(2, kFusedMaxTokens);
    subject.store = static_cast<CudaStore>(random.integer(0, 2));
    const int64_t n_parts = subject.store == CudaStore::kSiluMul ? 2 : random.integer(1, 3);
    const int64_t rows = random.integer(1, random.integer(0, 3) == 0 ? 6000 : 200);
    for (int64_t part = 0; part < n_parts; ++part)
      subject.n_rows.push_back(
          part > 0 && subject.store != CudaStore::kSiluMul ? random.integer(1, 300) : rows);
    check_subject(launch, random, subject);
  }
}

TEST_CASE("fused linears on the GPU: a chain of overlapping launches, again and again") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  Random random(12);
  check_chain(launch, random, 1024, 2816, 20, 30);
}

// Each form of the kernel with rings that go round several times in two CTAs: little enough work
// for compute-sanitizer.
TEST_CASE("fused linears on the GPU: every form on a few rows") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  launch.n_sms = 2;
  Random random(13);
  for (const auto& [format, bits] : kPrecisions) {
    if (bits != weight_bits(format)) continue;
    for (const int64_t n_tokens : {1, 3}) {
      check_subject(launch, random,
                    {format, bits, 640, n_tokens, {70, 33, 20}, true, true, CudaStore::kSet});
      check_subject(launch, random,
                    {format, bits, 4224, n_tokens, {40, 40}, true, false, CudaStore::kSiluMul});
      check_subject(launch, random,
                    {format, bits, 4224, n_tokens, {70}, false, false, CudaStore::kAdd});
    }
  }
  check_chain(launch, random, 256, 384, 1, 1);
}

// The four products of a LLaMA-2-7B layer, 32 layers of their own weights, as one graph.
// Attention of a LLaMA-2-7B layer, each token behind 512 positions of a sequence of its own.
struct TimedAttention {
  static constexpr int32_t kHeads = 32;
  static constexpr int32_t kDim = 128;
  static constexpr int32_t kPositions = 512;
  static constexpr int32_t kPages = kPositions / 16 + 1;
  static constexpr int64_t kHeadBytes = 16 * kDim * 2;
  int32_t n_tokens;
  int64_t page_bytes;
  DeviceArray<uint8_t> pages;
  DeviceArray<int32_t> table;
  DeviceArray<int32_t> positions;
  DeviceArray<int32_t> sequences;
  DeviceArray<int32_t> counters;
  DeviceArray<float> angles;
  DeviceArray<uint8_t> scratch;

  static std::vector<int32_t> ascending(int64_t n) {
    std::vector<int32_t> values(static_cast<size_t>(n));
    std::iota(values.begin(), values.end(), 0);
    return values;
  }
  TimedAttention(int32_t n_layers, int64_t tokens)
      : n_tokens(static_cast<int32_t>(tokens)),
        page_bytes(2 * kHeads * kHeadBytes * n_layers),
        pages(std::vector<uint8_t>(static_cast<size_t>(tokens * kPages * page_bytes), 0x2c)),
        table(ascending(tokens * kPages)),
        positions(std::vector<int32_t>(static_cast<size_t>(tokens), kPositions)),
        sequences(ascending(tokens)),
        counters(std::vector<int32_t>(static_cast<size_t>(tokens * kHeads), 0)),
        angles(std::vector<float>(static_cast<size_t>(tokens * kDim / 2), 0.5f)),
        scratch(cuda_attention_scratch_bytes(kHeads, kDim, n_tokens, kPositions + 1)) {}
  // q, k and v: (n_tokens, 4096) each, one behind the other.
  cudaError_t queue(const CudaLaunch& launch, int32_t layer, float* q) const {
    CudaBatch batch;
    batch.positions = positions.data();
    batch.sequences = sequences.data();
    batch.cos = angles.data();
    batch.sin = angles.data();
    batch.n_tokens = n_tokens;
    batch.n_runs = n_tokens;
    batch.longest_run = 1;
    batch.most_positions = kPositions + 1;
    batch.counters = counters.data();
    CudaKv kv;
    kv.pages = pages.data();
    kv.page_bytes = page_bytes;
    kv.layer_offset = layer * 2 * kHeads * kHeadBytes;
    kv.head_bytes = kHeadBytes;
    kv.n_kv_heads = kHeads;
    kv.head_dim = kDim;
    kv.block_tables = table.data();
    kv.pages_per_sequence = kPages;
    constexpr int64_t kWidth = kHeads * kDim;
    const int64_t rows = n_tokens * kWidth;
    return cuda_decode_attention(launch, batch, kv, kHeads, {q, kWidth}, {q + rows, kWidth},
                                 {q + 2 * rows, kWidth}, {q + 3 * rows, kWidth}, scratch.data());
  }
};

TEST_CASE("fused linears timings" * doctest::skip()) {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  check_cuda(cudaStreamCreateWithFlags(&launch.stream, cudaStreamNonBlocking));
  constexpr int kLayers = 32;
  struct Shape {
    std::vector<int64_t> n_rows;
    int64_t n_cols;
    CudaStore store;
    bool norm;
  };
  const Shape shapes[] = {{{4096, 4096, 4096}, 4096, CudaStore::kSet, true},
                          {{4096}, 4096, CudaStore::kAdd, false},
                          {{11008, 11008}, 4096, CudaStore::kSiluMul, true},
                          {{4096}, 11008, CudaStore::kAdd, false}};
  for (const int32_t w_bits : {6, 8}) {
    const WeightFormat format = w_bits == 6 ? WeightFormat::kInt6Group : WeightFormat::kInt8Group;
    int64_t layer_bytes = 0;
    int64_t scale_bytes = 0;
    for (const Shape& shape : shapes) {
      for (const int64_t n : shape.n_rows) {
        layer_bytes += cuda_int8::codes_bytes(n, shape.n_cols, w_bits);
        scale_bytes += cuda_int8::scales_bytes(n, shape.n_cols);
      }
    }
    void* memory = nullptr;
    check_cuda(cudaMalloc(&memory, static_cast<size_t>((layer_bytes + scale_bytes) * kLayers)));
    auto* const codes = static_cast<uint8_t*>(memory);
    uint8_t* const scales = codes + layer_bytes * kLayers;
    Random random(1);
    const std::vector<int8_t> noise = random.codes(layer_bytes, 8);
    std::vector<uint16_t> halves;
    for (int64_t i = 0; i < scale_bytes / 2; ++i)
      halves.push_back(static_cast<uint16_t>(0x1400 + (i * 2654435761u >> 20 & 0xfff)));
    for (int i = 0; i < kLayers; ++i) {
      check_cuda(
          cudaMemcpy(codes + i * layer_bytes, noise.data(), noise.size(), cudaMemcpyHostToDevice));
      check_cuda(cudaMemcpy(scales + i * scale_bytes, halves.data(), halves.size() * 2,
                            cudaMemcpyHostToDevice));
    }
    const double floor_us = static_cast<double>(layer_bytes + scale_bytes) / 4.5e6;
    for (const int64_t n_tokens : {1, 2, 3, 4}) {
      const DeviceArray<float> x(random.reals(n_tokens * 11008, -1.0f, 1.0f));
      const DeviceArray<float> q(n_tokens * 4096 * 4);
      const DeviceArray<float> h(n_tokens * 11008 * 2);
      const DeviceArray<float> norm(random.reals(4096, 0.5f, 1.5f));
      const DeviceArray<int8_t> x_codes(n_tokens * 11008);
      const DeviceArray<float> x_scales(n_tokens * 86);
      const DeviceArray<uint8_t> scratch(16);
      const TimedAttention attention(kLayers, n_tokens);
      // -2: the whole layer with attention between; -1: without; else one product of each layer.
      for (const bool fused : {false, true}) {
        for (int only = fused ? -2 : -1; only < 4; ++only) {
          cudaGraph_t graph = nullptr;
          cudaGraphExec_t exec = nullptr;
          check_cuda(cudaStreamBeginCapture(launch.stream, cudaStreamCaptureModeThreadLocal));
          for (int layer = 0; layer < kLayers; ++layer) {
            uint8_t* at = codes + layer * layer_bytes;
            uint8_t* scales_at = scales + layer * scale_bytes;
            for (int i = 0; i < 4; ++i) {
              if (only == -2 && i == 1) check_cuda(attention.queue(launch, layer, q.data()));
              const Shape& shape = shapes[i];
              std::vector<CudaLinearPart> parts;
              for (size_t n = 0; n < shape.n_rows.size(); ++n) {
                CudaLinearPart part;
                part.w.format = format;
                part.w.rows = shape.n_rows[n];
                part.w.cols = shape.n_cols;
                part.w.values = at;
                part.w.scales = scales_at;
                at += cuda_int8::codes_bytes(part.w.rows, shape.n_cols, w_bits);
                scales_at += cuda_int8::scales_bytes(part.w.rows, shape.n_cols);
                float* out = i == 0   ? q.data() + static_cast<int64_t>(n) * n_tokens * 4096
                             : i == 2 ? h.data() + static_cast<int64_t>(n) * n_tokens * 11008
                                      : x.data();
                part.out = {out, part.w.rows};
                parts.push_back(part);
              }
              if (only >= 0 && only != i) continue;
              float* from = i == 1   ? q.data() + (only == -2 ? n_tokens * 4096 * 3 : 0)
                            : i == 3 ? h.data()
                                     : x.data();
              const float* factor = shape.norm ? norm.data() : nullptr;
              const int32_t bits = i == 3 || w_bits == 8 ? 8 : 6;
              const FusedProblem problem = {launch.sm, CudaFamily::kInt8, w_bits, shape.n_cols,
                                            n_tokens};
              if (fused && fuses_quantization(problem, shape.norm)) {
                check_cuda(cuda_linear_fused(launch, parts, CudaSource{from, factor, 1e-5f}, bits,
                                             shape.store));
                continue;
              }
              const CudaRows rows = {from, shape.n_cols};
              const bool fuses = fused && can_fuse_linear(problem);
              const CudaQuantized quantized = {
                  x_codes.data(), x_scales.data(),
                  fuses ? CodesOrder::kNatural
                        : codes_order(linear_problem(launch, parts, n_tokens, shape.store))};
              check_cuda(shape.norm ? cuda_rms_norm_quantize(launch, rows, factor, shape.n_cols,
                                                             1e-5f, bits, n_tokens, quantized)
                                    : cuda_quantize(launch, rows, shape.n_cols, bits, n_tokens,
                                                    quantized));
              check_cuda(fuses ? cuda_linear_fused(launch, parts, quantized, n_tokens, shape.store)
                               : cuda_linear_int(launch, parts, quantized, bits, n_tokens,
                                                 shape.store, scratch.data()));
            }
          }
          check_cuda(cudaStreamEndCapture(launch.stream, &graph));
          check_cuda(cudaGraphInstantiate(&exec, graph, 0));
          cudaEvent_t begin, end;
          check_cuda(cudaEventCreate(&begin));
          check_cuda(cudaEventCreate(&end));
          std::vector<float> times;
          for (int repeat = 0; repeat < 9; ++repeat) {
            float ms = 0;
            check_cuda(cudaEventRecord(begin, launch.stream));
            check_cuda(cudaGraphLaunch(exec, launch.stream));
            check_cuda(cudaEventRecord(end, launch.stream));
            check_cuda(cudaEventSynchronize(end));
            check_cuda(cudaEventElapsedTime(&ms, begin, end));
            times.push_back(ms * 1000 / kLayers);
          }
          check_cuda(cudaGraphExecDestroy(exec));
          check_cuda(cudaGraphDestroy(graph));
          std::sort(times.begin(), times.end());
          printf("w%d M %d %s product %d: %.2f us a layer (floor of all four %.1f)\n", w_bits,
                 static_cast<int>(n_tokens), fused ? "fused" : "apart", only, times[4], floor_us);
        }
      }
    }
    check_cuda(cudaFree(memory));
  }
}
