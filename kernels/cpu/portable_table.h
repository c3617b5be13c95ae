// The parts of the portable table, one source file each. Signatures and meaning: cpu_kernels.h.
#pragma once

#include "kernels/cpu/cpu_kernels.h"

namespace flexq::portable {

// portable_group_linear.cpp
void linear_w6_int8(const PackedW6& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);
void linear_w6_f32(const PackedW6& w, const float* x, int64_t x_stride, int64_t n_tokens,
                   int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);
void linear_w8_int8(const PackedW8& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);
void linear_w8_f32(const PackedW8& w, const float* x, int64_t x_stride, int64_t n_tokens,
                   int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);

// portable_row_linear.cpp
void linear_dense(const void* w, DenseType type, int64_t n_cols, const float* x, int64_t x_stride,
                  int64_t n_tokens, int64_t row_begin, int64_t row_end, float* out,
                  int64_t out_stride);
void linear_i8_rows(const Int8Rows& w, int64_t n_cols, const float* x, int64_t x_stride,
                    int64_t n_tokens, int64_t row_begin, int64_t row_end, float* out,
                    int64_t out_stride);

// portable_attention.cpp
void attention(const AttentionArgs& args);

}  // namespace flexq::portable
