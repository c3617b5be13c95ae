// No damaged byte of a saved sequence gets through, none does harm, and the sequence that was to be
// restored is empty afterwards.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <limits>

#include "base/little_endian.h"
#include "checkpoint/expect_error.h"
#include "runtime/runtime_fixtures.h"
#include "runtime/session_header.h"
#include "runtime/small_session.h"

namespace flexq::test {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr int32_t kTokens = 19;  // a block and a bit
constexpr size_t kFileBytesAt = 16;
constexpr KvType kKvTypes[] = {KvType::kF16, KvType::kF32, KvType::kI8};
const std::string kNote = "seven b";

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Bytes small_session(KvType kv_type, int32_t n_tokens = kTokens) {
  const auto context = session_context(small_session_model(), kv_type);
  fill_sequence(*context, 0, n_tokens);
  require_ok(context->set_note(0, bytes_of(kNote)));
  return saved_sequence(*context, 0);
}

// Restores into an empty sequence of a context that is used again and again.
class Target {
 public:
  explicit Target(KvType kv_type) : context_(session_context(small_session_model(), kv_type)) {}
  Status restore(std::span<const uint8_t> bytes) {
    Status status = restore_bytes(*context_, 0, bytes);
    if (status.ok()) return status;
    if (context_->cache().length(0) != 0 || context_->cache().pages_used() != 0 ||
        !context_->note(0).empty())
      return Status::error(StatusCode::kInternal, "half restored: %s", status.message().c_str());
    return status;
  }

 private:
  std::shared_ptr<Context> context_;
};

bool is_clean_refusal(const Status& status) {
  return status.code() == StatusCode::kCorrupt ||
         status.code() == StatusCode::kUnsupportedVersion ||
         status.code() == StatusCode::kLimitExceeded;
}

// What a file says at `at` is changed, and all hashes made right. Not inlined: where g++ 12 knows
// `at`, it warns falsely about a copy of an empty vector.
template <typename T>
[[gnu::noinline]] Bytes changed(const Bytes& session, size_t at, T value) {
  Bytes bytes = session;
  store_little_endian(std::span(bytes), at, value);
  seal_session(bytes);
  return bytes;
}

size_t blocks_begin(const Bytes& session) {
  const auto header = value_of(parse_session_header(std::span(session).first(kSessionHeaderBytes),
                                                    std::ssize(session), "session"));
  return static_cast<size_t>(session_layout(header).blocks_begin);
}

// Fields of a header, and the file that they ask for.
Status parse_with(const std::function<void(SessionHeader&)>& change) {
  SessionHeader header;
  header.n_tokens = header.n_layers = header.n_kv_heads = header.n_vocab = 1;
  header.head_dim = 2;
  change(header);
  return parse_session_header(encode_session_header(header), session_layout(header).file_bytes,
                              "session")
      .status();
}

// Both sides of both ends of a field's range.
void check_range(const std::string& name, int64_t low, int64_t high,
                 const std::function<void(SessionHeader&, int64_t)>& set) {
  const auto parse = [&](int64_t value) {
    return parse_with([&](SessionHeader& header) { set(header, value); });
  };
  INFO(name);
  require_ok(parse(low));
  require_ok(parse(high));
  expect_error(parse(low - 1), StatusCode::kCorrupt, {"session: header says " + name});
  expect_error(parse(high + 1), StatusCode::kLimitExceeded, {"session: header says " + name});
}

// The bytes of a session, of which the n-th read fails although it gives what is there.
class FailingSource : public ByteSource {
 public:
  FailingSource(std::span<const uint8_t> bytes, int failing_read)
      : bytes_(bytes), reads_left_(failing_read) {}
  const std::string& name() const override { return name_; }
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  Status read_at(int64_t offset, std::span<uint8_t> out) override {
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
    if (reads_left_-- == 0) return Status::error(StatusCode::kIo, "the disk is gone");
    return {};
  }

 private:
  std::span<const uint8_t> bytes_;
  int reads_left_;
  std::string name_ = "failing";
};

}  // namespace

