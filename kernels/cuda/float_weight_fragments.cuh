// How a lane reads its share of any weight format and turns it into TF32 operands: what the two
// kernels of float_linear.cu have in common, so that their sums have the same order.
//
// A matrix is cut into blocks of 16 rows and groups of 128 columns, a group into 4 stages of 32
// columns. Lane l (g = l / 4, t = l % 4) owns rows g and g + 8 and, in each stage, a run of 8
// consecutive columns: with kLaneColumns L = 8, 16 or 32 columns owned in a row,
//     run_column(t, stage) = stage / (L/8) * 4L + t * L + stage % (L/8) * 8,
// so that a lane's loads from global memory are 16 bytes wide. Step j = 0..3 of a stage is one
// mma.m16n8k8: its k = t and t + 4 are columns 2j and 2j + 1 of lane t's run. Dense rows and int8
// rows end in zeros at cuda_padded_cols(K): their last group may have 2 stages only.
#pragma once

#include <cuda_fp16.h>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/float_async_copy.cuh"
#include "kernels/cuda/mma_tf32.cuh"
#include "kernels/layout/cuda_int8_layout.h"

namespace flexq::float_linear {

inline constexpr int kBlockRows = 16;
inline constexpr int kStageColumns = 32;
inline constexpr int kGroupStages = kGroupSize / kStageColumns;

// The parameters of both kernels.
struct LinearArgs {
  const uint8_t* values;  // as in CudaMatrix
  const uint8_t* scales;
  const float* x;     // (n_tokens, K)
  const float* bias;  // (N) or null
  float* out;         // (n_tokens, N)
  int64_t n_rows;     // N
  int64_t n_cols;     // K
  int64_t n_tokens;
  int64_t x_stride;
  int64_t out_stride;
  int32_t n_stages;        // of all columns
  float scale_multiplier;  // for the kernel: with the 1/4 of 6-bit codes
  bool add;
  bool vector_x;       // rows of x start on 16 bytes
  int32_t* nonfinite;  // (n_tokens) or null
};

__device__ inline int64_t n_groups_of(const LinearArgs& args) {
  return (args.n_stages + kGroupStages - 1) / kGroupStages;
}
__device__ inline int64_t padded_cols_of(const LinearArgs& args) {
  return int64_t{args.n_stages} * kStageColumns;
}

// First column, inside its group, of the run of lane t in a stage.
template <int kLaneColumns>
__device__ constexpr int run_column(int t, int stage) {
  constexpr int kRuns = kLaneColumns / 8;
  return stage / kRuns * 4 * kLaneColumns + t * kLaneColumns + stage % kRuns * 8;
}

__device__ inline void put(uint32_t* words, uint4 v) {
  words[0] = v.x;
  words[1] = v.y;
  words[2] = v.z;
  words[3] = v.w;
}

// Four signed bytes to floats, exactly: 2^23 + (b + 128) is a float whose low byte is b + 128.
__device__ inline void bytes_to_floats(uint32_t bytes, uint32_t* out) {
  const uint32_t biased = bytes ^ 0x80808080u;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t shifted = __byte_perm(biased, 0x4b000000u, 0x7540u + static_cast<uint32_t>(i));
    out[i] = __float_as_uint(__uint_as_float(shifted) - 8388736.0f);
  }
}

// One format. For the decode kernel: copy_half, half of a group of a block (2 stages) to the shared
// memory of a warp in whole cache lines, and read_half, a lane's share of it. For the tile kernel:
// where a lane finds its share (Source), copy_stage, and read_stage by the same lane of any warp;
// piece p of lane l, of 16 bytes or of 8, lies at (p * 32 + l) times that. unpack says what the
// words mean: the runs of rows g and g + 8. No read has bank conflicts.
template <WeightFormat kFormat>
struct Fragments;

// Row r of a dense or int8 matrix; rows past the end stand for the last one and are never stored.
__device__ inline int64_t existing_row(const LinearArgs& args, int64_t row) {
  return row < args.n_rows ? row : args.n_rows - 1;
}

// Row-major rows of kElementBytes, kLaneColumns = what fits 16 bytes, at least 8.
template <int kElementBytes>
struct RowFragments {
  static constexpr bool kHasGroupScales = false;  // rows of int8 are scaled at the end
  static constexpr int kLaneColumns = kElementBytes == 1 ? 16 : 8;
  static constexpr int kRunBytes = 8 * kElementBytes;
  static constexpr int kStageWords = 2 * kRunBytes / 4;
  static constexpr int kStageBytes = kStageWords * 4 * 32;  // of a block, in shared memory
  static constexpr int kGroupBytes = kStageBytes * kGroupStages;
  // Rows in shared memory: half a group, or all of it where half a group is no cache line. Then the
  // copies of both halves come together, with the second.
  static constexpr bool kHalvesApart = kElementBytes > 1;
  static constexpr int kRowBytes = kElementBytes * kGroupSize / (kHalvesApart ? 2 : 1);
  static constexpr int kRowPieces = kRowBytes / 16;

