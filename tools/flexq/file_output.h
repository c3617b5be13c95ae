// Whole files written.
#pragma once

#include <string>
#include <string_view>

namespace flexq_tool {

// Writes a file anew. A failure is reported. Returns an exit code.
int write_output(const std::string& path, std::string_view bytes);

}  // namespace flexq_tool
