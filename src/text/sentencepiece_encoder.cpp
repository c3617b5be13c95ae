#include "text/sentencepiece_encoder.h"

#include <algorithm>
#include <unordered_map>

#include "text/utf8.h"

namespace flexq {

Result<std::unique_ptr<const TextEncoder>> SentencePieceEncoder::create(const TokenizerData& data) {
  FLEXQ_ASSIGN_OR_RETURN(PieceTable pieces, PieceTable::build(data));
  return std::unique_ptr<const TextEncoder>(new SentencePieceEncoder(data, std::move(pieces)));
}

SentencePieceEncoder::SentencePieceEncoder(const TokenizerData& data, PieceTable pieces)
    : data_(&data), pieces_(std::move(pieces)), user_defined_(data, PieceType::kUserDefined) {
  std::fill(std::begin(byte_ids_), std::end(byte_ids_), data.unk_id);
  for (int32_t id = 0; id < data.n_vocab(); ++id) {
    if (data.types[static_cast<size_t>(id)] != PieceType::kByte) continue;
    byte_ids_[byte_of_piece(data.piece(id))] = id;
  }
}

// SentencePiece's Normalizer with the identity table: replaces invalid bytes, strips and collapses
// spaces where the model says so, puts the dummy prefix in front and spells spaces as U+2581.
std::string SentencePieceEncoder::normalize(std::string_view text) const {
  // A unit is a user-defined piece, a valid character or one invalid byte.
  const auto next_unit_bytes = [this](std::string_view rest, bool* valid) {
    *valid = true;
    const int32_t id = user_defined_.longest_match(rest);
    if (id >= 0) return data_->piece(id).size();
    const int n_bytes = valid_character_bytes(rest);
    *valid = n_bytes > 0;
    return *valid ? static_cast<size_t>(n_bytes) : size_t{1};
  };

  const std::string_view space = data_->escape_whitespaces ? kSpaceSymbol : " ";
  const bool strip = data_->remove_extra_whitespaces;
  bool valid = true;
  if (strip) {
    // A user-defined piece that begins with a space is not stripped.
    while (!text.empty() && text[0] == ' ' && next_unit_bytes(text, &valid) == 1)
      text.remove_prefix(1);
  }
  std::string normalized;
  if (text.empty()) return normalized;
  normalized.reserve(text.size() + text.size() / 4 + kSpaceSymbol.size());
  if (data_->add_dummy_prefix) normalized.append(space);

  bool after_space = strip;
  while (!text.empty()) {
    const size_t n_bytes = next_unit_bytes(text, &valid);
    std::string_view unit = valid ? text.substr(0, n_bytes) : kReplacementCharacter;
    text.remove_prefix(n_bytes);
    while (after_space && unit.starts_with(' '))
      unit.remove_prefix(1);
    if (unit.empty()) continue;
    for (const char c : unit) {
      if (c == ' ')
        normalized.append(space);
      else
        normalized.push_back(c);
    }
    after_space = strip && unit.ends_with(' ');
  }
  if (strip) {
    while (normalized.ends_with(space))
      normalized.resize(normalized.size() - space.size());
  }
  return normalized;
}

// The id of a piece that text can become: neither control nor byte nor unknown; otherwise -1.
int32_t SentencePieceEncoder::find_mergeable(std::string_view piece) const {
  const int32_t id = pieces_.find(piece);
  if (id < 0) return -1;
  switch (data_->types[static_cast<size_t>(id)]) {
    case PieceType::kNormal:
    case PieceType::kUserDefined:
    case PieceType::kUnused:
      return id;
    default:
      return -1;
  }
}

// Appends one final piece, `id` being find_mergeable(piece). A piece without id becomes its bytes
// or, without byte fallback, unk_id: one for each run of such pieces.
void SentencePieceEncoder::append_piece(std::string_view piece, int32_t id,
                                        std::vector<int32_t>& ids) const {
  if (id >= 0) {
    ids.push_back(id);
  } else if (data_->byte_fallback) {
    for (const char byte : piece)
      ids.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
  } else if (ids.empty() || ids.back() != data_->unk_id) {
    ids.push_back(data_->unk_id);
  }
}

// One call of encode(): symbols in a linked list, candidate pairs in a priority queue.
class SentencePieceEncoder::Merger {
 public:
  Merger(const SentencePieceEncoder& encoder, std::string_view text, EncodeCounters& counters)
      : encoder_(encoder), text_(text), counters_(counters) {
    split_into_symbols();
  }

