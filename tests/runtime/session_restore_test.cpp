// What is saved and restored: the same cache, into contexts of other sizes, refused by name where
// it does not fit.
#include <doctest/doctest.h>

#include <algorithm>

#include "checkpoint/expect_error.h"
#include "model/synthetic_source.h"
#include "runtime/runtime_fixtures.h"
#include "runtime/small_session.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr KvType kKvTypes[] = {KvType::kF16, KvType::kF32, KvType::kI8};

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string note_of(const Context& context, int32_t sequence) {
  const auto note = context.note(sequence);
  return {note.begin(), note.end()};
}

// A model whose values are infinite in fp16: its norms are a thousand times what they should be.
class WildSource : public SyntheticSource {
 public:
  explicit WildSource(const ModelConfig& config)
      : SyntheticSource(config, unquantized_tensors(config), 1) {}
  Status read_piece(int64_t tensor, int64_t piece, PieceBuffer& buffer, WeightPiece* out) override {
    FLEXQ_RETURN_IF_ERROR(SyntheticSource::read_piece(tensor, piece, buffer, out));
    if (tensors()[static_cast<size_t>(tensor)].spec.role != TensorRole::kNorm) return Status();
    auto* values = reinterpret_cast<float*>(buffer.decoded.data());
    std::fill_n(values, out->n_rows * tensors()[static_cast<size_t>(tensor)].spec.cols, 1e6f);
    return Status();
  }
};

std::shared_ptr<const LoadedModel> wild_session_model() {
  ModelSource source;
  source.weights = std::make_shared<WildSource>(small_session_config());
  source.policy = "fp16";
  LoadOptions options;
  options.device = "cpu";
  return value_of(load_model(source, options, [](int64_t, int64_t) { return false; }));
}

// Logits of three more tokens.
OutputRowsCopy continue_sequence(Context& context, int32_t sequence) {
  OutputRowsCopy rows;
  for (const int32_t token : {5, 11, 2}) {
    const BatchItem item{sequence, {&token, 1}, OutputRows::kLast};
    rows.append(decode_rows(context, {&item, 1}));
  }
  return rows;
}

}  // namespace

TEST_CASE("a restored sequence goes on with the same bits as the one that was saved") {
  const auto model = small_session_model();
  const ModelConfig config = small_session_config();
  for (const KvType kv_type : kKvTypes) {
    for (const int32_t n_tokens : {1, 15, 16, 17, 32, 40}) {
      CAPTURE(n_tokens);
      const auto saved = session_context(model, kv_type);
      fill_sequence(*saved, 0, n_tokens);
      require_ok(saved->set_note(0, bytes_of("a note\0 of this sequence")));
      const auto bytes = saved_sequence(*saved, 0);
      CHECK(saved_sequence(*saved, 0) == bytes);

      // Another model object of the same weights, another length, another sequence, other pages.
      const auto context = session_context(small_session_model(), kv_type, 64, 3);
      fill_sequence(*context, 1, 20);
      require_ok(restore_bytes(*context, 2, bytes));
      CHECK(std::ranges::equal(context->cache().tokens(2), saved->cache().tokens(0)));
      CHECK(note_of(*context, 2) == note_of(*saved, 0));
      CHECK(saved_sequence(*context, 2) == bytes);
      const OutputRowsCopy expected = continue_sequence(*saved, 0);
      CHECK(first_difference(continue_sequence(*context, 2), expected, config) == "");
      CHECK(context->cache().length(1) == 20);
    }
  }
}

TEST_CASE("a session does not depend on how the cache came to hold its tokens") {
  const auto model = small_session_model();
  for (const KvType kv_type : kKvTypes) {
    const auto straight = session_context(model, kv_type);
    fill_sequence(*straight, 0, 21);
    const auto bytes = saved_sequence(*straight, 0);
    // Longer before, and rewound; forked; both in pages that held something else.
    const auto other = session_context(model, kv_type, 48, 3);
    fill_sequence(*other, 2, 40);
    require_ok(other->rewind(2, 0));
    fill_sequence(*other, 0, 37);
    require_ok(other->rewind(0, 21));
    CHECK(saved_sequence(*other, 0) == bytes);
    require_ok(other->fork(0, 1));
    CHECK(saved_sequence(*other, 1) == bytes);
    // A restored sequence may be forked and rewound like any other.
    require_ok(restore_bytes(*other, 2, bytes));
    require_ok(other->fork(2, 1));
    const OutputRowsCopy expected = continue_sequence(*straight, 0);
    CHECK(first_difference(continue_sequence(*other, 1), expected, small_session_config()) == "");
    CHECK(saved_sequence(*other, 2) == bytes);
  }
}

