// A vocabulary seen with the eyes of JsonAutomaton: which tokens go on with an object.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "text/json_automaton.h"
#include "text/sorted_pieces.h"
#include "text/tokenizer.h"

namespace flexq {

// What a token adds to a text is Tokenizer::piece_bytes, except where the text begins: there the
// detokenizer drops spaces (of SentencePiece's dummy prefix), which the automaton ignores before an
// object. Tokens without text are never allowed, nor is the one for unknown text.
//
// Immutable. Made once per tokenizer, by Tokenizer::json_vocabulary().
class JsonVocabulary {
 public:
  // The tokenizer must outlive this.
  explicit JsonVocabulary(const Tokenizer& tokenizer);

  // kUnsupportedModel unless an object can be closed byte by byte with tokens under n_vocab.
  Status check_closing(int32_t n_vocab) const;

  // Scratch of allow(), in states.
  size_t n_states() const { return static_cast<size_t>(pieces_.longest_bytes()) + 1; }

  // Sets bit t % 64 of allowed[t / 64], for every t that has one, to whether token t goes on with
  // the object in state `from` and leaves it at most max_closing bytes from its end. from is
  // states[0]; states: (n_states()). Returns how many bytes the automaton was asked about.
  int64_t allow(std::span<JsonAutomaton> states, int64_t max_closing,
                std::span<uint64_t> allowed) const;

 private:
  const Tokenizer& tokenizer_;
  SortedPieces pieces_;             // all tokens with text
  SortedPieces delimiters_;         // those of them that are not string content as a whole
  std::vector<uint64_t> contents_;  // the others, as bits
};

}  // namespace flexq
