#include "encoded_text.h"

namespace flexq_tool {
namespace {

// Calls fill(data, capacity, &length) for the length, then again for the elements.
template <typename Container, typename Length, typename Fill>
flexq_status fill_container(Container& container, Fill fill) {
  Length length = 0;
  container.clear();
  flexq_status status = fill(nullptr, Length{0}, &length);
  if (status == FLEXQ_ERROR_BUFFER_TOO_SMALL) {
    container.resize(static_cast<size_t>(length));
    status = fill(container.data(), length, &length);
  }
  return status;
}

}  // namespace

flexq_status encode(const Tokenizer& tokenizer, const std::string& text, int32_t encode_flags,
                    std::vector<int32_t>& tokens) {
  return fill_container<std::vector<int32_t>, int32_t>(tokens, [&](int32_t* data, int32_t capacity,
                                                                   int32_t* n_tokens) {
    return flexq_tokenizer_encode(tokenizer.get(), text.data(), static_cast<int64_t>(text.size()),
                                  encode_flags, data, capacity, n_tokens);
  });
}

flexq_status encode_chat(const Tokenizer& tokenizer, const char* template_name, const Chat& chat,
                         std::vector<int32_t>& tokens) {
  return fill_container<std::vector<int32_t>, int32_t>(
      tokens, [&](int32_t* data, int32_t capacity, int32_t* n_tokens) {
        return flexq_tokenizer_encode_chat(tokenizer.get(), template_name, chat.get(), 1, data,
                                           capacity, n_tokens);
      });
}

flexq_status decode(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens,
                    std::string& text) {
  return fill_container<std::string, int64_t>(
      text, [&](char* data, int64_t capacity, int64_t* n_bytes) {
        return flexq_tokenizer_decode(tokenizer.get(), tokens.data(),
                                      static_cast<int32_t>(tokens.size()), data, capacity, n_bytes);
      });
}

flexq_status token_bytes(const Tokenizer& tokenizer, int32_t token, std::string& bytes) {
  return fill_container<std::string, int64_t>(
      bytes, [&](char* data, int64_t capacity, int64_t* n_bytes) {
        return flexq_tokenizer_token_bytes(tokenizer.get(), token, data, capacity, n_bytes);
      });
}

int32_t encode_flags(bool no_bos, bool parse_special) {
  return (no_bos ? FLEXQ_ENCODE_PLAIN : FLEXQ_ENCODE_ADD_BOS) |
         (parse_special ? FLEXQ_ENCODE_PARSE_SPECIAL : FLEXQ_ENCODE_PLAIN);
}

}  // namespace flexq_tool
