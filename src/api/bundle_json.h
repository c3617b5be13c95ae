// A bundle's directory as the JSON object that inspection shows.
#pragma once

#include <string>

#include "base/status.h"
#include "bundle/bundle_reader.h"

namespace flexq::api {

// {"format_version", "architecture", "quantization": {"policy", "group_size", "layers"},
//  "size_bytes", "bits_per_weight", "tokenizer", "provenance"}; UTF-8, two spaces of indentation.
Result<std::string> bundle_json(Bundle& bundle);

}  // namespace flexq::api
