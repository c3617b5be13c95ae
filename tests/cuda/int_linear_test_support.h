// What the tests of the integer kernels share: device buffers, a runtime table, random quantized
// data and the documented arithmetic on the host.
#pragma once

#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/half.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/linear_select.h"
#include "kernels/layout/cuda_int8_layout.h"
#include "support/skipped.h"

namespace flexq::test {

inline void check_cuda(cudaError_t error) {
  REQUIRE_MESSAGE(error == cudaSuccess, cudaGetErrorString(error));
}

// False, and the case counts as skipped, on a machine without a GPU.
inline bool find_gpu(CudaLaunch* launch) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    MESSAGE("SKIPPED: no CUDA device");
    case_skipped = true;
    return false;
  }
  cudaDeviceProp properties;
  check_cuda(cudaGetDeviceProperties(&properties, 0));
  launch->runtime = &linked_cuda_runtime();
  launch->sm = properties.major * 10 + properties.minor;
  launch->n_sms = properties.multiProcessorCount;
  return true;
}

// Blocks of device memory that tests gave back, by their log2 size: ten thousand small shapes would
// otherwise wait for cudaMalloc and cudaFree.
class DevicePool {
 public:
  static DevicePool& instance() {
    static DevicePool pool;
    return pool;
  }
  void* take(int log2_bytes) {
    std::vector<void*>& blocks = free_[log2_bytes];
    void* block = nullptr;
    if (blocks.empty()) {
      check_cuda(cudaMalloc(&block, size_t{1} << log2_bytes));
    } else {
      block = blocks.back();
      blocks.pop_back();
    }
    return block;
  }
  void give(int log2_bytes, void* block) { free_[log2_bytes].push_back(block); }

 private:
  std::vector<void*> free_[40];
};

