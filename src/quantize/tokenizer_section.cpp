#include "quantize/tokenizer_section.h"

#include "text/tokenizer_segment.h"

namespace flexq {

Result<std::vector<uint8_t>> make_tokenizer_section(const TokenizerData& tokenizer, int32_t n_vocab,
                                                    const std::string& name) {
  if (tokenizer.n_vocab() > n_vocab)
    return Status::error(StatusCode::kUnsupportedModel,
                         "%s: the tokenizer has %d pieces, expected at most the model's vocabulary "
                         "of %d",
                         name.c_str(), tokenizer.n_vocab(), n_vocab);
  return serialize_tokenizer(tokenizer);
}

}  // namespace flexq
