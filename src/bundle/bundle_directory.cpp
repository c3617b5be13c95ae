#include "bundle/bundle_directory.h"

#include <utility>

#include "base/checked.h"
#include "bundle/bundle_format.h"

namespace flexq {

TensorEntry make_tensor_entry(const StoredTensor& tensor) {
  TensorEntry entry;
  entry.tensor = tensor;
  entry.rank = tensor.spec.is_vector() ? 1 : 2;
  entry.bits = weight_bits(tensor.format);
  entry.group_size = is_grouped(tensor.format) ? kGroupSize : 0;
  entry.symmetric = true;
  entry.scale_type = is_quantized(tensor.format) ? ScaleType::kF16 : ScaleType::kNone;
  entry.layout = WeightLayout::kRowMajor;
  return entry;
}

}  // namespace flexq
