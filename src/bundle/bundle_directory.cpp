#include "bundle/bundle_directory.h"

#include <utility>

#include "base/checked.h"
#include "bundle/bundle_format.h"

namespace flexq {

TensorEntry make_tensor_entry(const StoredTensor& tensor) {
  const bool quantized = tensor.format == WeightFormat::kInt6Group;
  TensorEntry entry;
  entry.tensor = tensor;
  entry.rank = tensor.spec.is_vector() ? 1 : 2;
  entry.bits = quantized ? 6 : static_cast<int32_t>(8 * element_bytes(tensor.format));
  entry.group_size = quantized ? kGroupSize : 0;
  entry.symmetric = true;
  entry.scale_type = quantized ? ScaleType::kF16 : ScaleType::kNone;
  entry.layout = WeightLayout::kRowMajor;
  return entry;
}

}  // namespace flexq
