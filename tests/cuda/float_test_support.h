// Device memory, a launch context and random numbers for the tests of the fp32-activation linear
// layers, attention and sampling.
#pragma once

#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "base/half.h"
#include "kernels/cuda/cuda_kernels.h"
#include "support/skipped.h"

namespace flexq::test {

inline bool has_cuda_device() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

// First line of every GPU test case.
#define FLEXQ_REQUIRE_CUDA_DEVICE()        \
  if (!::flexq::test::has_cuda_device()) { \
    MESSAGE("SKIPPED: no CUDA device");    \
    ::flexq::test::case_skipped = true;    \
    return;                                \
  }

inline CudaLaunch make_launch() {
  cudaDeviceProp properties;
  REQUIRE(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  CudaLaunch launch;
  launch.runtime = &linked_cuda_runtime();
  launch.sm = properties.major * 10 + properties.minor;
  launch.n_sms = properties.multiProcessorCount;
  return launch;
}

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t n) : n_(n) {
    REQUIRE(cudaMalloc(reinterpret_cast<void**>(&data_), bytes() > 0 ? bytes() : 1) == cudaSuccess);
    poison();
  }
  explicit DeviceArray(const std::vector<T>& host)
      : DeviceArray(static_cast<int64_t>(host.size())) {
    upload(host);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() { return data_; }
  int64_t size() const { return n_; }
  // All bits set: NaN in fp32, fp16 and bf16, -1 in integers.
  void poison() { REQUIRE(cudaMemset(data_, 0xff, bytes()) == cudaSuccess); }
  void upload(const std::vector<T>& host) {
    REQUIRE(static_cast<int64_t>(host.size()) == n_);
    REQUIRE(cudaMemcpy(data_, host.data(), bytes(), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  std::vector<T> download() {
    std::vector<T> host(static_cast<size_t>(n_));
    const cudaError_t error = cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDeviceToHost);
    REQUIRE_MESSAGE(error == cudaSuccess, cudaGetErrorString(error));
    return host;
  }

 private:
  size_t bytes() const { return static_cast<size_t>(n_) * sizeof(T); }
  int64_t n_;
  T* data_ = nullptr;
};

class Normals {
 public:
  explicit Normals(uint64_t seed) : engine_(seed) {}
  float operator()() { return normal_(engine_); }
  // Uniform in [low, high].
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  std::vector<float> vector(int64_t n) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values)
      value = normal_(engine_);
    return values;
  }
  std::mt19937_64& engine() { return engine_; }

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<float> normal_;
};

// Microseconds of one call of `work(i)`, the best of several stretches of `n_calls`.
template <typename Work>
double microseconds(int n_calls, const Work& work) {
  cudaEvent_t begin;
  cudaEvent_t end;
  REQUIRE(cudaEventCreate(&begin) == cudaSuccess);
  REQUIRE(cudaEventCreate(&end) == cudaSuccess);
  double best = std::numeric_limits<double>::infinity();
  for (int stretch = 0; stretch < 5; ++stretch) {
    REQUIRE(cudaEventRecord(begin) == cudaSuccess);
    for (int i = 0; i < n_calls; ++i)
      REQUIRE(work(i) == cudaSuccess);
    REQUIRE(cudaEventRecord(end) == cudaSuccess);
    REQUIRE(cudaEventSynchronize(end) == cudaSuccess);
    float ms = 0;
    REQUIRE(cudaEventElapsedTime(&ms, begin, end) == cudaSuccess);
    best = std::min(best, 1e3 * static_cast<double>(ms) / n_calls);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return best;
}

}  // namespace flexq::test
