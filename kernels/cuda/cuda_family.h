// How a quantized matrix and the activations it meets are laid out in device memory, and what
// becomes of their product. No CUDA header needed.
#pragma once

#include <cstdint>

namespace flexq {

enum class CudaFamily : int32_t {
  kInt8 = 0,    // kernels/layout/cuda_int8_layout.h
  kBinary = 1,  // kernels/layout/cuda_btc_layout.h: bit planes for binary tensor cores
};

// How quantized activations lie in memory: the codes inside a group, and the scales.
enum class CodesOrder : int32_t {
  kNatural = 0,  // codes by column; scales (n_tokens, G)
  kTensor = 1,   // words of 4 codes at cuda_int8::tensor_word(), the B operand of wgmma; scales
                 // (G, n_tokens), so that those of neighbouring tokens are copied together
};

enum class CudaStore : int32_t {
  kSet = 0,      // out = W x + b
  kAdd = 1,      // out += W x + b
  kSiluMul = 2,  // out of part 0 = silu(gate) * up, gate and up = W x + b of parts 0 and 1; out of
                 // part 1 is scratch
};

}  // namespace flexq
