// The owner of the handle of flexq_private.h.
#pragma once

#include <flexq_private.h>

#include "tool_handles.h"

namespace flexq_tool {

using KernelBenchmark =
    std::unique_ptr<flexq_kernel_benchmark, Releaser<flexq_private_kernel_benchmark_release>>;

}  // namespace flexq_tool
