// Packing of grouped weights into the layouts of the integer kernels, on the device at load time.
#include "kernels/cuda/btc_kernels.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/layout/cuda_int8_layout.h"

namespace flexq {
namespace {

using cuda_int8::kUnitRows;

constexpr int32_t kWarps = 4;

// A chunk of a matrix in device memory: rows [row_begin, row_begin + n_rows).
struct PackArgs {
  const int8_t* codes;     // (n_rows, n_cols)
  const uint16_t* scales;  // (n_rows, n_groups)
  int64_t row_begin;
  int64_t n_rows;
  int64_t n_cols;
  int64_t n_groups;
  int64_t n_units;  // of the chunk
  bool words_aligned;
  uint8_t* packed_codes;
  uint16_t* packed_scales;
};

// Codes [col, col + 4) of a row of the chunk, zeros outside.
__device__ uint32_t load_word(const PackArgs& args, int64_t row, int64_t col) {
  if (row >= args.n_rows) return 0;
  const int8_t* codes = args.codes + row * args.n_cols + col;
  if (args.words_aligned && col < args.n_cols) return *reinterpret_cast<const uint32_t*>(codes);
  uint32_t word = 0;
  for (int32_t i = 0; i < 4; ++i) {
    if (col + i < args.n_cols)
      word |= static_cast<uint32_t>(static_cast<uint8_t>(codes[i])) << 8 * i;
  }
  return word;
}

// One warp packs one unit: a lane gathers its 16 A registers, as kernels/layout/cuda_int8_layout.h
// places them, and writes its 3 or 4 pieces of 16 bytes. Grid: ceil(n_units / kWarps).
template <int kBits>
__global__ void __launch_bounds__(kWarps * 32) pack_kernel(const PackArgs args) {
  const int64_t unit = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (unit >= args.n_units) return;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  const int64_t first_row = unit / args.n_groups * kUnitRows;  // in the chunk
  const int64_t group = unit % args.n_groups;

  uint32_t a[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int step = i / 4;
    const int reg = i % 4;
    a[i] = load_word(args, first_row + lane / 4 + reg % 2 * 8,
                     group * kGroupSize + lane % 4 * 32 + step * 8 + reg / 2 * 4);
  }

  const int64_t packed_unit = args.row_begin / kUnitRows * args.n_groups + unit;
  auto* to =
      reinterpret_cast<uint4*>(args.packed_codes + packed_unit * cuda_int8::unit_bytes(kBits));
  if constexpr (kBits == 8) {
#pragma unroll
    for (int step = 0; step < 4; ++step)
      to[step * 32 + lane] =
          make_uint4(a[4 * step], a[4 * step + 1], a[4 * step + 2], a[4 * step + 3]);
  } else {
    uint32_t words[4][3];
#pragma unroll
    for (int step = 0; step < 4; ++step)
      cuda_int8::pack_step(a + 4 * step, words[step]);
    to[lane] = make_uint4(words[0][0], words[0][1], words[1][0], words[1][1]);
    to[32 + lane] = make_uint4(words[2][0], words[2][1], words[3][0], words[3][1]);
    to[64 + lane] = make_uint4(words[0][2], words[1][2], words[2][2], words[3][2]);
  }
  if (lane < kUnitRows) {
    const int64_t row = first_row + lane;
    args.packed_scales[packed_unit * kUnitRows + lane] =
        row < args.n_rows ? args.scales[row * args.n_groups + group] : uint16_t{0};
  }
}

}  // namespace

cudaError_t cuda_pack_rows(const CudaLaunch& where, WeightFormat format, CudaFamily family,
                           const int8_t* codes, const uint16_t* scales, int64_t row_begin,
                           int64_t n_rows, int64_t N, int64_t K, uint8_t* packed_codes,
                           uint8_t* packed_scales) {
  if (!is_grouped(format)) return cudaErrorInvalidValue;
  if (family == CudaFamily::kBinary) {
    if (format != WeightFormat::kInt6Group) return cudaErrorInvalidValue;
    return cuda_pack_btc_rows(where, codes, scales, row_begin, n_rows, N, K, packed_codes,
                              packed_scales);
  }
  PackArgs args;
  args.codes = codes;
  args.scales = scales;
  args.row_begin = row_begin;
  args.n_rows = n_rows;
  args.n_cols = K;
  args.n_groups = cuda_int8::n_groups(K);
  args.n_units = cuda_int8::n_blocks(n_rows) * args.n_groups;
  args.words_aligned = K % 4 == 0 && reinterpret_cast<uintptr_t>(codes) % 4 == 0;
  args.packed_codes = packed_codes;
  args.packed_scales = reinterpret_cast<uint16_t*>(packed_scales);
  const dim3 grid(static_cast<uint32_t>((args.n_units + kWarps - 1) / kWarps));
  if (format == WeightFormat::kInt6Group)
    return launch(where, pack_kernel<6>, grid, dim3(kWarps * 32), 0, args);
  return launch(where, pack_kernel<8>, grid, dim3(kWarps * 32), 0, args);
}

}  // namespace flexq