TEST_CASE("a session that does not fit leaves the sequence as it was") {
  const auto model = small_session_model();
  const auto saved = session_context(model, KvType::kF16);
  fill_sequence(*saved, 0, 33);
  const auto bytes = saved_sequence(*saved, 0);

  const auto shorter = session_context(model, KvType::kF16, 32);
  require_ok(shorter->set_note(0, bytes_of("old")));
  expect_error(restore_bytes(*shorter, 0, bytes), StatusCode::kContextFull,
               {"expected at most 32 tokens", "found 33"});
  CHECK(note_of(*shorter, 0) == "old");
  const auto exact = session_context(model, KvType::kF16, 33);
  require_ok(restore_bytes(*exact, 0, bytes));

  const auto full = session_context(model, KvType::kF16, 48, 2, 64);
  fill_sequence(*full, 0, 17);
  expect_error(restore_bytes(*full, 1, bytes), StatusCode::kContextFull, {"more pages", "2 free"});
  CHECK(full->cache().length(1) == 0);
  CHECK(full->cache().pages_used() == 2);

  const auto int8 = session_context(model, KvType::kI8);
  expect_error(restore_bytes(*int8, 0, bytes), StatusCode::kUnsupportedValue,
               {"memory: ", "kv_type i8, found f16"});
  const auto other = session_context(small_session_model(2), KvType::kF16);
  expect_error(restore_bytes(*other, 0, bytes), StatusCode::kUnsupportedModel,
               {"memory: ", "another"});

  expect_error(restore_bytes(*saved, 0, bytes), StatusCode::kInvalidState,
               {"sequence 0: expected an empty sequence", "33 tokens"});
  CHECK(saved->cache().length(0) == 33);
  expect_error(restore_bytes(*saved, 1, bytes), StatusCode::kInvalidArgument, {"sequence"});
  const auto empty = session_context(model, KvType::kF16);
  expect_error(empty->save_sequence(0, [](int64_t, std::span<const uint8_t>) { return Status(); }),
               StatusCode::kInvalidState, {"at least one token"});
  expect_error(saved->saved_bytes(-1).status(), StatusCode::kInvalidArgument, {"sequence"});
  expect_error(session_context(model, KvType::kF16)->saved_bytes(0).status(),
               StatusCode::kInvalidState, {"at least one token"});
}

TEST_CASE("the header, with the hash of all else, is written last, and a failing sink ends it") {
  const auto context = session_context(small_session_model(), KvType::kF16);
  fill_sequence(*context, 0, 20);
  for (int n_writes = 0; n_writes < 4; ++n_writes) {
    int n_left = n_writes;
    int64_t last_offset = -1;
    const Status status =
        context->save_sequence(0, [&](int64_t offset, std::span<const uint8_t>) -> Status {
          last_offset = offset;
          if (n_left-- > 0) return Status();
          return Status::error(StatusCode::kNoSpace, "no room");
        });
    CHECK(status.ok() == (n_writes == 3));  // two blocks and the front
    CHECK((last_offset == 0) == (n_writes >= 2));
    if (!status.ok()) expect_error(status, StatusCode::kNoSpace, {"no room"});
  }
}

TEST_CASE("keys and values that a restore would refuse are not saved") {
  // Norms that are the largest floats: what they give leaves the range of halves.
  const auto context = session_context(wild_session_model(), KvType::kF16);
  const int32_t token = 3;
  const BatchItem item{0, {&token, 1}, OutputRows::kNone};
  require_ok(context->decode({&item, 1}, kNeverStop));
  expect_error(
      context->save_sequence(0, [](int64_t, std::span<const uint8_t>) { return Status(); }),
      StatusCode::kNonFinite, {"token 0", "NaN or infinity"});
}

TEST_CASE("a checkpoint has nothing to know it by") {
  const TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), SyntheticOptions());
  const auto context =
      value_of(Context::create(open_test_model(directory.path()), ContextOptions()));
  fill_sequence(*context, 0, 3);
  expect_error(context->saved_bytes(0).status(), StatusCode::kUnsupportedModel, {"checkpoint"});
  expect_error(restore_bytes(*context, 0, {}), StatusCode::kUnsupportedModel, {"checkpoint"});
}

TEST_CASE("a note has a limit, and is kept until it is replaced") {
  const auto context = session_context(small_session_model(), KvType::kF16, 48, 2);
  CHECK(note_of(*context, 0).empty());
  require_ok(context->set_note(1, bytes_of("one")));
  fill_sequence(*context, 1, 3);
  require_ok(context->rewind(1, 0));
  require_ok(context->fork(0, 1));
  CHECK(note_of(*context, 1) == "one");
  CHECK(note_of(*context, 0).empty());
  std::vector<uint8_t> most(kMaxSessionNoteBytes + 1);
  expect_error(context->set_note(1, most), StatusCode::kLimitExceeded, {"67108864", "67108865"});
  CHECK(note_of(*context, 1) == "one");
  most.pop_back();
  require_ok(context->set_note(1, most));
  fill_sequence(*context, 1, 1);
  const auto bytes = saved_sequence(*context, 1);
  require_ok(restore_bytes(*context, 0, bytes));
  CHECK(std::ranges::equal(context->note(0), most));
  expect_error(context->set_note(2, {}), StatusCode::kInvalidArgument, {"sequence"});
}

}  // namespace flexq::test
