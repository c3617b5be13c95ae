#include "model/source_slice.h"

namespace flexq {

SourceSlice SourceSlice::of_layer(WeightSource& whole, int32_t layer) {
  SourceSlice slice(whole);
  slice.config_.n_layers = 1;
  slice.take(layer);
  for (StoredTensor& tensor : slice.tensors_)
    tensor.spec.layer = 0;
  return slice;
}

SourceSlice SourceSlice::of_ends(WeightSource& whole) {
  SourceSlice slice(whole);
  slice.config_.n_layers = 0;
  slice.take(-1);
  return slice;
}

void SourceSlice::take(int32_t layer) {
  const std::vector<StoredTensor>& tensors = whole_.tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].spec.layer != layer) continue;
    tensors_.push_back(tensors[i]);
    indices_.push_back(static_cast<int64_t>(i));
  }
}

}  // namespace flexq
