// Whole rows of an unquantized tensor in the format in which a bundle stores them.
#pragma once

#include <cstdint>

#include "model/weight_source.h"
#include "quantize/group_quantizer.h"

namespace flexq {

// How a tensor's values become stored ones.
struct RowConversion {
  WeightFormat from = WeightFormat::kF32;
  StoredTensor to;
  ScaleSearch search = ScaleSearch::kNone;
  const float* importance = nullptr;  // (cols) of quantize_weight_row(), or null
};

// values: one row of the source; scratch: (cols). out: (cols) elements of the stored format;
// scales: (scales_per_row) of quantized formats.
void convert_row(const RowConversion& conversion, const uint8_t* values, float* scratch,
                 uint8_t* out, uint16_t* scales);

}  // namespace flexq
