// Binary tensor-core linear layers on a GPU: packing against the constexpr layout, group dots by
// memcmp, whole outputs bit for bit against a host emulation of the documented order of sums.
// Speed: --no-skip --test-case="btc bench".
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/half.h"
#include "kernels/cuda/btc_kernels.h"
#include "kernels/cuda/btc_tiling.h"
#include "kernels/layout/cuda_btc_layout.h"
#include "support/skipped.h"

using namespace flexq;

namespace {

// --- device --------------------------------------------------------------------------------------

void check(cudaError_t error) {
  INFO(cudaGetErrorString(error));
  REQUIRE(error == cudaSuccess);
}

bool no_device() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess && count > 0) return false;
  MESSAGE("SKIPPED: no CUDA device");
  test::case_skipped = true;
  return true;
}

// What launchers call, and no more.
const CudaRuntime& test_runtime() {
  static const CudaRuntime runtime = [] {
    CudaRuntime table{};
    table.allow_shared_bytes = [](const void* kernel, int bytes) {
      return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    };
    table.launch_kernel = [](const void* kernel, dim3 grid, dim3 block, void** arguments,
                             size_t shared_bytes, cudaStream_t stream) {
      return cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
    };
    return table;
  }();
  return runtime;
}

CudaLaunch device_launch() {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0));
  return {.runtime = &test_runtime(),
          .stream = nullptr,
          .sm = properties.major * 10 + properties.minor,
          .n_sms = properties.multiProcessorCount};
}

// Device memory that grows and is reused.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(memory_); }

  void* reserve(size_t bytes) {
    if (bytes > bytes_) {
      cudaFree(memory_);
      memory_ = nullptr;
      bytes_ = 0;
      check(cudaMalloc(&memory_, bytes));
      bytes_ = bytes;
    }
    return memory_;
  }
  template <typename T>
  T* upload(const std::vector<T>& values) {
    auto* const to = static_cast<T*>(reserve(values.size() * sizeof(T)));
    check(cudaMemcpy(to, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    return to;
  }
  template <typename T>
  std::vector<T> download(size_t n) const {
    std::vector<T> values(n);
    check(cudaMemcpy(values.data(), memory_, n * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

// --- random problems -----------------------------------------------------------------------------

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint32_t bits() {  // xorshift64*
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 0x2545f4914f6cdd1du) >> 32);
  }
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1));
  }
  bool chance(double share) { return bits() < share * 4294967296.0; }
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(bits() >> 8) * 0x1p-24f;
  }

 private:
  uint64_t state_;
};

struct Problem {
  int64_t N = 0, K = 0, n_tokens = 0, G = 0;
  int32_t bits = 6;
  float multiplier = 1.0f;
  std::vector<int8_t> w;           // (N, K)
  std::vector<uint16_t> w_scales;  // (N, G) fp16
  std::vector<int8_t> x;           // (n_tokens, G * 128)
  std::vector<float> x_scales;     // (n_tokens, G)

  std::string name() const {
    char text[96];
    std::snprintf(text, sizeof(text), "N %lld K %lld tokens %lld W6A%d", static_cast<long long>(N),
                  static_cast<long long>(K), static_cast<long long>(n_tokens), bits);
    return text;
  }
};

void fill_codes(Random& random, int32_t bits, bool extreme, int8_t* codes, int64_t n) {
  const int32_t top = 1 << (bits - 1);
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t draw = random.bits() >> 8;
    const int32_t value = extreme ? ((draw & 1) != 0 ? -top : top - 1)
                                  : static_cast<int32_t>(draw & (2u * top - 1)) - top;
    codes[i] = static_cast<int8_t>(value);
  }
}

Problem random_problem(Random& random, int64_t N, int64_t K, int64_t n_tokens) {
  Problem p;
  p.N = N;
  p.K = K;
  p.n_tokens = n_tokens;
  p.G = cuda_btc::n_groups(K);
  p.bits = random.chance(0.5) ? 6 : 8;
  p.multiplier = std::ldexp(1.0f, static_cast<int>(random.integer(-12, 3)));
  const bool extreme = random.chance(0.1);
  p.w.resize(static_cast<size_t>(N * K));
  fill_codes(random, 6, extreme, p.w.data(), N * K);
  p.w_scales.resize(static_cast<size_t>(N * p.G));
  for (uint16_t& scale : p.w_scales)
    scale = float_to_half(random.uniform(0.001f, 1.0f));
  p.x.assign(static_cast<size_t>(n_tokens * p.G * 128), int8_t{0});
  for (int64_t t = 0; t < n_tokens; ++t) {
    fill_codes(random, p.bits, extreme, p.x.data() + t * p.G * 128, K);
  }
  p.x_scales.resize(static_cast<size_t>(n_tokens * p.G));
  for (float& scale : p.x_scales)
    scale = random.uniform(1e-5f, 0.1f);
  return p;
}

