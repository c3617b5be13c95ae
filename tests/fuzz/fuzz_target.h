// Fuzz targets: what untrusted bytes can reach, each as a function of one input. Programs of three
// kinds share them: libFuzzer's (libfuzzer_main.cpp), the replay of the corpus without a fuzzer,
// and the generator of the corpus.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace flexq::test {

using FuzzInput = std::span<const uint8_t>;

// True when the input was accepted, and then used; false when it was refused. Whatever breaks a
// promise of the library ends the process, as a sanitizer's report does.
bool fuzz_bundle_directory(FuzzInput input);
bool fuzz_bundle_load(FuzzInput input);
bool fuzz_config_json(FuzzInput input);
bool fuzz_safetensors(FuzzInput input);
bool fuzz_sentencepiece(FuzzInput input);
bool fuzz_text(FuzzInput input);
bool fuzz_tiktoken(FuzzInput input);
bool fuzz_tokenizer_json(FuzzInput input);
bool fuzz_tokenizer_section(FuzzInput input);

struct FuzzTarget {
  std::string_view name;  // of its folder in the corpus
  bool (*run)(FuzzInput input);
};

inline constexpr FuzzTarget kFuzzTargets[] = {
    {"bundle_directory", fuzz_bundle_directory},
    {"bundle_load", fuzz_bundle_load},
    {"config_json", fuzz_config_json},
    {"safetensors", fuzz_safetensors},
    {"sentencepiece", fuzz_sentencepiece},
    {"text", fuzz_text},
    {"tiktoken", fuzz_tiktoken},
    {"tokenizer_json", fuzz_tokenizer_json},
    {"tokenizer_section", fuzz_tokenizer_section},
};

#define FUZZ_REQUIRE(condition, text)                                                  \
  do {                                                                                 \
    if (!(condition)) {                                                                \
      std::fprintf(stderr, "%s:%d: expected %s: %s\n", __FILE__, __LINE__, #condition, \
                   std::string(text).c_str());                                         \
      std::abort();                                                                    \
    }                                                                                  \
  } while (false)

// What damaged bytes may end in; anything else blames the wrong thing or hides an allocation that
// the bytes asked for.
inline bool is_refusal(StatusCode code) {
  return code == StatusCode::kCorrupt || code == StatusCode::kUnsupportedVersion ||
         code == StatusCode::kUnsupportedModel || code == StatusCode::kLimitExceeded ||
         code == StatusCode::kSignature || code == StatusCode::kNonFinite;
}

// Whether a call went well; a failure must be a refusal with a message.
inline bool accepted(const Status& status) {
  if (status.ok()) return true;
  FUZZ_REQUIRE(is_refusal(status.code()), status.message());
  FUZZ_REQUIRE(!status.message().empty(), "no message");
  return false;
}

inline std::string_view as_text(FuzzInput input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

// The first byte, which says how a target reads the rest; 0 where there is none.
inline uint8_t take_byte(FuzzInput& input) {
  if (input.empty()) return 0;
  const uint8_t byte = input.front();
  input = input.subspan(1);
  return byte;
}

}  // namespace flexq::test
