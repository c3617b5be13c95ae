// Tokenizer calls with containers in place of (buffer, capacity, length).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tool_handles.h"

namespace flexq_tool {

flexq_status encode(const Tokenizer& tokenizer, const std::string& text, int32_t encode_flags,
                    std::vector<int32_t>& tokens);

// The conversation with what makes the model answer; template_name may be NULL.
flexq_status encode_chat(const Tokenizer& tokenizer, const char* template_name, const Chat& chat,
                         std::vector<int32_t>& tokens);

flexq_status decode(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens,
                    std::string& text);

// The bytes that one token adds in the middle of a text.
flexq_status token_bytes(const Tokenizer& tokenizer, int32_t token, std::string& bytes);

// The FLEXQ_ENCODE_ flags for the options --no-bos and --parse-special.
int32_t encode_flags(bool no_bos, bool parse_special);

}  // namespace flexq_tool