// --- host references -----------------------------------------------------------------------------

int32_t group_dot(const Problem& p, int64_t token, int64_t row, int64_t group) {
  const int8_t* const w = p.w.data() + row * p.K + group * 128;
  const int8_t* const x = p.x.data() + (token * p.G + group) * 128;
  const int64_t n = std::min<int64_t>(128, p.K - group * 128);
  int32_t dot = 0;
  for (int64_t k = 0; k < n; ++k)
    dot += int32_t{w[k]} * int32_t{x[k]};
  return dot;
}

float host_sum(const Problem& p, int64_t token, int64_t row) {
  float acc = 0.0f;
  for (int64_t g = 0; g < p.G; ++g) {
    const float sw = half_to_float(p.w_scales[static_cast<size_t>(row * p.G + g)]) * p.multiplier;
    const float scale = p.x_scales[static_cast<size_t>(token * p.G + g)] * sw;
    acc = std::fma(static_cast<float>(group_dot(p, token, row, g)), scale, acc);
  }
  return acc;
}

struct Packed {
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales;
};
Packed host_packed(const Problem& p) {
  Packed packed;
  packed.codes.resize(static_cast<size_t>(cuda_btc::codes_bytes(p.N, p.K)));
  packed.scales.resize(static_cast<size_t>(cuda_btc::scales_bytes(p.N, p.K) / 2));
  for (int64_t row = 0; row < p.N; ++row) {
    for (int64_t col = 0; col < p.K; ++col) {
      const int64_t unit = row / 16 * p.G + col / 128;
      const auto place =
          cuda_btc::place_of(static_cast<int32_t>(row % 16), static_cast<int32_t>(col % 128));
      const auto code = static_cast<uint32_t>(p.w[static_cast<size_t>(row * p.K + col)]);
      for (int32_t plane = 0; plane < 6; ++plane) {
        const int64_t byte = unit * cuda_btc::kUnitBytes +
                             cuda_btc::word_byte(place.lane, plane, place.half) + place.bit / 8;
        packed.codes[static_cast<size_t>(byte)] |=
            static_cast<uint8_t>((code >> plane & 1u) << place.bit % 8);
      }
    }
    for (int64_t g = 0; g < p.G; ++g) {
      packed.scales[static_cast<size_t>((row / 16 * p.G + g) * 16 + row % 16)] =
          p.w_scales[static_cast<size_t>(row * p.G + g)];
    }
  }
  return packed;
}

// --- running -------------------------------------------------------------------------------------

class Device {
 public:
  CudaLaunch launch = device_launch();

  // Packs p's weights in ranges of at most `range` rows, over poisoned memory.
  void pack(const Problem& p, int64_t range) {
    const auto codes_bytes = static_cast<size_t>(cuda_btc::codes_bytes(p.N, p.K));
    const auto scales_bytes = static_cast<size_t>(cuda_btc::scales_bytes(p.N, p.K));
    check(cudaMemset(codes_.reserve(codes_bytes), 0xa5, codes_bytes));
    check(cudaMemset(scales_.reserve(scales_bytes), 0xa5, scales_bytes));
    const int8_t* const w = raw_codes_.upload(p.w);
    const uint16_t* const w_scales = raw_scales_.upload(p.w_scales);
    for (int64_t row = 0; row < p.N; row += range) {
      check(cuda_pack_btc_rows(
          launch, w + row * p.K, w_scales + row * p.G, row, std::min(range, p.N - row), p.N, p.K,
          static_cast<uint8_t*>(codes_.reserve(0)), static_cast<uint8_t*>(scales_.reserve(0))));
    }
    check(cudaDeviceSynchronize());
  }
  Packed packed(const Problem& p) const {
    return {codes_.download<uint8_t>(static_cast<size_t>(cuda_btc::codes_bytes(p.N, p.K))),
            scales_.download<uint16_t>(static_cast<size_t>(cuda_btc::scales_bytes(p.N, p.K) / 2))};
  }
  void upload_activations(const Problem& p) {
    x_.upload(p.x);
    x_scales_.upload(p.x_scales);
  }

