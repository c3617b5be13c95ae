// Times cuda_linear_int, or every INT8 kernel by itself, on shapes of published models.
//
//     bench_linear [--all] [--shape NxK]... [--tokens M]...
//
// Weights rotate over at least 256 MB, so that none come from L2; launches are replayed as a CUDA
// graph; times are medians of 7. The floor is the bytes of the weights at 4.5 TB/s.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/int8_linear_decode.h"
#include "kernels/cuda/int8_linear_dp4a.h"
#include "kernels/cuda/int8_linear_prefill.h"
#include "kernels/cuda/int8_linear_wgmma.h"
#include "kernels/cuda/linear_configs.h"

namespace {

using namespace flexq;

constexpr double kFloorBytesPerSecond = 4.5e12;
constexpr int64_t kRotatedBytes = int64_t{256} << 20;
constexpr int kRepeats = 7;

struct Shape {
  int64_t n_rows;
  int64_t n_cols;
};

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

CudaRuntime bench_runtime() {
  CudaRuntime runtime{};
  runtime.allow_shared_bytes = [](const void* kernel, int bytes) {
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  runtime.encode_byte_map = linked_cuda_runtime().encode_byte_map;
  runtime.launch_kernel = [](const void* kernel, dim3 grid, dim3 block, void** arguments,
                             size_t shared_bytes, cudaStream_t stream) {
    return cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
  };
  return runtime;
}

// Random bytes; as scales, halves from 2^-10 up to 2^-6.
__global__ void fill_random(uint32_t* words, int64_t n, uint32_t seed, bool as_halves) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * blockDim.x) {
    uint32_t x = static_cast<uint32_t>(i) * 2654435761u + seed;
    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    x = (x ^ (x >> 13)) * 0xc2b2ae35u;
    x ^= x >> 16;
    words[i] = as_halves ? (x & 0x0fff0fffu) + 0x14001400u : x;
  }
}

__global__ void fill_floats(float* values, int64_t n, float value) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * blockDim.x)
    values[i] = value * static_cast<float>(1 + i % 7);
}

template <typename T>
T* device_array(int64_t n) {
  T* data = nullptr;
  check(cudaMalloc(&data, static_cast<size_t>(n) * sizeof(T)), "cudaMalloc");
  return data;
}

// Median microseconds of one of `launches` launches, captured once and replayed.
double time_us(cudaStream_t stream, int launches, const std::function<cudaError_t(int)>& launch) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < launches; ++i)
    check(launch(i), "launch");
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  cudaEvent_t begin;
  cudaEvent_t end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<double> times;
  for (int repeat = -2; repeat < kRepeats; ++repeat) {
    check(cudaEventRecord(begin, stream), "event");
    check(cudaGraphLaunch(exec, stream), "graph");
    check(cudaEventRecord(end, stream), "event");
    check(cudaEventSynchronize(end), "kernel");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "event");
    if (repeat >= 0) times.push_back(ms * 1e3 / launches);
  }
  check(cudaEventDestroy(begin), "event");
  check(cudaEventDestroy(end), "event");
  check(cudaGraphExecDestroy(exec), "graph");
  check(cudaGraphDestroy(graph), "graph");
  std::sort(times.begin(), times.end());
  return times[kRepeats / 2];
}