// Device memory for n values of T; poisoned with 0xff bytes: NaN, -1.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t n) : size_(n) {
    while ((int64_t{1} << log2_bytes_) < n * static_cast<int64_t>(sizeof(T)))
      ++log2_bytes_;
    data_ = static_cast<T*>(DevicePool::instance().take(log2_bytes_));
    poison();
  }
  explicit DeviceArray(const std::vector<T>& values)
      : DeviceArray(static_cast<int64_t>(values.size())) {
    set(values);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { DevicePool::instance().give(log2_bytes_, data_); }

  T* data() const { return data_; }
  void poison() const {
    check_cuda(cudaMemset(data_, 0xff, static_cast<size_t>(size_) * sizeof(T)));
  }
  void set(const std::vector<T>& values) const {
    check_cuda(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  std::vector<T> get(int64_t n) const {
    std::vector<T> values(static_cast<size_t>(n));
    check_cuda(cudaMemcpy(values.data(), data_, values.size() * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }
  std::vector<T> get() const { return get(size_); }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
  int log2_bytes_ = 8;
};

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int64_t integer(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(engine_);
  }
  float real(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(engine_);
  }
  // Codes of so many bits, both limits included; fast enough for millions.
  std::vector<int8_t> codes(int64_t n, int32_t bits) {
    std::vector<int8_t> values(static_cast<size_t>(n));
    uint64_t word = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      if (i % 8 == 0) word = engine_();
      values[i] = static_cast<int8_t>(static_cast<int8_t>(word & 0xff) >> (8 - bits));
      word >>= 8;
    }
    return values;
  }
  std::vector<float> reals(int64_t n, float low, float high) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values)
      value = real(low, high);
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

// A quantized product: W (n_rows, n_cols), x (n_tokens, groups * 128).
struct IntProduct {
  WeightFormat format = WeightFormat::kInt6Group;
  int32_t activation_bits = 6;
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  int64_t n_tokens = 0;
  int64_t groups = 0;
  float multiplier = 1.0f;
  std::vector<int8_t> w_codes;     // (n_rows, n_cols)
  std::vector<uint16_t> w_scales;  // (n_rows, groups) fp16
  std::vector<int8_t> x_codes;     // (n_tokens, groups * 128), zero past n_cols
  std::vector<float> x_scales;     // (n_tokens, groups)
  std::vector<float> bias;         // (n_rows)

  std::string name() const {
    return "w" + std::to_string(weight_bits(format)) + "a" + std::to_string(activation_bits) +
           " N " + std::to_string(n_rows) + " K " + std::to_string(n_cols) + " M " +
           std::to_string(n_tokens);
  }
};

inline IntProduct random_product(Random& random, WeightFormat format, int32_t activation_bits,
                                 int64_t n_rows, int64_t n_cols, int64_t n_tokens) {
  IntProduct p;
  p.format = format;
  p.activation_bits = activation_bits;
  p.n_rows = n_rows;
  p.n_cols = n_cols;
  p.n_tokens = n_tokens;
  p.groups = scales_per_row(format, n_cols);
  p.multiplier = std::ldexp(1.0f, static_cast<int>(random.integer(-6, 2)));
  p.w_codes = random.codes(n_rows * n_cols, weight_bits(format));
  p.x_codes = random.codes(n_tokens * p.groups * kGroupSize, activation_bits);
  for (int64_t t = 0; t < n_tokens; ++t) {
    const auto row = p.x_codes.begin() + t * p.groups * kGroupSize;
    std::fill(row + n_cols, row + p.groups * kGroupSize, int8_t{0});
  }
  for (int64_t i = 0; i < n_rows * p.groups; ++i)
    p.w_scales.push_back(float_to_half(random.real(0.001f, 0.1f)));
  p.x_scales = random.reals(n_tokens * p.groups, 0.001f, 0.1f);
  p.bias = random.reals(n_rows, -1.0f, 1.0f);
  return p;
}

// The exact dot product of one group.
inline int32_t group_dot(const IntProduct& p, int64_t token, int64_t row, int64_t group) {
  const int8_t* x = p.x_codes.data() + (token * p.groups + group) * kGroupSize;
  const int8_t* w = p.w_codes.data() + row * p.n_cols + group * kGroupSize;
  const int64_t n = std::min<int64_t>(kGroupSize, p.n_cols - group * kGroupSize);
  int32_t dot = 0;
  for (int64_t k = 0; k < n; ++k)
    dot += int32_t{x[k]} * int32_t{w[k]};
  return dot;
}

// One output in the documented order, before the bias. Slices of cuda_k_slices() groups.
inline float host_output(const IntProduct& p, int64_t token, int64_t row) {
  const int64_t slices = cuda_k_slices(p.n_rows, p.n_cols);
  float total = 0;
  for (int64_t slice = 0; slice < slices; ++slice) {
    float acc = 0;
    for (int64_t g = slice * p.groups / slices; g < (slice + 1) * p.groups / slices; ++g) {
      const size_t weight = static_cast<size_t>(row * p.groups + g);
      const float sw = half_to_float(p.w_scales[weight]) * p.multiplier;
      const float sx = p.x_scales[static_cast<size_t>(token * p.groups + g)];
      acc = std::fmaf(static_cast<float>(group_dot(p, token, row, g)), sx * sw, acc);
    }
    total = slice == 0 ? acc : total + acc;
  }
  return total;
}

// All outputs, (n_tokens, n_rows), on every core.
inline std::vector<float> host_outputs(const IntProduct& p) {
  std::vector<float> out(static_cast<size_t>(p.n_tokens * p.n_rows));
  const int64_t n_threads = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < n_threads; ++i) {
    threads.emplace_back([&, i] {
      for (int64_t row = i; row < p.n_rows; row += n_threads) {
        for (int64_t token = 0; token < p.n_tokens; ++token)
          out[static_cast<size_t>(token * p.n_rows + row)] = host_output(p, token, row);
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  return out;
}

// Activations of tokens [first, first + n_tokens) of a product on the device, in either order.
class DeviceActivations {
 public:
  DeviceActivations(const IntProduct& p, int64_t first, int64_t n_tokens, CodesOrder order)
      : order_(order),
        codes_(arranged_codes(p, first, n_tokens, order)),
        scales_(arranged_scales(p, first, n_tokens, order)) {}
  CudaQuantized get() const { return {codes_.data(), scales_.data(), order_}; }

 private:
  static std::vector<int8_t> arranged_codes(const IntProduct& p, int64_t first, int64_t n_tokens,
                                            CodesOrder order) {
    const int64_t row = p.groups * kGroupSize;
    const std::vector<int8_t> natural(p.x_codes.begin() + first * row,
                                      p.x_codes.begin() + (first + n_tokens) * row);
    if (order == CodesOrder::kNatural) return natural;
    std::vector<int8_t> codes(natural.size());
    for (size_t group = 0; group < codes.size(); group += kGroupSize) {
      for (int32_t word = 0; word < 32; ++word)
        std::memcpy(codes.data() + group + cuda_int8::tensor_word(word) * 4,
                    natural.data() + group + word * 4, 4);
    }
    return codes;
  }
  static std::vector<float> arranged_scales(const IntProduct& p, int64_t first, int64_t n_tokens,
                                            CodesOrder order) {
    std::vector<float> scales;
    const auto at = [&](int64_t t, int64_t g) {
      return p.x_scales[static_cast<size_t>((first + t) * p.groups + g)];
    };
    for (int64_t i = 0; i < n_tokens * p.groups; ++i)
      scales.push_back(order == CodesOrder::kNatural ? at(i / p.groups, i % p.groups)
                                                     : at(i % n_tokens, i / n_tokens));
    return scales;
  }

  CodesOrder order_;
  DeviceArray<int8_t> codes_;
  DeviceArray<float> scales_;
};

// A product's operands on the device, weights packed there.
class DeviceProduct {
 public:
  DeviceProduct(const CudaLaunch& launch, const IntProduct& p, CudaFamily family)
      : values_(cuda_int8::codes_bytes(p.n_rows, p.n_cols, 8)),
        scales_(cuda_int8::scales_bytes(p.n_rows, p.n_cols)),
        x_codes_(p.x_codes),
        x_scales_(p.x_scales),
        bias_(p.bias),
        scratch_(cuda_linear_int_scratch_bytes(p.n_rows, p.n_cols, p.n_tokens) + 16) {
    const DeviceArray<int8_t> codes(p.w_codes);
    const DeviceArray<uint16_t> scales(p.w_scales);
    pack_error_ = cuda_pack_rows(launch, p.format, family, codes.data(), scales.data(), 0, p.n_rows,
                                 p.n_rows, p.n_cols, values_.data(), scales_.data());
    check_cuda(cudaDeviceSynchronize());
    matrix_.format = p.format;
    matrix_.family = family;
    matrix_.rows = p.n_rows;
    matrix_.cols = p.n_cols;
    matrix_.values = values_.data();
    matrix_.scales = scales_.data();
    matrix_.scale_multiplier = p.multiplier;
  }

  bool available() const { return pack_error_ != cudaErrorNotSupported; }
  cudaError_t pack_error() const { return pack_error_; }
  const CudaMatrix& matrix() const { return matrix_; }
  CudaQuantized x() const { return {x_codes_.data(), x_scales_.data()}; }
  const float* bias() const { return bias_.data(); }
  uint8_t* scratch() const { return scratch_.data(); }

 private:
  DeviceArray<uint8_t> values_;
  DeviceArray<uint8_t> scales_;
  DeviceArray<int8_t> x_codes_;
  DeviceArray<float> x_scales_;
  DeviceArray<float> bias_;
  DeviceArray<uint8_t> scratch_;
  CudaMatrix matrix_;
  cudaError_t pack_error_ = cudaSuccess;
};

// cuda_linear_int on tokens [first, first + n_tokens) of a product.
inline cudaError_t multiply(const CudaLaunch& launch, const IntProduct& p,
                            const DeviceProduct& device, int64_t first, int64_t n_tokens,
                            const float* bias, CudaStore store, CudaRows out) {
  const CudaLinearPart part = {device.matrix(), bias, out};
  const DeviceActivations x(p, first, n_tokens,
                            codes_order(linear_problem(launch, {&part, 1}, n_tokens, store)));
  const cudaError_t error = cuda_linear_int(launch, {&part, 1}, x.get(), p.activation_bits,
                                            n_tokens, store, device.scratch());
  return error != cudaSuccess ? error : cudaDeviceSynchronize();
}

// memcmp of two (n_rows, n) matrices, the first with rows `stride` apart, with the first mismatch
// by its coordinates.
inline void check_same_bits(const std::vector<float>& got, int64_t stride,
                            const std::vector<float>& expected, int64_t n,
                            const std::string& what) {
  const auto n_rows = static_cast<int64_t>(expected.size()) / n;
  for (int64_t row = 0; row < n_rows; ++row) {
    const float* a = got.data() + row * stride;
    const float* b = expected.data() + row * n;
    if (std::memcmp(a, b, static_cast<size_t>(n) * sizeof(float)) == 0) continue;
    for (int64_t i = 0; i < n; ++i) {
      REQUIRE_MESSAGE(std::memcmp(a + i, b + i, sizeof(float)) == 0, what << ": [" << row << ", "
                                                                          << i << "] is " << a[i]
                                                                          << ", expected " << b[i]);
    }
  }
}

}  // namespace flexq::test
