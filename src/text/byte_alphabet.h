// The alphabet in which GPT-2 and its successors spell bytes as characters in their vocabularies.
#pragma once

#include <string>
#include <string_view>

namespace flexq {

// Printable bytes stand for themselves (as U+0021 to U+00FF), the others for U+0100 and up in their
// order: "Ġthe" is " the". Appends the bytes that `spelled`, valid UTF-8, stands for. False for a
// character outside the alphabet; `bytes` is then undefined.
bool bytes_of_spelling(std::string_view spelled, std::string& bytes);

}  // namespace flexq
