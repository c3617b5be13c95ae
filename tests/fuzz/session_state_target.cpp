// A saved sequence, restored and continued by two tokens. An input is
//   u8   the kv_type of the context (modulo 3); + 8: the file is what follows, as it is;
//        + 16: the size that the header states stays; + 32: so does the model's hash
//   60 bytes of the header from its magic on, then tokens, note and blocks without hashes
// The size in the header, the model's hash and all other hashes are made right, and what is missing
// behind the tokens is zero, so that mutations reach what lies behind them.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/little_endian.h"
#include "fuzz/fuzz_target.h"
#include "runtime/session_header.h"
#include "runtime/small_session.h"

namespace flexq::test {
namespace {

constexpr size_t kFieldBytes = 60;
constexpr size_t kFileBytesAt = 16;
constexpr size_t kModelAt = 64;
constexpr int64_t kMostBytes = int64_t{1} << 16;

Context& context_of(KvType kv_type) {
  static const auto model = small_session_model();
  static const std::array<std::shared_ptr<Context>, 3> contexts = {
      session_context(model, KvType::kF16), session_context(model, KvType::kF32),
      session_context(model, KvType::kI8)};
  return *contexts[static_cast<size_t>(kv_type)];
}

// The layout that the header's fields ask for, whatever they are.
SessionLayout layout_of(std::span<const uint8_t> fields) {
  SessionHeader header;
  header.n_tokens = load_little_endian<int32_t>(fields, 24);
  header.kv_type = static_cast<KvType>(load_little_endian<int32_t>(fields, 28));
  header.n_layers = load_little_endian<int32_t>(fields, 32);
  header.n_kv_heads = load_little_endian<int32_t>(fields, 36);
  header.head_dim = load_little_endian<int32_t>(fields, 40);
  header.note_bytes = load_little_endian<int64_t>(fields, 48);
  return session_layout(header);
}

std::vector<uint8_t> file_of(FuzzInput input, uint8_t mode, const Sha256Digest& model) {
  std::vector<uint8_t> file(input.begin(), input.end());
  if ((mode & 8) != 0 || input.size() < kFieldBytes) return file;
  file.insert(file.begin() + kFieldBytes, kSessionHeaderBytes - kFieldBytes, 0);
  const SessionLayout layout = layout_of(file);
  const bool is_small = layout.hashes_begin >= kSessionHeaderBytes &&
                        layout.blocks_begin >= layout.hashes_begin &&
                        layout.file_bytes >= layout.blocks_begin && layout.file_bytes <= kMostBytes;
  if (is_small) {
    const auto front_bytes = static_cast<size_t>(layout.hashes_begin);
    file.resize(std::max(file.size(), front_bytes));
    file.insert(file.begin() + layout.hashes_begin,
                static_cast<size_t>(layout.blocks_begin - layout.hashes_begin), 0);
    file.resize(static_cast<size_t>(layout.file_bytes));
  }
  if ((mode & 16) == 0) store_little_endian(file, kFileBytesAt, static_cast<int64_t>(file.size()));
  if ((mode & 32) == 0) std::copy(model.begin(), model.end(), file.begin() + kModelAt);
  seal_session(file);
  return file;
}

// A refusal that blames the file, or the context that it does not fit.
bool restored(Context& context, std::span<const uint8_t> file) {
  const Status status = restore_bytes(context, 0, file);
  if (status.code() == StatusCode::kContextFull || status.code() == StatusCode::kUnsupportedValue)
    return false;
  return accepted(status);
}

}  // namespace

bool fuzz_session_state(FuzzInput input) {
  const uint8_t mode = take_byte(input);
  Context& context = context_of(static_cast<KvType>(mode % 8 % 3));
  const std::vector<uint8_t> file = file_of(input, mode, *context.model().identity);
  if (!restored(context, file)) {
    FUZZ_REQUIRE(context.cache().length(0) == 0, "a refused session left tokens");
    FUZZ_REQUIRE(context.cache().pages_used() == 0, "a refused session left pages");
    FUZZ_REQUIRE(context.note(0).empty(), "a refused session left its note");
    return false;
  }
  // A newer format that this one may read is saved as this one.
  if (load_little_endian<uint16_t>(file, 6) == kSessionFormatVersion)
    FUZZ_REQUIRE(saved_sequence(context, 0) == file, "saved again, it has other bytes");
  const int32_t token = context.cache().tokens(0).front();
  const BatchItem item{0, {&token, 1}, OutputRows::kLast};
  for (int i = 0; i < 2; ++i) {
    const int32_t length = context.cache().length(0);
    const Status status = context.decode({&item, 1}, [] { return Status(); });
    // Finite keys of any size may give logits that are not.
    if (status.code() != StatusCode::kContextFull) accepted(status);
    FUZZ_REQUIRE(context.cache().length(0) == length + (status.ok() ? 1 : 0), status.message());
  }
  FUZZ_REQUIRE(context.rewind(0, 0).ok() && context.set_note(0, {}).ok(), "clean up");
  return true;
}

}  // namespace flexq::test
