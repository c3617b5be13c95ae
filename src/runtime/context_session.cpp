// Saving and restoring a sequence. Memory for one page and one block is needed beside what is
// neither tokens nor note; nothing of a file reaches the device before its hash and its values
// were checked.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/little_endian.h"
#include "base/memory.h"
#include "runtime/context.h"
#include "runtime/session_block.h"
#include "runtime/session_header.h"

namespace flexq {
namespace {

static_assert(kSessionBlockTokens == kPageTokens,
              "a block is read and written as one page; other pages need a loop of their own");

// One page and its block in host memory.
struct Transfer {
  HostBuffer page;
  HostBuffer block;

  static Result<Transfer> allocate(const ExecutorShape& shape) {
    Transfer transfer;
    FLEXQ_ASSIGN_OR_RETURN(transfer.page, HostBuffer::allocate(page_bytes(shape), "session page"));
    FLEXQ_ASSIGN_OR_RETURN(transfer.block,
                           HostBuffer::allocate(page_bytes(shape), "session block"));
    return transfer;
  }
};

int32_t tokens_of_block(const SessionHeader& header, int32_t block) {
  return std::min(kSessionBlockTokens, header.n_tokens - block * kSessionBlockTokens);
}

// Where a block's hash begins in the front.
int64_t hash_begin(const SessionLayout& layout, int32_t block) {
  return layout.hashes_begin + int64_t{block} * int64_t{sizeof(Sha256Digest)};
}

// Reads header, tokens, note and block hashes into `front` and checks all that needs no context.
Result<SessionHeader> read_front(ByteSource& source, HostBuffer* front) {
  std::array<uint8_t, kSessionHeaderBytes> bytes;
  const auto present =
      std::span(bytes).first(static_cast<size_t>(std::min(source.size(), kSessionHeaderBytes)));
  FLEXQ_RETURN_IF_ERROR(source.read_at(0, present));
  FLEXQ_ASSIGN_OR_RETURN(const SessionHeader header,
                         parse_session_header(present, source.size(), source.name()));
  FLEXQ_ASSIGN_OR_RETURN(
      *front, HostBuffer::allocate(session_layout(header).blocks_begin, "session tokens"));
  std::copy(bytes.begin(), bytes.end(), front->data());
  const std::span<uint8_t> rest = front->span().subspan(kSessionHeaderBytes);
  FLEXQ_RETURN_IF_ERROR(source.read_at(kSessionHeaderBytes, rest));
  if (session_hash(bytes, rest) != header.sha256)
    return Status::error(StatusCode::kCorrupt,
                         "%s: the session does not have the SHA-256 that its header states",
                         source.name().c_str());
  return header;
}

}  // namespace

// The tokens of a sequence that was empty: taken out again at the end of the scope, by an exception
// too, unless they were kept.
class Context::Restored {
 public:
  Restored(KvCache& cache, int32_t sequence) : cache_(cache), sequence_(sequence) {}
  ~Restored() {
    if (!kept_) cache_.rewind(sequence_, 0);
  }
  Restored(const Restored&) = delete;
  Restored& operator=(const Restored&) = delete;
  void keep() { kept_ = true; }