  void merge_all() {
    for (int32_t right = 1; right < n_symbols(); ++right)
      propose(right - 1, right);
    std::make_heap(queue_.begin(), queue_.end());
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end());
      const Candidate best = queue_.back();
      queue_.pop_back();
      ++counters_.n_queue_operations;
      Symbol& left = symbol(best.left);
      Symbol& right = symbol(best.right);
      // Outdated when either side was merged away or has grown since.
      if (left.n_bytes == 0 || right.n_bytes == 0 || left.n_bytes + right.n_bytes != best.n_bytes)
        continue;
      left.n_bytes = best.n_bytes;
      right.n_bytes = 0;
      left.next = right.next;
      if (left.next >= 0) symbol(left.next).previous = best.left;
      if (propose(left.previous, best.left)) std::push_heap(queue_.begin(), queue_.end());
      if (propose(best.left, left.next)) std::push_heap(queue_.begin(), queue_.end());
    }
  }

  void append_ids(std::vector<int32_t>& ids) {
    std::vector<std::string_view> parts;  // a stack: what is left of a piece that is split again
    for (int32_t at = n_symbols() > 0 ? 0 : -1; at >= 0; at = symbol(at).next) {
      parts.push_back(bytes_of(symbol(at)));
      while (!parts.empty()) {
        const std::string_view piece = parts.back();
        parts.pop_back();
        const int32_t id = encoder_.find_mergeable(piece);
        const auto split = split_of_unused_.find(id);
        if (split == split_of_unused_.end()) {
          encoder_.append_piece(piece, id, ids);
        } else {
          parts.push_back(piece.substr(split->second));
          parts.push_back(piece.substr(0, split->second));
        }
      }
    }
  }

 private:
  struct Symbol {
    uint32_t begin;    // in text_
    uint32_t n_bytes;  // 0: merged into its left neighbour
    int32_t previous;  // -1 at the ends
    int32_t next;
    bool frozen;  // a user-defined piece: never merged
  };

  struct Candidate {
    float score;
    int32_t left;
    int32_t right;
    uint32_t n_bytes;  // of both together, when proposed
    // The heap's greatest element is merged next: highest score, then leftmost.
    bool operator<(const Candidate& other) const {
      return score < other.score || (score == other.score && left > other.left);
    }
  };

  Symbol& symbol(int32_t index) { return symbols_[static_cast<size_t>(index)]; }
  int32_t n_symbols() const { return static_cast<int32_t>(symbols_.size()); }
  std::string_view bytes_of(const Symbol& s) const { return text_.substr(s.begin, s.n_bytes); }

  void split_into_symbols() {
    symbols_.reserve(text_.size() / 2);
    size_t at = 0;
    while (at < text_.size()) {
      const std::string_view rest = text_.substr(at);
      const int32_t user_defined_id = encoder_.user_defined_.longest_match(rest);
      const size_t n_bytes = user_defined_id >= 0
                                 ? encoder_.data_->piece(user_defined_id).size()
                                 : static_cast<size_t>(valid_character_bytes(rest));
      const int32_t index = n_symbols();
      symbols_.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(n_bytes), index - 1,
                          index + 1, user_defined_id >= 0});
      at += n_bytes;
    }
    if (!symbols_.empty()) symbols_.back().next = -1;
  }

  // Puts the pair behind the queue when it can be merged.
  bool propose(int32_t left_index, int32_t right_index) {
    if (left_index < 0 || right_index < 0) return false;
    const Symbol& left = symbol(left_index);
    const Symbol& right = symbol(right_index);
    if (left.frozen || right.frozen) return false;
    const std::string_view piece = text_.substr(left.begin, left.n_bytes + right.n_bytes);
    const int32_t id = encoder_.find_mergeable(piece);
    if (id < 0) return false;
    queue_.push_back({encoder_.data_->scores[static_cast<size_t>(id)], left_index, right_index,
                      static_cast<uint32_t>(piece.size())});
    ++counters_.n_queue_operations;
    // The split proposed last is the one that counts, as in SentencePiece.
    if (encoder_.data_->types[static_cast<size_t>(id)] == PieceType::kUnused)
      split_of_unused_[id] = left.n_bytes;
    return true;
  }

  const SentencePieceEncoder& encoder_;
  std::string_view text_;
  EncodeCounters& counters_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> queue_;
  std::unordered_map<int32_t, uint32_t> split_of_unused_;  // id to the bytes of its left part
};

Status SentencePieceEncoder::encode(std::string_view text, bool, std::vector<int32_t>& ids,
                                    EncodeCounters& counters) const {
  const std::string normalized = normalize(text);
  Merger merger(*this, normalized, counters);
  merger.merge_all();
  merger.append_ids(ids);
  return {};
}

}  // namespace flexq
