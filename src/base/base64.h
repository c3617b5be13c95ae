// Base64 as in RFC 4648, section 4: with padding, without line breaks.
#pragma once

#include <string>
#include <string_view>

namespace flexq {

// Appends the decoded bytes to `out`. False for anything that an encoder would not write: other
// characters, missing padding, bits that no byte holds; `out` is then undefined.
bool decode_base64(std::string_view text, std::string& out);

}  // namespace flexq
