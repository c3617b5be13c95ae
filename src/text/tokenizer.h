// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer_data.h"

namespace flexq {

// The longest text that one call encodes, in bytes.
inline constexpr int64_t kMaxTextBytes = int64_t{1} << 28;

struct EncodeOptions {
  // Put BOS in front, if the model expects one (TokenizerData::add_bos).
  bool add_bos = true;
  // Turn control pieces spelled out in the text (<s>, </s>) into their ids. Only for text that
  // the application itself wrote: in a user's text it would let the user forge roles. The text
  // between control pieces is encoded part by part, each like a text of its own.
  bool parse_special = false;
};

// A part of a text with its own trust: see EncodeOptions::parse_special.
struct TextSegment {
  std::string_view text;
  bool parse_special = false;
};

struct EncodeCounters {
  int64_t n_queue_operations = 0;  // insertions into and removals from the merge queue
};

class TextEncoder;  // text_encoder.h: the part that differs between kinds of tokenizers
class PrefixMatcher;
class JsonVocabulary;

// Immutable: any number of threads may use one tokenizer at the same time.
class Tokenizer {
 public:
  // Validates `data` and builds the lookup tables. Errors of validate_tokenizer().
  // `chat_template`: the model's own, as a Jinja text; empty: none.
  static Result<std::shared_ptr<const Tokenizer>> create(TokenizerData data,
                                                         std::string chat_template = {});
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Ids of `text`, which may be any bytes: each byte that is part of no valid UTF-8 character
  // counts as U+FFFD. O(n log n) time, O(n) memory. kLimitExceeded for a text longer than
  // kMaxTextBytes, or when the tokenizer's own split pattern takes too many steps for this text.
  // `counters`, where given, is set to the work done by this call.
  Result<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions& options = {},
                                      EncodeCounters* counters = nullptr) const;

  // Ids of the segments as one text: what lies between two control pieces is encoded at once, even
  // where it comes from several segments. So the ids are those of the whole text with
  // parse_special, but for the spellings of control pieces in segments that do not ask for it.
  Result<std::vector<int32_t>> encode_segments(std::span<const TextSegment> segments, bool add_bos,
                                               EncodeCounters* counters = nullptr) const;

  // The text of `ids`, always valid UTF-8. Control tokens render as nothing, the space that
  // encode() put in front is removed, bytes that form no valid character become U+FFFD each (those
  // of byte tokens, or of all normal tokens in byte-level BPE; a control token ends a character).
  // decode(encode(x)) == x for every valid UTF-8 text without U+2581 (byte-level BPE: for every
  // one), unless the model removes extra whitespace, lacks byte fallback or has prefix_unless_space
  // or prefix_at_start_only. An id outside [0, n_vocab) is kInvalidArgument.
  //
  // Text generated after a prompt is decode(prompt + generated) minus decode(prompt): TokenStream
  // hands it out token by token.
  Result<std::string> decode(std::span<const int32_t> ids) const;

  // The bytes that one token stands for, wherever it occurs: U+2581 as a space, a byte token as
  // its byte (no valid UTF-8 alone, perhaps; as any token of byte-level BPE), nothing for control
  // tokens. The view lives as long as the tokenizer. An id outside [0, n_vocab) gives an empty
  // view.
  std::string_view piece_bytes(int32_t id) const;

  // The id of a piece exactly as the vocabulary spells it (spaces as U+2581, in byte-level BPE as
  // spaces; control and byte pieces included), or -1.
  int32_t id_of(std::string_view piece) const;

  // Which tokens go on with a JSON object; made by the first call. Lives as long as the tokenizer.
  const JsonVocabulary& json_vocabulary() const;

  int32_t n_vocab() const { return data_.n_vocab(); }
  int32_t bos_id() const { return data_.bos_id; }  // -1: none, as for the other special ids
  int32_t eos_id() const { return data_.eos_id; }
  int32_t unk_id() const { return data_.unk_id; }
  int32_t pad_id() const { return data_.pad_id; }
  const TokenizerData& data() const { return data_; }  // for serialize_tokenizer()
  // What chat_template.h recognizes and applies; empty where the model came without one.
  const std::string& chat_template() const { return chat_template_; }

 private:
  Tokenizer(TokenizerData data, std::string chat_template);
  Status build();

  TokenizerData data_;
  std::string chat_template_;
  std::string rendered_;                 // piece_bytes() of all pieces, one after the other
  std::vector<uint32_t> rendered_ends_;  // (n_vocab)
  std::unique_ptr<const PrefixMatcher> control_pieces_;
  std::unique_ptr<const TextEncoder> encoder_;
  mutable std::mutex json_mutex_;
  mutable std::unique_ptr<const JsonVocabulary> json_vocabulary_;  // under json_mutex_
};

}  // namespace flexq
