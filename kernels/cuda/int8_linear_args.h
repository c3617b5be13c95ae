// What the INT8 kernels take, and nothing that only nvcc understands.
#pragma once

#include <cstdint>

#include "kernels/cuda/cuda_kernels.h"

namespace flexq {

// What the INT8 kernels take. All pointers are 16-byte aligned device memory.
struct Int8LinearArgs {
  const uint8_t* codes = nullptr;    // units, row block by row block
  const uint16_t* scales = nullptr;  // 16 fp16 per unit
  const int8_t* x_codes = nullptr;   // (n_tokens, n_groups * 128)
  const float* x_scales = nullptr;   // (n_tokens, n_groups)
  const float* bias = nullptr;       // (n_rows) or null
  float* out = nullptr;              // (n_tokens, n_rows), rows out_stride apart
  int64_t out_stride = 0;
  float multiplier = 1.0f;  // of weight scales; a quarter of the matrix's for 6 bits
  int32_t n_rows = 0;
  int32_t n_groups = 0;
  int32_t n_tokens = 0;
  CudaStore store = CudaStore::kSet;
};

}  // namespace flexq
