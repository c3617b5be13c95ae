// Constants of the bundle format and the limits of its reader. schema/FORMAT.md explains them.
#pragma once

#include <cstdint>

namespace flexq {

inline constexpr uint8_t kBundleMagic[6] = {'F', 'L', 'E', 'X', 'Q', 0};
inline constexpr uint16_t kBundleFormatVersion = 1;  // what we write, and the newest we read

inline constexpr int64_t kBundleHeaderBytes = 256;  // the directory begins here
inline constexpr int64_t kSegmentAlignment = 4096;  // of every tensor and section
inline constexpr int64_t kChunkAlignment = 64;      // of every chunk inside a segment

// Limits on what a file may declare, before anything is allocated for it.
inline constexpr int64_t kMaxDirectoryBytes = int64_t{64} << 20;
inline constexpr int32_t kMaxDirectoryDepth = 16;
inline constexpr int32_t kMaxDirectoryTables = 262'144;
inline constexpr int64_t kMaxSegments = 65'536;  // tensors plus sections
// Decoded bytes per stored byte. No zstd frame goes beyond it: the smallest block has 4 bytes and
// the largest decodes to 128 KiB. So what a file can make a reader allocate is bounded by its own
// size.
inline constexpr int64_t kMaxExpansion = 32'768;
inline constexpr int64_t kMaxSectionBytes = int64_t{256} << 20;
inline constexpr int64_t kMaxFeatures = 64;
inline constexpr int64_t kMaxEvidence = 65'536;
inline constexpr int64_t kMaxEvidenceValues = int64_t{1} << 20;  // per group, of all entries
inline constexpr int64_t kMaxMeasuredPrecisions = 1024;          // in one list
inline constexpr int64_t kMaxKeyValues = 256;
inline constexpr int64_t kMaxDirectoryTextBytes = int64_t{1} << 20;  // config.json, chat template
inline constexpr int64_t kMaxValueBytes = int64_t{64} << 10;         // one provenance value
inline constexpr int64_t kSectionChunkBytes = int64_t{2} << 20;      // how the writer cuts sections

// With multipliers in this range no product of code, fp16 scale and multiplier leaves fp32.
inline constexpr float kMinScaleMultiplier = 0x1p-105f;
inline constexpr float kMaxScaleMultiplier = 0x1p+105f;

// What the caller allows on top of the format's limits.
struct BundleLimits {
  int64_t max_decoded_bytes = int64_t{1} << 40;  // all tensors and sections, decompressed
};

}  // namespace flexq
