#include "text/piece_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "text/piece_name.h"

namespace flexq {
namespace {

// 2^64 divided by the golden ratio, made odd: the usual multiplier of Fibonacci hashing.
constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15u;

uint64_t hash_bytes(std::string_view bytes, uint64_t seed) {
  uint64_t hash = seed ^ (bytes.size() * kMultiplier);
  const auto mix = [&hash](uint64_t word) {
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 32;
  };
  while (bytes.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    mix(word);
    bytes.remove_prefix(8);
  }
  uint64_t word = 0;
  if (!bytes.empty()) std::memcpy(&word, bytes.data(), bytes.size());
  mix(word);
  mix(hash >> 29);
  return hash;
}

}  // namespace

Result<PieceTable> PieceTable::build(const TokenizerData& data) {
  PieceTable table;
  table.data_ = &data;
  for (int32_t id = 0; id < data.n_vocab(); ++id)
    table.max_piece_bytes_ = std::max(table.max_piece_bytes_, data.piece(id).size());
  table.slots_.resize(std::bit_ceil(2 * static_cast<size_t>(data.n_vocab()) + 1));

  for (uint64_t attempt = 1; attempt <= 4; ++attempt) {
    int32_t duplicate_id = -1;
    switch (table.fill(attempt * kMultiplier, &duplicate_id)) {
      case Fill::kDone:
        return table;
      case Fill::kDuplicate:
        return Status::error(StatusCode::kCorrupt, "vocabulary: piece %d, %s, appears twice",
                             duplicate_id, PieceName(data.piece(duplicate_id)).c_str());
      case Fill::kTooClustered:
        break;
    }
  }
  return Status::error(StatusCode::kCorrupt,
                       "vocabulary: %d pieces cannot be hashed within %u probes, as any that were "
                       "not chosen for it can",
                       data.n_vocab(), kMaxProbes);
}

PieceTable::Fill PieceTable::fill(uint64_t seed, int32_t* duplicate_id) {
  seed_ = seed;
  std::fill(slots_.begin(), slots_.end(), Slot{});
  const size_t mask = slots_.size() - 1;
  for (int32_t id = 0; id < data_->n_vocab(); ++id) {
    const std::string_view piece = data_->piece(id);
    const uint64_t hash = hash_bytes(piece, seed_);
    const uint32_t tag = static_cast<uint32_t>(hash >> 32);
    size_t at = static_cast<size_t>(hash) & mask;
    uint32_t n_probes = 0;
    for (; slots_[at].id >= 0; at = (at + 1) & mask) {
      if (slots_[at].tag == tag && data_->piece(slots_[at].id) == piece) {
        *duplicate_id = id;
        return Fill::kDuplicate;
      }
      if (++n_probes == kMaxProbes) return Fill::kTooClustered;
    }
    slots_[at] = {tag, id};
  }
  return Fill::kDone;
}

int32_t PieceTable::find(std::string_view piece) const {
  if (piece.size() > max_piece_bytes_) return -1;
  const size_t mask = slots_.size() - 1;
  const uint64_t hash = hash_bytes(piece, seed_);
  const uint32_t tag = static_cast<uint32_t>(hash >> 32);
  size_t at = static_cast<size_t>(hash) & mask;
  for (uint32_t n_probes = 0; n_probes < kMaxProbes; ++n_probes, at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.id < 0) return -1;
    if (slot.tag == tag && data_->piece(slot.id) == piece) return slot.id;
  }
  return -1;
}

}  // namespace flexq
