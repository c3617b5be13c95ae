// The parts of the AVX2 table, one source file each, compiled with -mavx2 -mfma -mf16c. Only
// cpu_dispatch.cpp may take the table, after asking the processor. Signatures and meaning:
// cpu_kernels.h.
//
// Rule for these files: no function with external linkage but the ones below. An inline function
// or a template of the standard library or of a shared header would be compiled to AVX2 code here,
// and the linker might keep that copy for every caller in the program.
#pragma once

#include "kernels/cpu/cpu_kernels.h"

namespace flexq::avx2 {

extern const CpuKernels kTable;  // avx2_kernels.cpp

// avx2_linear_int8.cpp
void linear_w6_int8(const PackedW6& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);

// avx2_linear_w8_int8.cpp
void linear_w8_int8(const PackedW8& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);

// avx2_linear_f32.cpp
void linear_w6_f32(const PackedW6& w, const float* x, int64_t x_stride, int64_t n_tokens,
                   int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);
void linear_w8_f32(const PackedW8& w, const float* x, int64_t x_stride, int64_t n_tokens,
                   int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);

// avx2_linear_rows.cpp
void linear_dense(const void* w, DenseType type, int64_t n_cols, const float* x, int64_t x_stride,
                  int64_t n_tokens, int64_t row_begin, int64_t row_end, float* out,
                  int64_t out_stride);
void linear_i8_rows(const Int8Rows& w, int64_t n_cols, const float* x, int64_t x_stride,
                    int64_t n_tokens, int64_t row_begin, int64_t row_end, float* out,
                    int64_t out_stride);

// avx2_attention.cpp
void attention(const AttentionArgs& args);

}  // namespace flexq::avx2