TEST_CASE("the sessions that are damaged below can be restored") {
  for (const KvType kv_type : kKvTypes)
    require_ok(Target(kv_type).restore(small_session(kv_type)));
}

TEST_CASE("T1_session_truncations: every truncation of a session is refused") {
  for (const KvType kv_type : kKvTypes) {
    const Bytes session = small_session(kv_type);
    Target target(kv_type);
    for (size_t n_bytes = 0; n_bytes < session.size(); ++n_bytes) {
      CAPTURE(n_bytes);
      // An exact copy, so that a sanitizer sees one byte too many.
      const Bytes cut(session.begin(), session.begin() + static_cast<std::ptrdiff_t>(n_bytes));
      REQUIRE(is_clean_refusal(target.restore(cut)));
      if (n_bytes < kSessionHeaderBytes) continue;
      // The header agrees with the size, and the hashes with the header.
      REQUIRE(is_clean_refusal(
          target.restore(changed(cut, kFileBytesAt, static_cast<int64_t>(n_bytes)))));
    }
    Bytes longer = session;
    longer.push_back(0);
    CHECK(is_clean_refusal(target.restore(longer)));
    CHECK(is_clean_refusal(target.restore(changed(longer, kFileBytesAt, std::ssize(longer)))));
  }
}

TEST_CASE("T2_session_bit_flips: every single-bit flip of a session is refused") {
  for (const KvType kv_type : kKvTypes) {
    Bytes session = small_session(kv_type);
    Target target(kv_type);
    for (size_t bit = 0; bit < 8 * session.size(); ++bit) {
      CAPTURE(bit);
      const auto mask = static_cast<uint8_t>(1u << (bit % 8));
      session[bit / 8] ^= mask;
      REQUIRE(is_clean_refusal(target.restore(session)));
      session[bit / 8] ^= mask;
    }
  }
}

TEST_CASE("T3_session_limits: both sides of every boundary of the header") {
  check_range("n_tokens", 1, kMaxContext,
              [](auto& h, int64_t v) { h.n_tokens = static_cast<int32_t>(v); });
  check_range("kv_type", 0, 2, [](auto& h, int64_t v) { h.kv_type = static_cast<KvType>(v); });
  check_range("n_layers", 1, kMaxLayers,
              [](auto& h, int64_t v) { h.n_layers = static_cast<int32_t>(v); });
  check_range("n_kv_heads", 1, kMaxHeads,
              [](auto& h, int64_t v) { h.n_kv_heads = static_cast<int32_t>(v); });
  check_range("head_dim", 2, kMaxHeadDim,
              [](auto& h, int64_t v) { h.head_dim = static_cast<int32_t>(v); });
  check_range("n_vocab", 1, kMaxVocab,
              [](auto& h, int64_t v) { h.n_vocab = static_cast<int32_t>(v); });
  check_range("note bytes", 0, kMaxSessionNoteBytes, [](auto& h, int64_t v) { h.note_bytes = v; });
  require_ok(parse_with([](SessionHeader& h) {
    h.n_tokens = kMaxContext;
    h.kv_type = KvType::kF32;
    h.n_layers = kMaxLayers;
    h.n_kv_heads = kMaxHeads;
    h.head_dim = kMaxHeadDim;
    h.note_bytes = kMaxSessionNoteBytes;
  }));
}

TEST_CASE("T3_session_limits: versions") {
  const auto parse = [](int format, int min_reader) {
    return parse_with([=](SessionHeader& h) {
      h.format_version = static_cast<uint16_t>(format);
      h.min_reader_version = static_cast<uint16_t>(min_reader);
    });
  };
  require_ok(parse(1, 1));
  require_ok(parse(2, 1));
  expect_error(parse(2, 2), StatusCode::kUnsupportedVersion, {"needs a reader of format 2"});
  expect_error(parse(1, 2), StatusCode::kUnsupportedVersion, {"needs a reader of format 2"});
  expect_error(parse(1, 0), StatusCode::kCorrupt, {"format version 1", "minimum reader version 0"});
  expect_error(parse(0, 1), StatusCode::kCorrupt, {"format version 0"});
}

