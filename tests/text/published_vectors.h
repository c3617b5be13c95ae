// Texts with the ids that the published tokenizer gives them.
#pragma once

#include <sstream>

#include "text/text_fixtures.h"

namespace flexq::test {

// vectors.inp of `folder`: texts between separators; vectors.out: a line of ids for each, without
// BOS.
inline void check_published_vectors(const Tokenizer& tokenizer, const std::string& folder) {
  const std::string inputs = read_file(folder + "/vectors.inp");
  std::istringstream outputs(read_file(folder + "/vectors.out"));
  static constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  int n_vectors = 0;
  for (size_t at = 0; at <= inputs.size(); ++n_vectors) {
    const size_t end = std::min(inputs.find(kSeparator, at), inputs.size());
    const std::string text = inputs.substr(at, end - at);
    CAPTURE(text);
    std::string line;
    if (!std::getline(outputs, line)) {
      CHECK(text.empty());  // what follows the last separator
      break;
    }
    std::istringstream numbers(line);
    const std::vector<int32_t> expected{std::istream_iterator<int32_t>(numbers), {}};
    const std::vector<int32_t> ids = encode_text(tokenizer, text, {.add_bos = false});
    CHECK(ids == expected);
    CHECK(decode_ids(tokenizer, ids) == text);
    at = end + kSeparator.size();
  }
  CHECK(n_vectors > 30);
  std::string left_over;
  CHECK_FALSE(std::getline(outputs, left_over));
}

}  // namespace flexq::test
