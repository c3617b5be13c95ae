// The files and the bundle section that hold a tokenizer, each as it stands.
#include "fuzz/fuzz_target.h"
#include "fuzz/tokenizer_use.h"
#include "text/sentencepiece_model.h"
#include "text/tiktoken_model.h"
#include "text/tokenizer_json.h"
#include "text/tokenizer_segment.h"

namespace flexq::test {

bool fuzz_sentencepiece(FuzzInput input) {
  return use_tokenizer(read_sentencepiece_model(input, "input"));
}

bool fuzz_tiktoken(FuzzInput input) {
  is_tiktoken_model(as_text(input));
  return use_tokenizer(read_tiktoken_model(as_text(input), {}, "input"));
}

bool fuzz_tokenizer_json(FuzzInput input) {
  accepted(read_added_tokens_of_json(as_text(input), "input").status());
  return use_tokenizer(read_tokenizer_json(as_text(input), "input"));
}

bool fuzz_tokenizer_section(FuzzInput input) {
  return use_tokenizer(parse_tokenizer(input));
}

}  // namespace flexq::test
