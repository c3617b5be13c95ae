// Models of published shapes with random weights: as a source to load, or as a bundle.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "model/synthetic_source.h"
#include "quantize/quantize_checkpoint.h"

namespace flexq {

// A name of published_shapes.h with the precision of `options`, made in that precision directly.
Result<std::unique_ptr<SyntheticSource>> make_synthetic_model(std::string_view shape,
                                                              const QuantizeOptions& options);

// Quantizes an unquantized synthetic model of that shape and writes a bundle without a tokenizer.
// Options and errors as in quantize_checkpoint.
Status quantize_synthetic_model(std::string_view shape, const std::string& output_path,
                                const QuantizeOptions& options);

}  // namespace flexq
