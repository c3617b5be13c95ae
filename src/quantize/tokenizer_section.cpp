#include "quantize/tokenizer_section.h"

#include <span>

#include "text/sentencepiece_model.h"
#include "text/tokenizer_data.h"

namespace flexq {

Result<std::vector<uint8_t>> make_tokenizer_section(std::string_view model, int32_t n_vocab,
                                                    const std::string& name) {
  const std::span bytes(reinterpret_cast<const uint8_t*>(model.data()), model.size());
  FLEXQ_ASSIGN_OR_RETURN(const TokenizerData tokenizer, read_sentencepiece_model(bytes, name));
  if (tokenizer.n_vocab() > n_vocab)
    return Status::error(StatusCode::kUnsupportedModel,
                         "%s: %d pieces, expected at most the model's vocabulary of %d",
                         name.c_str(), tokenizer.n_vocab(), n_vocab);
  return serialize_tokenizer(tokenizer);
}

}  // namespace flexq