  // Where piece p of a row lies: the pieces that 8 lanes read, of two rows, hit 32 banks.
  __device__ static int piece_offset(int row, int piece) {
    const int swap = kElementBytes == 4 ? row % 2 : row % 2 * 4;
    return row * kRowBytes + (piece ^ swap) * 16;
  }
  // What a lane copies of a block: 16 bytes of each cache line of rows lane / 8 + 4i.
  struct Lines {
    const uint8_t* first;         // of the block's first row
    int32_t row[kBlockRows / 4];  // bytes from there
  };
  __device__ static Lines lines(const LinearArgs& args, int64_t block, int lane) {
    const int64_t row_bytes = padded_cols_of(args) * kElementBytes;
    const auto last = static_cast<int>(min(args.n_rows - 1 - block * kBlockRows, int64_t{15}));
    Lines lines;
    lines.first = args.values + block * kBlockRows * row_bytes + lane % 8 * 16;
#pragma unroll
    for (int i = 0; i < kBlockRows / 4; ++i)
      lines.row[i] = min(i * 4 + lane / 8, last) * static_cast<int32_t>(row_bytes);
    return lines;
  }
  // n_halves: 1 where the group ends after its first half.
  __device__ static void copy_half(const Lines& lines, int group, int half, int n_halves, int lane,
                                   uint8_t* shared) {
    if (!kHalvesApart && half == 0) return;
    if (kHalvesApart && half >= n_halves) return;
    const uint8_t* from = lines.first + int64_t{group} * (kGroupSize * kElementBytes) +
                          (kHalvesApart ? half * kRowBytes : 0);
    uint8_t* to =
        shared + (kHalvesApart ? half * (kGroupBytes / 2) : 0) + piece_offset(lane / 8, lane % 8);
    // The second half of int8 rows may not be there.
    if (!kHalvesApart && lane % 8 >= n_halves * (kRowPieces / 2)) return;
#pragma unroll
    for (int i = 0; i < kBlockRows / 4; ++i) {
#pragma unroll
      for (int line = 0; line < kRowPieces / 8; ++line)
        float_copy::copy16(to + i * 4 * kRowBytes + line * 128, from + lines.row[i] + line * 128,
                           16);
    }
  }
  __device__ static void read_half(const uint8_t* shared, int half, int lane,
                                   uint32_t (&words)[2][kStageWords]) {
    constexpr int kRunWords = kRunBytes / 4;
    const uint8_t* from = shared + (kHalvesApart ? half * (kGroupBytes / 2) : 0);
    const int t = lane % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = lane / 4 + i * 8;
      if constexpr (kRunBytes == 8) {
        // One piece is the runs of both stages.
        const uint4 v = *reinterpret_cast<const uint4*>(from + piece_offset(row, half * 4 + t));
        words[0][i * 2] = v.x, words[0][i * 2 + 1] = v.y;
        words[1][i * 2] = v.z, words[1][i * 2 + 1] = v.w;
      } else {
        constexpr int kRunPieces = kRunBytes / 16;
#pragma unroll
        for (int stage = 0; stage < 2; ++stage) {
#pragma unroll
          for (int p = 0; p < kRunPieces; ++p) {
            const int piece = (stage * 4 + t) * kRunPieces + p;
            put(&words[stage][i * kRunWords + p * 4],
                *reinterpret_cast<const uint4*>(from + piece_offset(row, piece)));
          }
        }
      }
    }
  }

  struct Source {
    const uint8_t* row[2];  // rows g and g + 8, at the lane's first run
  };
  __device__ static Source source(const LinearArgs& args, int64_t block, int lane) {
    const int64_t row_bytes = padded_cols_of(args) * kElementBytes;
    Source source;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t row = existing_row(args, block * kBlockRows + lane / 4 + half * 8);
      source.row[half] = args.values + row * row_bytes + lane % 4 * kLaneColumns * kElementBytes;
    }
    return source;
  }

  __device__ static void copy_stage(const Source& source, int group, int stage, int lane,
                                    uint8_t* shared) {
    const int64_t at =
        (int64_t{group} * kGroupSize + run_column<kLaneColumns>(0, stage)) * kElementBytes;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint8_t* from = source.row[half] + at;
      if constexpr (kRunBytes == 8) {
        float_copy::copy8(shared + (half * 32 + lane) * 8, from, 8);
      } else {
#pragma unroll
        for (int i = 0; i < kRunBytes / 16; ++i) {
          float_copy::copy16(shared + ((half * (kRunBytes / 16) + i) * 32 + lane) * 16,
                             from + i * 16, 16);
        }
      }
    }
  }

  __device__ static void read_stage(const uint8_t* shared, int lane,
                                    uint32_t (&words)[kStageWords]) {
    if constexpr (kRunBytes == 8) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint2 v = *reinterpret_cast<const uint2*>(shared + (half * 32 + lane) * 8);
        words[half * 2] = v.x;
        words[half * 2 + 1] = v.y;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kStageWords / 4; ++i)
        put(&words[i * 4], *reinterpret_cast<const uint4*>(shared + (i * 32 + lane) * 16));
    }
  }
};