  // Runs the packed weights over the uploaded activations; `before` (n_tokens, stride) is what out
  // holds.
  std::vector<float> linear(const Problem& p, const std::vector<float>& before, int64_t stride,
                            const float* bias, CudaStore store) {
    float* const out = out_.upload(before);
    CudaMatrix w;
    w.format = WeightFormat::kInt6Group;
    w.family = CudaFamily::kBinary;
    w.rows = p.N;
    w.cols = p.K;
    w.values = static_cast<const uint8_t*>(codes_.reserve(0));
    w.scales = static_cast<const uint8_t*>(scales_.reserve(0));
    w.scale_multiplier = p.multiplier;
    const CudaQuantized x = {static_cast<int8_t*>(x_.reserve(0)),
                             static_cast<float*>(x_scales_.reserve(0))};
    check(cuda_linear_btc(launch, w, x, p.bits, p.n_tokens, bias, store, {out, stride}, nullptr));
    check(cudaDeviceSynchronize());
    return out_.download<float>(before.size());
  }
  const float* upload_bias(const std::vector<float>& bias) { return bias_.upload(bias); }
  void set_x_scales(const std::vector<float>& scales) { x_scales_.upload(scales); }

 private:
  Buffer raw_codes_, raw_scales_, codes_, scales_, x_, x_scales_, out_, bias_;
};

const float kPoison = std::numeric_limits<float>::quiet_NaN();

// Other GPUs' tilings, and few CTAs, so that one goes through many row blocks.
CudaLaunch varied(const CudaLaunch& launch, Random& random) {
  CudaLaunch other = launch;
  constexpr int32_t kSms[] = {75, 80, 86, 90, 90};
  other.sm = std::min(launch.sm, kSms[random.integer(0, 4)]);
  constexpr int32_t kCounts[] = {1, 2, 7, 132};
  other.n_sms = kCounts[random.integer(0, 3)];
  return other;
}

// Runs p and compares every output with the host.
void check_outputs(Device& device, Random& random, const Problem& p) {
  const int64_t stride = p.N + (random.chance(0.5) ? random.integer(0, 9) : 0);
  const CudaStore store = random.chance(0.5) ? CudaStore::kAdd : CudaStore::kSet;
  std::vector<float> before(static_cast<size_t>(p.n_tokens * stride), kPoison);
  if (store == CudaStore::kAdd) {
    for (float& value : before)
      value = random.uniform(-10.0f, 10.0f);
  }
  std::vector<float> bias;
  const float* device_bias = nullptr;
  if (random.chance(0.5)) {
    for (int64_t i = 0; i < p.N; ++i)
      bias.push_back(random.uniform(-3.0f, 3.0f));
    device_bias = device.upload_bias(bias);
  }
  device.upload_activations(p);
  const std::vector<float> out = device.linear(p, before, stride, device_bias, store);
  INFO(p.name(), " stride ", stride, " as sm ", device.launch.sm, " with ", device.launch.n_sms,
       " multiprocessors");
  for (int64_t t = 0; t < p.n_tokens; ++t) {
    for (int64_t n = 0; n < stride; ++n) {
      const auto i = static_cast<size_t>(t * stride + n);
      float expected = before[i];
      if (n < p.N) {
        float value = host_sum(p, t, n);
        if (!bias.empty()) value += bias[static_cast<size_t>(n)];
        expected = store == CudaStore::kAdd ? before[i] + value : value;
      }
      if (std::bit_cast<uint32_t>(out[i]) == std::bit_cast<uint32_t>(expected)) continue;
      INFO("token ", t, " row ", n, ": ", out[i], ", expected ", expected);
      REQUIRE(std::bit_cast<uint32_t>(out[i]) == std::bit_cast<uint32_t>(expected));
    }
  }
}

}  // namespace

TEST_CASE("btc packing: every byte is where the layout says, ranges in any split") {
  if (no_device()) return;
  Device device;
  Random random(1);
  for (int round = 0; round < 120; ++round) {
    const int64_t K = random.chance(0.5) ? random.integer(1, 700) : random.integer(1, 40) * 16;
    const Problem p = random_problem(random, random.integer(1, 90), K, 1);
    device.pack(p, random.integer(1, 6) * 16);
    const Packed expected = host_packed(p);
    const Packed actual = device.packed(p);
    INFO(p.name());
    for (size_t i = 0; i < expected.codes.size(); ++i) {
      if (actual.codes[i] == expected.codes[i]) continue;
      INFO("unit ", i / 1536, " byte ", i % 1536);
      REQUIRE(int{actual.codes[i]} == int{expected.codes[i]});
    }
    REQUIRE(actual.scales == expected.scales);
  }
}

