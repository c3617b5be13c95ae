// The key that requests must bring.
#pragma once

#include <string>

#include "serve/serve_options.h"

namespace flexq_tool {

// From --api-key, --api-key-file or the environment variable FLEXQ_API_KEY, the first of them that
// is there; empty: none is asked for. Reports a failure; returns an exit code.
int read_api_key(const ServeOptions& options, std::string& key);

// Whether an Authorization header's value is "Bearer <key>". The time does not depend on where they
// differ.
bool is_authorized(const std::string& header, const std::string& key);

}  // namespace flexq_tool
