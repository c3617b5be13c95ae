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
  bool vector_x;  // rows of x start on 16 bytes
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

// One format: where a lane finds its share (Source), how it copies it to shared memory, by halves
// of a group (copy_half, for the decode kernel) or by stages (copy_stage, for the tile kernel), how
// it reads a stage back (read_half_stage: of its own copies; read_stage: of the same lane of any
// warp), and what the words mean (unpack: the runs of rows g and g + 8). Piece p of lane l in
// shared memory, of 16 bytes or of 8, lies at (p * 32 + l) times that: no bank conflicts.
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
  static constexpr int kHalfBytes = kStageBytes * 2;
  static constexpr int kGroupBytes = kHalfBytes * 2;
  static constexpr bool kHalvesApart = true;  // a half needs nothing that comes with the other

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

  // Stages 2 * half and 2 * half + 1; `shared` is the group's place. Pieces of row g in the order
  // of columns, then those of row g + 8.
  __device__ static void copy_half(const Source& source, int group, int half, int lane,
                                   uint8_t* shared) {
    constexpr int kPieces = 2 * kRunBytes / 16;  // of a row
    const int64_t at = int64_t{group} * (kGroupSize * kElementBytes);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        // One piece is both runs of int8 and half a run of fp32.
        const int stage = half * 2 + i * 2 / kPieces;
        const int byte =
            run_column<kLaneColumns>(0, stage) * kElementBytes + (kRunBytes > 16 ? i % 2 * 16 : 0);
        float_copy::copy16(shared + half * kHalfBytes + ((row * kPieces + i) * 32 + lane) * 16,
                           source.row[row] + at + byte, 16);
      }
    }
  }
  __device__ static void read_half_stage(const uint8_t* shared, int stage, int lane,
                                         uint32_t (&words)[kStageWords]) {
    constexpr int kPieces = 2 * kRunBytes / 16;
    constexpr int kRunWords = kRunBytes / 4;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const uint8_t* pieces = shared + stage / 2 * kHalfBytes + (row * kPieces * 32 + lane) * 16;
      if constexpr (kRunBytes == 8) {
        const uint2 v = *reinterpret_cast<const uint2*>(pieces + stage % 2 * 8);
        words[row * 2] = v.x;
        words[row * 2 + 1] = v.y;
      } else {
#pragma unroll
        for (int i = 0; i < kRunBytes / 16; ++i) {
          put(&words[row * kRunWords + i * 4],
              *reinterpret_cast<const uint4*>(pieces + (stage % 2 * (kRunBytes / 16) + i) * 512));
        }
      }
    }
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
      __half2_raw pair;
      pair.x = static_cast<uint16_t>(words[i] & 0xffffu);
      pair.y = static_cast<uint16_t>(words[i] >> 16);
      const float2 two = __half22float2(pair);
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
  __device__ static void copy_half(const Source& source, int group, int half, int lane,
                                   uint8_t* shared) {
#pragma unroll
    for (int i = half * 2; i < half * 2 + 2; ++i)
      float_copy::copy16(shared + (i * 32 + lane) * 16, source.group(group) + i * 512, 16);
  }
  __device__ static void read_half_stage(const uint8_t* shared, int stage, int lane,
                                         uint32_t (&words)[kStageWords]) {
    put(words, *reinterpret_cast<const uint4*>(shared + (stage * 32 + lane) * 16));
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

// words: the two words of nibbles and the word of crumbs of a step. The floats are 4 * q.
template <>
struct Fragments<WeightFormat::kInt6Group> {
  static constexpr bool kHasGroupScales = true;
  static constexpr int kLaneColumns = 32;
  static constexpr int kStageWords = 3;
  static constexpr int kStageBytes = 384;
  static constexpr int kGroupBytes = 1536;
  static constexpr bool kHalvesApart = false;  // crumbs come with the second half
  static constexpr uint32_t kNibbles = 0xf0f0f0f0u;
  static constexpr uint32_t kCrumbs = 0x0c0c0c0cu;
  using Source = UnitSource<cuda_int8::kUnitBytes6>;

  __device__ static Source source(const LinearArgs& args, int64_t block, int lane) {
    return Source::make(args, block, lane);
  }
  __device__ static void copy_half(const Source& source, int group, int half, int lane,
                                   uint8_t* shared) {
    const uint8_t* from = source.group(group);
    float_copy::copy16(shared + (half * 32 + lane) * 16, from + half * 512, 16);
    if (half == 1) float_copy::copy16(shared + (2 * 32 + lane) * 16, from + 1024, 16);
  }
  __device__ static void read_half_stage(const uint8_t* shared, int stage, int lane,
                                         uint32_t (&words)[kStageWords]) {
    const uint8_t* from = shared + lane * 16;
    const uint2 nibbles = *reinterpret_cast<const uint2*>(from + stage / 2 * 512 + stage % 2 * 8);
    words[0] = nibbles.x;
    words[1] = nibbles.y;
    words[2] = *reinterpret_cast<const uint32_t*>(from + 1024 + stage * 4);
  }
  // 8 bytes of nibbles, then 4 of crumbs.
  __device__ static void copy_stage(const Source& source, int group, int stage, int lane,
                                    uint8_t* shared) {
    const uint8_t* from = source.group(group);
    float_copy::copy8(shared + lane * 8, from + stage / 2 * 512 + stage % 2 * 8, 8);
    float_copy::copy4(shared + 256 + lane * 4, from + 1024 + stage * 4, 4);
  }
  __device__ static void read_stage(const uint8_t* shared, int lane,
                                    uint32_t (&words)[kStageWords]) {
    const uint2 nibbles = *reinterpret_cast<const uint2*>(shared + lane * 8);
    words[0] = nibbles.x;
    words[1] = nibbles.y;
    words[2] = *reinterpret_cast<const uint32_t*>(shared + 256 + lane * 4);
  }
  __device__ static void unpack(const uint32_t (&words)[kStageWords], uint32_t (&row)[8],
                                uint32_t (&row8)[8]) {
    const uint32_t crumbs = words[2];
    bytes_to_floats((words[0] & kNibbles) | (crumbs & kCrumbs), &row[0]);
    bytes_to_floats((words[1] & kNibbles) | ((crumbs >> 2) & kCrumbs), &row[4]);
    bytes_to_floats(((words[0] << 4) & kNibbles) | ((crumbs << 2) & kCrumbs), &row8[0]);
    bytes_to_floats(((words[1] << 4) & kNibbles) | ((crumbs >> 4) & kCrumbs), &row8[4]);
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
  *out = args.add ? __fadd_rn(*out, sum) : sum;
}

}  // namespace flexq::float_linear
