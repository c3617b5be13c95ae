// What AVX-VNNI (256-bit vpdpbusd, processors without AVX-512) adds to the AVX2 table, compiled
// with -mavxvnni -mavx2 -mfma -mf16c. Only cpu_dispatch.cpp may take these, after asking the
// processor; linkage rule: avx2_table.h. Signatures and meaning: cpu_kernels.h.
#pragma once

#include "kernels/cpu/cpu_kernels.h"

namespace flexq::avxvnni {

// avxvnni_linear_int8.cpp
void linear_w6_int8(const PackedW6& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);
void linear_w8_int8(const PackedW8& w, const QuantizedRows& x, int64_t n_tokens,
                    int64_t block_begin, int64_t block_end, float* out, int64_t out_stride);

}  // namespace flexq::avxvnni
