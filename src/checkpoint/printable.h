// Names from files in error messages.
#pragma once

#include <string>
#include <string_view>

namespace flexq {

// `text` fit for a message of one line: control characters become '?', and what is longer than
// 120 bytes is cut between characters.
std::string printable(std::string_view text);

}  // namespace flexq
