// The bytes that carry a tokenizer in a bundle.
//
// One bundle segment; every integer little-endian, nothing aligned, nothing padded:
//
//   offset  type  field
//   0       u32   format version: 1
//   4       u32   kind: 1 = SentencePiece BPE, 2 = byte-level BPE, 3 = character BPE
//   8       u32   flags: bit 0 add_bos, bit 1 add_dummy_prefix, bit 2 remove_extra_whitespaces,
//                 bit 3 byte_fallback, bit 4 escape_whitespaces, bit 5 ignore_merges,
//                 bit 6 merge_by_id, bit 7 fuse_unk, bit 8 prefix_unless_space,
//                 bit 9 prefix_at_start_only; all other bits, and those that the kind does not
//                 have (tokenizer_flags.h), zero
//   12      u32   n_vocab, 1 to 2^20
//   16      i32   bos_id, or -1 when the tokenizer has none
//   20      i32   eos_id, or -1
//   24      i32   unk_id, or -1
//   28      i32   pad_id, or -1
//   32      u32   text_bytes: length of the last field, 0 to 1024 (kind 1) or 4096 (kinds 2, 3)
//   36      u32   piece_bytes: the sum of all piece lengths
//
// then, kind 1:
//
//   40      f32   score of each piece            (n_vocab entries), finite
//   ..      u16   length of each piece in bytes  (n_vocab entries), 1 to 1024
//   ..      u8    type of each piece             (n_vocab entries), see PieceType
//   ..      u8    the pieces in id order, one after the other  (piece_bytes)
//   ..      u8    unk_surface: the text an unknown token decodes to  (text_bytes)
//
// kinds 2 and 3, added and special tokens being pieces of their own types:
//
//   40      u32   n_merges, 0 to 2^22
//   44      u16   length of each piece in bytes  (n_vocab entries), 1 to 1024
//   ..      u8    type of each piece             (n_vocab entries)
//   ..      i32   left and right piece of each merge, in their order  (n_merges entries of two)
//   ..      u8    the pieces in id order, one after the other  (piece_bytes)
//   ..      u8    split_pattern  (text_bytes; kind 3: 0)
//
// The segment ends there; trailing bytes are refused. Equal data give equal bytes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "text/tokenizer_data.h"

namespace flexq {

// The byte format above. Fails only where validate_tokenizer() does.
Result<std::vector<uint8_t>> serialize_tokenizer(const TokenizerData& data);

// The inverse of serialize_tokenizer(), for any bytes: what it returns is valid. kCorrupt for
// malformed bytes, kLimitExceeded beyond the limits, kUnsupportedVersion for another version,
// kind or flag.
Result<TokenizerData> parse_tokenizer(std::span<const uint8_t> bytes);

}  // namespace flexq
