// Sends planned requests to a target.
#pragma once

#include <vector>

#include "load/load_target.h"

namespace flexq_tool {

struct LoadResult {
  std::vector<LoadSample> samples;  // in the order of the requests; fewer after a signal
  double seconds = 0;               // from the first request to the end of the last answer
};

// Each at its time, a thread for every request that is under way.
LoadResult run_open_loop(LoadTarget& target, const std::vector<LoadRequest>& requests);

// `concurrency` clients, each of which sends the next request when it has its answer.
LoadResult run_closed_loop(LoadTarget& target, const std::vector<LoadRequest>& requests,
                           int32_t concurrency);

}  // namespace flexq_tool
