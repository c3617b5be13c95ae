// The part of a tokenizer that differs between kinds: plain text to ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

namespace flexq {

// Immutable and shareable. Refers to the tokenizer's data, which must outlive it.
class TextEncoder {
 public:
  virtual ~TextEncoder() = default;

  // Appends the ids of `text` (any bytes, at most kMaxTextBytes) to `ids` and adds the work done
  // to `counters`. Neither BOS nor control pieces. `at_start`: nothing precedes the text but,
  // perhaps, BOS. After an error `ids` holds ids of a part of the text.
  virtual Status encode(std::string_view text, bool at_start, std::vector<int32_t>& ids,
                        EncodeCounters& counters) const = 0;

  // See Tokenizer::id_of.
  virtual int32_t id_of(std::string_view piece) const = 0;
};

}  // namespace flexq
