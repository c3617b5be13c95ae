#include "text/token_stream.h"

#include <utility>

namespace flexq {

Result<TokenStream> TokenStream::create(std::shared_ptr<const Tokenizer> tokenizer,
                                        std::span<const int32_t> prompt,
                                        std::span<const std::string> stop_strings) {
  FLEXQ_ASSIGN_OR_RETURN(StopMatcher stop_matcher, StopMatcher::create(stop_strings));
  TokenStream stream(std::move(tokenizer), std::move(stop_matcher));
  // The prompt's text only moves the detokenizer to the right state.
  for (const int32_t id : prompt) {
    stream.decoded_.clear();
    FLEXQ_RETURN_IF_ERROR(stream.detokenizer_.push(id, stream.decoded_));
  }
  return stream;
}

Result<std::string_view> TokenStream::push(int32_t id) {
  decoded_.clear();
  out_.clear();
  FLEXQ_RETURN_IF_ERROR(detokenizer_.push(id, decoded_));
  stop_matcher_.push(decoded_, out_);
  return std::string_view(out_);
}

std::string_view TokenStream::finish() {
  decoded_.clear();
  out_.clear();
  detokenizer_.finish(decoded_);
  stop_matcher_.push(decoded_, out_);
  stop_matcher_.finish(out_);
  return out_;
}

}  // namespace flexq
