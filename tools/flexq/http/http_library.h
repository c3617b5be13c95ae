// Loads the implementation of http_transport.h.
#pragma once

#include "http_transport.h"

namespace flexq_tool {

// The library beside the tool, or where packages put it; loaded once. nullptr after a report.
const HttpTransport* load_http_transport();

}  // namespace flexq_tool