TEST_CASE("every field of the header is checked where all hashes are right") {
  const Bytes session = small_session(KvType::kF16);
  Target target(KvType::kF16);
  const auto expect_refused = [&](size_t at, auto value, StatusCode code, const char* part) {
    expect_error(target.restore(changed(session, at, value)), code, {"memory: ", part});
  };
  expect_refused(0, uint8_t{'f'}, StatusCode::kCorrupt, "not a FlexQ session");
  expect_refused(5, uint8_t{0}, StatusCode::kCorrupt, "not a FlexQ session");
  expect_refused(10, uint16_t{1}, StatusCode::kCorrupt, "flags 1");
  expect_refused(12, uint32_t{255}, StatusCode::kCorrupt, "header size 255");
  expect_refused(16, std::ssize(session) + 1, StatusCode::kCorrupt, "file size");
  expect_refused(56, int32_t{32}, StatusCode::kCorrupt, "tokens per block 32");
  expect_refused(60, uint8_t{1}, StatusCode::kCorrupt, "reserved");
  expect_refused(63, uint8_t{1}, StatusCode::kCorrupt, "reserved");
  expect_refused(128, uint8_t{1}, StatusCode::kCorrupt, "reserved");
  expect_refused(255, uint8_t{1}, StatusCode::kCorrupt, "reserved");
  expect_refused(24, int32_t{kTokens + 1}, StatusCode::kCorrupt, "file size");
  expect_refused(64, uint8_t{0}, StatusCode::kUnsupportedModel, "of another");
  expect_refused(95, static_cast<uint8_t>(session[95] ^ 1), StatusCode::kUnsupportedModel,
                 "expected a session of the loaded model");
  expect_refused(44, int32_t{25}, StatusCode::kCorrupt, "n_vocab 25, expected 24");
  expect_refused(kSessionHeaderBytes, int32_t{24}, StatusCode::kCorrupt,
                 "token 0: expected 0 to 23, found 24");
  expect_refused(kSessionHeaderBytes + 4 * (kTokens - 1), int32_t{-1}, StatusCode::kCorrupt,
                 "token 18: expected 0 to 23, found -1");
  require_ok(target.restore(changed(session, kSessionHeaderBytes, int32_t{23})));
}

TEST_CASE("the dimensions of a session are those of the model") {
  SessionHeader expected;
  expected.n_layers = expected.n_kv_heads = expected.head_dim = expected.n_vocab = 4;
  const auto check = [&](const std::function<void(SessionHeader&)>& change) {
    SessionHeader found = expected;
    change(found);
    return check_session_matches(found, expected, "session");
  };
  require_ok(check([](auto&) {}));
  expect_error(check([](auto& h) { h.n_layers = 5; }), StatusCode::kCorrupt, {"n_layers 5"});
  expect_error(check([](auto& h) { h.n_kv_heads = 5; }), StatusCode::kCorrupt, {"n_kv_heads 5"});
  expect_error(check([](auto& h) { h.head_dim = 5; }), StatusCode::kCorrupt, {"head_dim 5"});
  expect_error(check([](auto& h) { h.n_vocab = 5; }), StatusCode::kCorrupt, {"n_vocab 5"});
  expect_error(check([](auto& h) { h.kv_type = KvType::kI8; }), StatusCode::kUnsupportedValue,
               {"kv_type f16, found i8"});
  expect_error(check([](auto& h) { h.kv_type = KvType::kF32; }), StatusCode::kUnsupportedValue,
               {"found f32"});
}

