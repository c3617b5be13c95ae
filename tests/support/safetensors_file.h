// Reference results (logits.safetensors): F32 and I32 tensors read whole. Independent of the
// library's own reader, so that a test does not check it against itself.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace flexq::test {

struct ReferenceTensor {
  std::vector<int64_t> shape;
  std::vector<float> f32;    // dtype F32; else empty
  std::vector<int32_t> i32;  // dtype I32; else empty
};

// Name -> tensor. Throws std::runtime_error for a missing or malformed file and other dtypes.
std::map<std::string, ReferenceTensor> read_reference_tensors(const std::string& path);

}  // namespace flexq::test