template <>
struct Fragments<WeightFormat::kF32> : RowFragments<4> {
  __device__ static void unpack(const uint32_t (&words)[kStageWords], uint32_t (&row)[8],
                                uint32_t (&row8)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      row[i] = to_tf32(__uint_as_float(words[i]));
      row8[i] = to_tf32(__uint_as_float(words[8 + i]));
    }
  }
};

template <>
struct Fragments<WeightFormat::kF16> : RowFragments<2> {
  __device__ static void unpack_row(const uint32_t* words, uint32_t* row) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 two = __half22float2(*reinterpret_cast<const __half2*>(&words[i]));
      row[2 * i] = __float_as_uint(two.x);
      row[2 * i + 1] = __float_as_uint(two.y);
    }
  }
  __device__ static void unpack(const uint32_t (&words)[kStageWords], uint32_t (&row)[8],
                                uint32_t (&row8)[8]) {
    unpack_row(&words[0], row);
    unpack_row(&words[4], row8);
  }
};

template <>
struct Fragments<WeightFormat::kBF16> : RowFragments<2> {
  __device__ static void unpack(const uint32_t (&words)[kStageWords], uint32_t (&row)[8],
                                uint32_t (&row8)[8]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      row[2 * i] = words[i] << 16;
      row[2 * i + 1] = words[i] & 0xffff0000u;
      row8[2 * i] = words[4 + i] << 16;
      row8[2 * i + 1] = words[4 + i] & 0xffff0000u;
    }
  }
};

template <>
struct Fragments<WeightFormat::kInt8Row> : RowFragments<1> {
  __device__ static void unpack(const uint32_t (&words)[kStageWords], uint32_t (&row)[8],
                                uint32_t (&row8)[8]) {
    bytes_to_floats(words[0], &row[0]);
    bytes_to_floats(words[1], &row[4]);
    bytes_to_floats(words[2], &row8[0]);
    bytes_to_floats(words[3], &row8[4]);
  }
};

// The 16 fp16 scales of a unit.
__device__ inline const uint16_t* unit_scales(const LinearArgs& args, int64_t block,
                                              int64_t group) {
  const int64_t unit = block * n_groups_of(args) + group;
  return reinterpret_cast<const uint16_t*>(args.scales) + unit * kBlockRows;
}

// A unit's place, at the lane's 16 bytes of a load.
template <int kUnitBytes>
struct UnitSource {
  const uint8_t* unit;  // of group 0

  __device__ static UnitSource make(const LinearArgs& args, int64_t block, int lane) {
    return {args.values + block * n_groups_of(args) * kUnitBytes + lane * 16};
  }
  __device__ const uint8_t* group(int g) const { return unit + int64_t{g} * kUnitBytes; }
};

template <>
struct Fragments<WeightFormat::kInt8Group> {
  static constexpr bool kHasGroupScales = true;
  static constexpr int kLaneColumns = 32;
  static constexpr int kStageWords = 4;
  static constexpr int kStageBytes = 512;
  static constexpr int kGroupBytes = 2048;
  static constexpr bool kHalvesApart = true;
  using Source = UnitSource<cuda_int8::kUnitBytes8>;

  __device__ static Source source(const LinearArgs& args, int64_t block, int lane) {
    return Source::make(args, block, lane);
  }
  using Lines = Source;
  __device__ static Lines lines(const LinearArgs& args, int64_t block, int lane) {
    return source(args, block, lane);
  }
  __device__ static void copy_half(const Lines& lines, int group, int half, int, int lane,
                                   uint8_t* shared) {
    const uint8_t* from = lines.group(group);
#pragma unroll
    for (int i = half * 2; i < half * 2 + 2; ++i)
      float_copy::copy16(shared + (i * 32 + lane) * 16, from + i * 512, 16);
  }
  __device__ static void read_half(const uint8_t* shared, int half, int lane,
                                   uint32_t (&words)[2][kStageWords]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      put(words[i], *reinterpret_cast<const uint4*>(shared + ((half * 2 + i) * 32 + lane) * 16));
    }
  }
  __device__ static void copy_stage(const Source& source, int group, int stage, int lane,
                                    uint8_t* shared) {
    float_copy::copy16(shared + lane * 16, source.group(group) + stage * 512, 16);
  }
  __device__ static void read_stage(const uint8_t* shared, int lane,
                                    uint32_t (&words)[kStageWords]) {
    put(words, *reinterpret_cast<const uint4*>(shared + lane * 16));
  }
  __device__ static void unpack(const uint32_t (&words)[kStageWords], uint32_t (&row)[8],
                                uint32_t (&row8)[8]) {
    bytes_to_floats(words[0], &row[0]);
    bytes_to_floats(words[2], &row[4]);
    bytes_to_floats(words[1], &row8[0]);
    bytes_to_floats(words[3], &row8[4]);
  }
};