TEST_CASE("numbers that no cache holds are refused wherever they are") {
  struct Bad {
    KvType kv_type;
    uint32_t bits;
    StatusCode code;
  };
  const Bad elements[] = {{KvType::kF16, 0x7c00, StatusCode::kNonFinite},
                          {KvType::kF16, 0xfc00, StatusCode::kNonFinite},
                          {KvType::kF16, 0x7e01, StatusCode::kNonFinite},
                          {KvType::kF16, 0x7bff, StatusCode::kOk},
                          {KvType::kF16, 0xfbff, StatusCode::kOk},
                          {KvType::kF32, 0x7f800000, StatusCode::kNonFinite},
                          {KvType::kF32, 0xff800001, StatusCode::kNonFinite},
                          {KvType::kF32, 0x7f7fffff, StatusCode::kOk},
                          {KvType::kF32, 0xff7fffff, StatusCode::kOk},
                          {KvType::kI8, 0x80, StatusCode::kCorrupt},
                          {KvType::kI8, 0x81, StatusCode::kOk},
                          {KvType::kI8, 0x7f, StatusCode::kOk}};
  constexpr int64_t kElements = 16;  // of a token
  for (const Bad& bad : elements) {
    const Bytes session = small_session(bad.kv_type);
    const size_t first = blocks_begin(session);
    const size_t n_bytes = static_cast<size_t>(kv_element_bytes(bad.kv_type));
    const size_t token_bytes = (session.size() - first) / kTokens;
    for (const int32_t token : {0, 15, 16, kTokens - 1}) {
      for (const int64_t element : {int64_t{0}, kElements - 1}) {
        CAPTURE(token);
        CAPTURE(element);
        Bytes bytes = session;
        const size_t at = first + static_cast<size_t>(token) * token_bytes +
                          static_cast<size_t>(element) * n_bytes;
        std::memcpy(bytes.data() + at, &bad.bits, n_bytes);
        seal_session(bytes);
        const Status status = Target(bad.kv_type).restore(bytes);
        CHECK(static_cast<int>(status.code()) == static_cast<int>(bad.code));
        if (bad.code != StatusCode::kOk)
          expect_error(status, bad.code, {"memory: ", "token " + std::to_string(token) + ":"});
      }
    }
  }
}

TEST_CASE("scales of int8 keys and values are those of quantized rows") {
  const Bytes session = small_session(KvType::kI8);
  const size_t first = blocks_begin(session);
  const size_t token_bytes = (session.size() - first) / kTokens;
  constexpr size_t kScales = 4;
  const auto restore = [&](int32_t token, size_t row, uint16_t bits) {
    const size_t at = first + static_cast<size_t>(token + 1) * token_bytes - 2 * (kScales - row);
    return Target(KvType::kI8).restore(changed(session, at, bits));
  };
  for (const int32_t token : {0, 15, 16, kTokens - 1}) {
    for (const size_t row : {size_t{0}, kScales - 1}) {
      const std::string where = "token " + std::to_string(token);
      expect_error(restore(token, row, 0x7e00), StatusCode::kNonFinite, {where, "nan"});
      expect_error(restore(token, row, 0x7c00), StatusCode::kNonFinite, {where, "inf"});
      expect_error(restore(token, row, 0xbc00), StatusCode::kCorrupt, {where, "found -1"});
      expect_error(restore(token, row, 0), StatusCode::kCorrupt, {where, "found 0"});
      // 1e-5 is 168 units of 2^-24.
      expect_error(restore(token, row, 167), StatusCode::kCorrupt, {where, "expected 1e-5"});
      require_ok(restore(token, row, 168));
      require_ok(restore(token, row, 0x7bff));
    }
  }
}

TEST_CASE("a read that fails ends the restore") {
  const Bytes session = small_session(KvType::kF16);
  const auto context = session_context(small_session_model(), KvType::kF16);
  int n_reads = 0;
  for (bool failed = true; failed; ++n_reads) {
    FailingSource source(session, n_reads);
    const Status status = context->restore_sequence(0, source);
    failed = !status.ok();
    if (failed) {
      expect_error(status, StatusCode::kIo, {"the disk is gone"});
      CHECK(context->cache().length(0) == 0);
    }
  }
  CHECK(n_reads == 5);  // header, front, two blocks, and a restore without a fault
}

}  // namespace flexq::test