TEST_CASE("btc linear: int32 group dots of 2000 random shapes are exact") {
  if (no_device()) return;
  Device device;
  const CudaLaunch launch = device.launch;
  Random random(2);
  for (int round = 0; round < 2000; ++round) {
    const int64_t K = round % 10 == 0 ? random.integer(1, 1200) : random.integer(1, 400);
    Problem p = random_problem(random, random.integer(1, 70), K, random.integer(1, 13));
    p.multiplier = 1.0f;
    std::fill(p.w_scales.begin(), p.w_scales.end(), uint16_t{0x3c00});  // 1.0
    device.launch = varied(launch, random);
    device.pack(p, 1 << 20);
    device.upload_activations(p);
    const std::vector<float> poison(static_cast<size_t>(p.n_tokens * p.N), kPoison);
    std::vector<int32_t> dots(poison.size());
    std::vector<int32_t> expected(poison.size());
    for (int64_t g = 0; g < p.G; ++g) {
      // Scale 1 for this group and 0 for the others: the output is the group's dot, as a float.
      std::vector<float> one(static_cast<size_t>(p.n_tokens * p.G), 0.0f);
      for (int64_t t = 0; t < p.n_tokens; ++t)
        one[static_cast<size_t>(t * p.G + g)] = 1.0f;
      device.set_x_scales(one);
      const std::vector<float> out = device.linear(p, poison, p.N, nullptr, CudaStore::kSet);
      for (size_t i = 0; i < out.size(); ++i) {
        dots[i] =
            std::isnan(out[i]) ? std::numeric_limits<int32_t>::min() : static_cast<int32_t>(out[i]);
        const auto at = static_cast<int64_t>(i);
        expected[i] = group_dot(p, at / p.N, at % p.N, g);
      }
      if (std::memcmp(dots.data(), expected.data(), dots.size() * sizeof(int32_t)) == 0) continue;
      for (size_t i = 0; i < dots.size(); ++i) {
        INFO(p.name(), " as sm ", device.launch.sm, " group ", g, " token ",
             i / static_cast<size_t>(p.N), " row ", i % static_cast<size_t>(p.N));
        REQUIRE(dots[i] == expected[i]);
      }
    }
  }
}

TEST_CASE("btc linear: outputs of random shapes have the bits of the documented order") {
  if (no_device()) return;
  Device device;
  const CudaLaunch launch = device.launch;
  Random random(3);
  for (int round = 0; round < 400; ++round) {
    device.launch = varied(launch, random);
    const int64_t n_tokens = round % 8 == 0 ? random.integer(14, 70) : random.integer(1, 13);
    const Problem p =
        random_problem(random, random.integer(1, 150), random.integer(1, 1500), n_tokens);
    device.pack(p, 1 << 20);
    check_outputs(device, random, p);
  }
}

TEST_CASE("btc linear: outputs of long rows, also where the planes do not fit") {
  if (no_device()) return;
  Device device;
  const CudaLaunch launch = device.launch;
  Random random(4);
  for (const int64_t K : {4096, 8191, 11008, 14336, 28672, 53248, 300001}) {
    for (const int64_t n_tokens : {1, 2, 3, 5, 8, 9}) {
      const int64_t N = K > 100000 ? 17 : random.integer(30, 60);
      device.launch = n_tokens % 2 == 0 ? varied(launch, random) : launch;
      const Problem p = random_problem(random, N, K, n_tokens);
      device.pack(p, 1 << 20);
      check_outputs(device, random, p);
    }
  }
}

