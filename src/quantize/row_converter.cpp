#include "quantize/row_converter.h"

#include <cstring>

#include "quantize/dense_values.h"

namespace flexq {

void convert_row(const RowConversion& conversion, const uint8_t* values, float* scratch,
                 uint8_t* out, uint16_t* scales) {
  const StoredTensor& to = conversion.to;
  const int64_t n_cols = to.spec.cols;
  if (conversion.from == to.format) {
    std::memcpy(out, values, static_cast<size_t>(n_cols * element_bytes(conversion.from)));
    return;
  }
  dense_to_float(conversion.from, values, n_cols, scratch);
  if (to.format == WeightFormat::kF16) {
    float_to_half_values(scratch, n_cols, reinterpret_cast<uint16_t*>(out));
    return;
  }
  quantize_weight_row(to.format, scratch, n_cols, to.scale_multiplier, conversion.search,
                      conversion.importance, reinterpret_cast<int8_t*>(out), scales);
}

}  // namespace flexq