// words: the three words of a step. The floats are 4 * q.
template <>
struct Fragments<WeightFormat::kInt6Group> {
  static constexpr bool kHasGroupScales = true;
  static constexpr int kLaneColumns = 32;
  static constexpr int kStageWords = 3;
  static constexpr int kStageBytes = 384;
  static constexpr int kGroupBytes = 1536;
  static constexpr bool kHalvesApart = false;  // the third words come with the second half
  using Source = UnitSource<cuda_int8::kUnitBytes6>;

  __device__ static Source source(const LinearArgs& args, int64_t block, int lane) {
    return Source::make(args, block, lane);
  }
  using Lines = Source;
  __device__ static Lines lines(const LinearArgs& args, int64_t block, int lane) {
    return source(args, block, lane);
  }
  __device__ static void copy_half(const Lines& lines, int group, int half, int, int lane,
                                   uint8_t* shared) {
    const uint8_t* from = lines.group(group);
    float_copy::copy16(shared + (half * 32 + lane) * 16, from + half * 512, 16);
    if (half == 1) float_copy::copy16(shared + (2 * 32 + lane) * 16, from + 1024, 16);
  }
  __device__ static void read_half(const uint8_t* shared, int half, int lane,
                                   uint32_t (&words)[2][kStageWords]) {
    const uint8_t* from = shared + lane * 16;
    const uint4 first = *reinterpret_cast<const uint4*>(from + half * 512);
    const uint2 third = *reinterpret_cast<const uint2*>(from + 1024 + half * 8);
    words[0][0] = first.x, words[0][1] = first.y, words[0][2] = third.x;
    words[1][0] = first.z, words[1][1] = first.w, words[1][2] = third.y;
  }
  // 8 bytes of two words, then 4 of the third.
  __device__ static void copy_stage(const Source& source, int group, int stage, int lane,
                                    uint8_t* shared) {
    const uint8_t* from = source.group(group);
    float_copy::copy8(shared + lane * 8, from + stage / 2 * 512 + stage % 2 * 8, 8);
    float_copy::copy4(shared + 256 + lane * 4, from + 1024 + stage * 4, 4);
  }
  __device__ static void read_stage(const uint8_t* shared, int lane,
                                    uint32_t (&words)[kStageWords]) {
    const uint2 first = *reinterpret_cast<const uint2*>(shared + lane * 8);
    words[0] = first.x;
    words[1] = first.y;
    words[2] = *reinterpret_cast<const uint32_t*>(shared + 256 + lane * 4);
  }
  __device__ static void unpack(const uint32_t (&words)[kStageWords], uint32_t (&row)[8],
                                uint32_t (&row8)[8]) {
    uint32_t a[4];
    cuda_int8::unpack_step(words[0], words[1], words[2], a);
    bytes_to_floats(a[0], &row[0]);
    bytes_to_floats(a[2], &row[4]);
    bytes_to_floats(a[1], &row8[0]);
    bytes_to_floats(a[3], &row8[4]);
  }
};

__device__ inline float scale_value(uint16_t bits, float multiplier) {
  __half_raw raw;
  raw.x = bits;
  return __half2float(__half(raw)) * multiplier;
}

// What becomes of a finished sum: the scale of an int8 row, the bias, the old value.
template <WeightFormat kFormat>
__device__ inline void store_sum(const LinearArgs& args, int64_t row, int64_t token, float sum) {
  if constexpr (kFormat == WeightFormat::kInt8Row)
    sum = __fmul_rn(sum, reinterpret_cast<const float*>(args.scales)[row]);
  if (args.bias != nullptr) sum = __fadd_rn(sum, args.bias[row]);
  float* out = args.out + token * args.out_stride + row;
  if (args.add) sum = __fadd_rn(*out, sum);
  *out = sum;
  if (args.nonfinite != nullptr && !isfinite(sum)) args.nonfinite[token] = 1;
}

}  // namespace flexq::float_linear
