// The semantic pass over a decoded directory: after it, every number in it may be trusted.
#pragma once

#include <string>
#include <vector>

#include "bundle/bundle_directory.h"
#include "bundle/bundle_format.h"

namespace flexq {

// `segment_bytes` is what the file holds from segment_base to its end. Checks the config; that
// tensors are exactly expected_tensors(config) in order with known formats; that chunks cover
// rows exactly, follow each other without holes or overlap and fill `segment_bytes`; and that all
// sizes follow from shapes. Fills in every tensor's linear_kind. kCorrupt or kLimitExceeded.
Status validate_directory(BundleDirectory* directory, int64_t segment_bytes,
                          const BundleLimits& limits, const std::string& source);

}  // namespace flexq
