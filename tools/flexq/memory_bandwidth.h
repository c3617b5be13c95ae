// The speed limit of decoding: how fast this machine reads memory.
#pragma once

#include <cstdint>

namespace flexq_tool {

// Bytes per second at which n_threads threads together sum 1 GiB of integers: the best of 5 runs.
// Takes 1 GiB of memory while it runs.
double measure_read_bandwidth(int32_t n_threads);

}  // namespace flexq_tool