class Bench {
 public:
  Bench() : runtime_(bench_runtime()) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, 0), "device");
    check(cudaStreamCreateWithFlags(&launch_.stream, cudaStreamNonBlocking), "stream");
    launch_.runtime = &runtime_;
    launch_.sm = properties.major * 10 + properties.minor;
    launch_.n_sms = properties.multiProcessorCount;
    std::printf("%s, sm_%d, %d multiprocessors\n", properties.name, launch_.sm, launch_.n_sms);
  }

  void run(Shape shape, int64_t n_tokens, bool all) {
    const int64_t codes_bytes = cuda_int8::codes_bytes(shape.n_rows, shape.n_cols, 6);
    const int64_t scales_bytes = cuda_int8::scales_bytes(shape.n_rows, shape.n_cols);
    const int64_t groups = cuda_int8::n_groups(shape.n_cols);
    const int64_t copies = kRotatedBytes / codes_bytes + 1;
    auto* codes = device_array<uint8_t>(copies * codes_bytes);
    auto* scales = device_array<uint8_t>(copies * scales_bytes);
    auto* x = device_array<int8_t>(n_tokens * groups * kGroupSize);
    auto* x_scales = device_array<float>(n_tokens * groups);
    auto* out = device_array<float>(n_tokens * shape.n_rows);
    auto* scratch = device_array<uint8_t>(
        cuda_linear_int_scratch_bytes(shape.n_rows, shape.n_cols, n_tokens) + 16);
    const auto fill = [&](void* words, int64_t n, uint32_t seed, bool as_halves) {
      check(launch(launch_, fill_random, dim3(1024), dim3(256), 0, static_cast<uint32_t*>(words), n,
                   seed, as_halves),
            "fill");
    };
    fill(codes, copies * codes_bytes / 4, 1, false);
    fill(scales, copies * scales_bytes / 4, 2, true);
    fill(x, n_tokens * groups * kGroupSize / 4, 3, false);
    check(
        launch(launch_, fill_floats, dim3(1024), dim3(256), 0, x_scales, n_tokens * groups, 0.01f),
        "fill");
    check(cudaDeviceSynchronize(), "fill");

    CudaMatrix matrix;
    matrix.format = WeightFormat::kInt6Group;
    matrix.rows = shape.n_rows;
    matrix.cols = shape.n_cols;
    Int8LinearArgs args;
    args.x_codes = x;
    args.x_scales = x_scales;
    args.out = out;
    args.out_stride = shape.n_rows;
    args.n_rows = static_cast<int32_t>(shape.n_rows);
    args.n_groups = static_cast<int32_t>(groups);
    args.n_tokens = static_cast<int32_t>(n_tokens);
    const auto rotate = [&](int i) {
      matrix.values = codes + i % copies * codes_bytes;
      matrix.scales = scales + i % copies * scales_bytes;
      args.codes = matrix.values;
      args.scales = reinterpret_cast<const uint16_t*>(matrix.scales);
    };
    const double floor_us =
        static_cast<double>(codes_bytes + scales_bytes) / kFloorBytesPerSecond * 1e6;
    const double giga_ops =
        2e-9 * static_cast<double>(shape.n_rows * shape.n_cols) * static_cast<double>(n_tokens);
    const int launches = giga_ops > 50 ? 8 : static_cast<int>(copies) * 2;
    const auto report = [&](const std::string& name,
                            const std::function<cudaError_t()>& launch_one) {
      const double us = time_us(launch_.stream, launches, [&](int i) {
        rotate(i);
        return launch_one();
      });
      std::printf("%lldx%lld M %lld  %-18s %8.2f us  floor %6.2f  ratio %5.2f  %6.1f TOPS\n",
                  static_cast<long long>(shape.n_rows), static_cast<long long>(shape.n_cols),
                  static_cast<long long>(n_tokens), name.c_str(), us, floor_us, us / floor_us,
                  giga_ops / us * 1e3);
      std::fflush(stdout);
    };

    report("cuda_linear_int", [&] {
      const CudaLinearPart part = {matrix, nullptr, {out, shape.n_rows}};
      const LinearProblem problem = linear_problem(launch_, {&part, 1}, n_tokens, CudaStore::kSet);
      const CudaQuantized codes = {x, x_scales, codes_order(problem)};
      return cuda_linear_int(launch_, {&part, 1}, codes, 6, n_tokens, CudaStore::kSet, scratch);
    });
    if (all) {
      if (launch_.sm == 90) {
        for (const WgmmaTile tile : kWgmmaTiles) {
          const WgmmaShape shape = wgmma_shape(tile);
          if (shape.stretches ? shape.tokens < n_tokens : n_tokens <= 32) continue;
          report(config_name({.kernel = LinearKernel::kInt8Wgmma, .wgmma = tile}), [&] {
            const CudaLinearPart part = {matrix, nullptr, {out, args.out_stride}};
            return int8_linear_wgmma(launch_, {&part, 1}, {x, x_scales, CodesOrder::kTensor},
                                     n_tokens, CudaStore::kSet, tile);
          });
        }
      }
      if (n_tokens <= kInt8DecodeMaxTokens) {
        for (const bool resident : {true, false}) {
          for (const int32_t n_stages : {2, 3, 4, 5, 6}) {
            if (int8_decode_shared_bytes(6, n_tokens, n_stages, groups, resident) >
                shared_bytes_per_cta(launch_.sm))
              continue;
            report("decode " + std::to_string(n_stages) + (resident ? " resident" : " streamed"),
                   [&] { return int8_linear_decode(launch_, args, 6, n_stages, resident); });
          }
        }
        if (n_tokens <= 4) report("dp4a", [&] { return int8_linear_dp4a(launch_, args, 6); });
      }
      if (n_tokens > 8) {
        for (const Int8Tile tile :
             {Int8Tile::k32x32, Int8Tile::k64x32, Int8Tile::k64x64, Int8Tile::k128x64}) {
          report("prefill " + std::to_string(tile_rows(tile)) + "x" +
                     std::to_string(tile_tokens(tile)),
                 [&] { return int8_linear_prefill(launch_, args, 6, tile); });
        }
      }
    }
    for (void* memory :
         {static_cast<void*>(codes), static_cast<void*>(scales), static_cast<void*>(x),
          static_cast<void*>(x_scales), static_cast<void*>(out), static_cast<void*>(scratch)})
      check(cudaFree(memory), "cudaFree");
  }

 private:
  CudaRuntime runtime_;
  CudaLaunch launch_;
};

}  // namespace

int main(int argc, char** argv) {
  bool all = false;
  std::vector<Shape> shapes;
  std::vector<int64_t> tokens;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--all") == 0) {
      all = true;
    } else if (std::strcmp(argv[i], "--shape") == 0 && i + 1 < argc) {
      long long n_rows = 0;
      long long n_cols = 0;
      if (std::sscanf(argv[++i], "%lldx%lld", &n_rows, &n_cols) != 2) return 2;
      shapes.push_back({n_rows, n_cols});
    } else if (std::strcmp(argv[i], "--tokens") == 0 && i + 1 < argc) {
      tokens.push_back(std::atoll(argv[++i]));
    } else {
      std::fprintf(stderr, "usage: %s [--all] [--shape NxK]... [--tokens M]...\n", argv[0]);
      return 2;
    }
  }
  if (shapes.empty())
    shapes = {{12288, 4096}, {4096, 4096},  {22016, 4096},
              {4096, 11008}, {57344, 8192}, {8192, 28672}};
  if (tokens.empty()) tokens = {1, 4, 8, 16, 32, 64, 128, 256, 1024, 4096};
  Bench bench;
  for (const int64_t n_tokens : tokens) {
    for (const Shape& shape : shapes)
      bench.run(shape, n_tokens, all);
  }
  return 0;
}
