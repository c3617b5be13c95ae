// Whole inputs as bytes.
#pragma once

#include <string>

namespace flexq_tool {

// Reads a file, or standard input for "-", byte for byte. A failure is reported. Returns an exit
// code.
int read_input(const std::string& path, std::string& bytes);

}  // namespace flexq_tool