 private:
  KvCache& cache_;
  const int32_t sequence_;
  bool kept_ = false;
};

Result<SessionHeader> Context::session_header(int32_t sequence) const {
  FLEXQ_RETURN_IF_ERROR(check_sequence(sequence));
  if (!model_->identity.has_value()) {
    return Status::error(StatusCode::kUnsupportedModel,
                         "session: expected a model from a bundle, which has a hash to know it by, "
                         "found a checkpoint");
  }
  SessionHeader header;
  header.n_tokens = cache_.length(sequence);
  header.kv_type = plan_.shape.kv_type;
  header.n_layers = plan_.shape.n_layers;
  header.n_kv_heads = plan_.shape.n_kv_heads;
  header.head_dim = plan_.shape.head_dim;
  header.n_vocab = plan_.shape.n_vocab;
  header.note_bytes = static_cast<int64_t>(note(sequence).size());
  header.model = *model_->identity;
  return header;
}

Result<int64_t> Context::saved_bytes(int32_t sequence) const {
  FLEXQ_ASSIGN_OR_RETURN(const SessionHeader header, session_header(sequence));
  if (header.n_tokens > 0) return session_layout(header).file_bytes;
  return Status::error(StatusCode::kInvalidState,
                       "sequence %d: expected at least one token to save, found none", sequence);
}

Status Context::save_sequence(int32_t sequence, SessionSink write) {
  FLEXQ_RETURN_IF_ERROR(saved_bytes(sequence).status());
  FLEXQ_ASSIGN_OR_RETURN(const SessionHeader header, session_header(sequence));
  const SessionLayout layout = session_layout(header);
  FLEXQ_ASSIGN_OR_RETURN(HostBuffer front,
                         HostBuffer::allocate(layout.blocks_begin, "session tokens"));
  const SessionHeaderBytes header_bytes = encode_session_header(header);
  std::copy(header_bytes.begin(), header_bytes.end(), front.data());
  size_t at = kSessionHeaderBytes;
  for (const int32_t token : cache_.tokens(sequence)) {
    store_little_endian(front.span(), at, token);
    at += sizeof token;
  }
  std::ranges::copy(note(sequence), front.data() + layout.note_begin);

  FLEXQ_ASSIGN_OR_RETURN(Transfer transfer, Transfer::allocate(plan_.shape));
  int64_t offset = layout.blocks_begin;
  for (int32_t block = 0; offset < layout.file_bytes; ++block) {
    const int32_t n_tokens = tokens_of_block(header, block);
    const auto bytes =
        transfer.block.span().first(static_cast<size_t>(n_tokens * layout.token_bytes));
    FLEXQ_RETURN_IF_ERROR(
        executor_->read_page(cache_.page_of(sequence, block), transfer.page.span()));
    page_to_block(plan_.shape, n_tokens, transfer.page.span(), bytes);
    // What would be refused is not written either.
    FLEXQ_RETURN_IF_ERROR(check_block_values(plan_.shape, bytes, block * kSessionBlockTokens));
    std::ranges::copy(sha256(bytes), front.data() + hash_begin(layout, block));
    FLEXQ_RETURN_IF_ERROR(write(offset, bytes));
    offset += static_cast<int64_t>(bytes.size());
  }
  put_session_hash(front.span(),
                   session_hash(front.span(), front.span().subspan(kSessionHeaderBytes)));
  return write(0, front.span());
}

Status Context::restore_sequence(int32_t sequence, ByteSource& source) {
  FLEXQ_ASSIGN_OR_RETURN(const SessionHeader expected, session_header(sequence));
  if (expected.n_tokens != 0) {
    return Status::error(StatusCode::kInvalidState,
                         "sequence %d: expected an empty sequence to restore into, found %d tokens",
                         sequence, expected.n_tokens);
  }
  HostBuffer front;
  FLEXQ_ASSIGN_OR_RETURN(const SessionHeader header, read_front(source, &front));
  FLEXQ_RETURN_IF_ERROR(check_session_matches(header, expected, source.name()));
  const SessionLayout layout = session_layout(header);
  std::vector<int32_t> tokens(static_cast<size_t>(header.n_tokens));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] =
        load_little_endian<int32_t>(front.span(), kSessionHeaderBytes + i * sizeof(int32_t));
    if (tokens[i] < 0 || tokens[i] >= plan_.shape.n_vocab) {
      return Status::error(StatusCode::kCorrupt, "%s: token %zu: expected 0 to %d, found %d",
                           source.name().c_str(), i, plan_.shape.n_vocab - 1, tokens[i]);
    }
  }
  std::vector<uint8_t> restored_note(front.data() + layout.note_begin,
                                     front.data() + layout.hashes_begin);
  FLEXQ_ASSIGN_OR_RETURN(Transfer transfer, Transfer::allocate(plan_.shape));
  // What a page holds behind the last token is never read; no memory of others gets there anyway.
  std::ranges::fill(transfer.page.span(), uint8_t{0});

  const auto copies_no_page = [](int32_t, int32_t) {
    return Status();
  };  // an empty one shares none
  Restored restored(cache_, sequence);
  FLEXQ_RETURN_IF_ERROR(cache_.append(sequence, tokens, copies_no_page));
  FLEXQ_RETURN_IF_ERROR(restore_blocks(sequence, header, front.span(), source, transfer.page.span(),
                                       transfer.block.span()));
  restored.keep();
  notes_[static_cast<size_t>(sequence)] = std::move(restored_note);
  return Status();
}

Status Context::restore_blocks(int32_t sequence, const SessionHeader& header,
                               std::span<const uint8_t> front, ByteSource& source,
                               std::span<uint8_t> page, std::span<uint8_t> block_room) {
  const SessionLayout layout = session_layout(header);
  int64_t offset = layout.blocks_begin;
  for (int32_t block = 0; offset < layout.file_bytes; ++block) {
    const int32_t n_tokens = tokens_of_block(header, block);
    const auto bytes = block_room.first(static_cast<size_t>(n_tokens * layout.token_bytes));
    FLEXQ_RETURN_IF_ERROR(source.read_at(offset, bytes));
    const Sha256Digest found = sha256(bytes);
    if (!std::equal(found.begin(), found.end(), front.data() + hash_begin(layout, block))) {
      return Status::error(StatusCode::kCorrupt,
                           "%s: keys and values from token %d on do not have their SHA-256",
                           source.name().c_str(), block * kSessionBlockTokens);
    }
    Status values = check_block_values(plan_.shape, bytes, block * kSessionBlockTokens);
    if (!values.ok()) return std::move(values).with_context(source.name());
    block_to_page(plan_.shape, n_tokens, bytes, page);
    FLEXQ_RETURN_IF_ERROR(executor_->write_page(cache_.page_of(sequence, block), page));
    offset += static_cast<int64_t>(bytes.size());
  }
  return Status();
}

Status Context::set_note(int32_t sequence, std::span<const uint8_t> bytes) {
  FLEXQ_RETURN_IF_ERROR(check_sequence(sequence));
  if (static_cast<int64_t>(bytes.size()) > kMaxSessionNoteBytes) {
    return Status::error(StatusCode::kLimitExceeded,
                         "note of sequence %d: expected at most %lld bytes, found %zu", sequence,
                         static_cast<long long>(kMaxSessionNoteBytes), bytes.size());
  }
  std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  notes_[static_cast<size_t>(sequence)] = std::move(copy);
  return Status();
}

}  // namespace flexq