TEST_CASE("btc linear: whole layers, the same bits on every run") {
  if (no_device()) return;
  Device device;
  Random random(5);
  const int64_t shapes[][2] = {{4096, 4096}, {4096, 11008}, {12288, 4096}};
  for (const auto& shape : shapes) {
    for (const int64_t n_tokens : {1, 2, 3, 8}) {
      const Problem p = random_problem(random, shape[0], shape[1], n_tokens);
      device.pack(p, 1 << 20);
      check_outputs(device, random, p);
      const std::vector<float> poison(static_cast<size_t>(n_tokens * p.N), kPoison);
      const auto first = device.linear(p, poison, p.N, nullptr, CudaStore::kSet);
      for (int repeat = 0; repeat < 20; ++repeat) {
        const auto again = device.linear(p, poison, p.N, nullptr, CudaStore::kSet);
        REQUIRE(std::memcmp(first.data(), again.data(), first.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("btc linear: a scale that is NaN reaches the outputs of its token only") {
  if (no_device()) return;
  Device device;
  Random random(6);
  Problem p = random_problem(random, 40, 1000, 3);
  p.x_scales[static_cast<size_t>(p.G + 2)] = kPoison;
  device.pack(p, 1 << 20);
  device.upload_activations(p);
  const std::vector<float> zeros(static_cast<size_t>(3 * p.N), 0.0f);
  const auto out = device.linear(p, zeros, p.N, nullptr, CudaStore::kSet);
  for (size_t i = 0; i < out.size(); ++i) {
    INFO("token ", i / 40, " row ", i % 40, ": ", out[i]);
    REQUIRE(std::isnan(out[i]) == (i / 40 == 1));
  }
}

// Microseconds per call of graph replays over weights that never fit the L2 cache, median of 7.
TEST_CASE("btc bench" * doctest::skip()) {
  if (no_device()) return;
  CudaLaunch launch = device_launch();
  cudaStream_t stream;
  check(cudaStreamCreate(&stream));
  launch.stream = stream;
  constexpr size_t kPoolBytes = size_t{1200} << 20;
  constexpr size_t kBlockBytes = size_t{16} << 20;
  Buffer pool, x, x_scales, out;
  auto* const weights = static_cast<uint8_t*>(pool.reserve(kPoolBytes));
  Random random(7);
  std::vector<uint32_t> block(kBlockBytes / 4);
  for (uint32_t& word : block)
    word = random.bits();
  for (size_t at = 0; at < kPoolBytes; at += kBlockBytes) {
    check(cudaMemcpy(weights + at, block.data(), kBlockBytes, cudaMemcpyHostToDevice));
  }
  std::vector<int8_t> codes(size_t{8} * 28672);
  fill_codes(random, 8, false, codes.data(), static_cast<int64_t>(codes.size()));
  std::vector<float> token_scales(size_t{8} * 224, 0.01f);
  const CudaQuantized quantized = {x.upload(codes), x_scales.upload(token_scales)};
  auto* const outputs = static_cast<float*>(out.reserve(size_t{8} * 57344 * 4));

  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  const int64_t shapes[][2] = {{57344, 8192}, {8192, 28672}, {12288, 4096},
                               {4096, 4096},  {22016, 4096}, {4096, 11008}};
  std::printf("%14s %3s %9s %9s %6s\n", "N x K", "M", "us", "floor", "ratio");
  double layer_us = 0;
  for (const auto& shape : shapes) {
    const auto codes_bytes = static_cast<size_t>(cuda_btc::codes_bytes(shape[0], shape[1]));
    const auto scales_bytes = static_cast<size_t>(cuda_btc::scales_bytes(shape[0], shape[1]));
    const size_t bytes = codes_bytes + scales_bytes;
    const size_t copies = std::min(kPoolBytes / bytes, 2 + (size_t{250} << 20) / bytes);
    for (const int64_t n_tokens : {1, 2, 4, 8}) {
      const size_t calls = std::max<size_t>(20, copies);
      check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
      for (size_t i = 0; i < calls; ++i) {
        CudaMatrix w;
        w.format = WeightFormat::kInt6Group;
        w.family = CudaFamily::kBinary;
        w.rows = shape[0];
        w.cols = shape[1];
        w.values = weights + i % copies * bytes;
        w.scales = w.values + codes_bytes;
        check(cuda_linear_btc(launch, w, quantized, 8, n_tokens, nullptr, CudaStore::kSet,
                              {outputs, shape[0]}, nullptr));
      }
      cudaGraph_t graph;
      check(cudaStreamEndCapture(stream, &graph));
      cudaGraphExec_t replay;
      check(cudaGraphInstantiate(&replay, graph, 0));
      std::vector<double> us;
      for (int run = 0; run < 9; ++run) {
        check(cudaEventRecord(begin, stream));
        check(cudaGraphLaunch(replay, stream));
        check(cudaEventRecord(end, stream));
        check(cudaEventSynchronize(end));
        float ms = 0;
        check(cudaEventElapsedTime(&ms, begin, end));
        if (run >= 2) us.push_back(double{ms} * 1e3 / static_cast<double>(calls));
      }
      check(cudaGraphExecDestroy(replay));
      check(cudaGraphDestroy(graph));
      std::sort(us.begin(), us.end());
      const double median = us[us.size() / 2];
      const double floor = static_cast<double>(bytes) / 4.5e6;
      const bool layer_of_7b = shape[0] < 40000 && shape[1] < 20000;
      if (n_tokens == 1 && layer_of_7b) layer_us += median;
      std::printf("%6lld x %5lld %3lld %9.2f %9.2f %6.3f\n", static_cast<long long>(shape[0]),
                  static_cast<long long>(shape[1]), static_cast<long long>(n_tokens), median, floor,
                  median / floor);
    }
  }
  std::printf("the four matrices of a 7B layer at M = 1: %.1f us\n", layer_us);
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
  check(cudaStreamDestroy(stream));
}
