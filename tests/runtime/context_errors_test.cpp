// A decode that fails leaves every sequence as it was; what it counts and limits.
#include <doctest/doctest.h>

#include <cmath>

#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

struct SmallModel {
  SmallModel() {
    write_synthetic_checkpoint(directory.path(), {});
    model = open_test_model(quantized_copy(directory.path(), "flexq", directory.path()), "auto", 2);
  }
  TemporaryDirectory directory;
  std::shared_ptr<const LoadedModel> model;
};

ContextOptions small_options() {
  ContextOptions options;
  options.context_tokens = 64;
  options.n_sequences = 3;
  options.chunk_tokens = 8;
  options.n_outputs = 24;
  return options;
}

// What a caller sees of a context's sequences.
struct Snapshot {
  std::vector<std::vector<int32_t>> tokens;
  int32_t pages_used;
  bool operator==(const Snapshot&) const = default;
};
Snapshot snapshot(const Context& context) {
  Snapshot result;
  for (int32_t s = 0; s < context.cache().n_sequences(); ++s) {
    const auto tokens = context.cache().tokens(s);
    result.tokens.emplace_back(tokens.begin(), tokens.end());
  }
  result.pages_used = context.cache().pages_used();
  return result;
}

// `items` fails with `code`, and the context goes on as if it had never been asked.
void check_refused(Context& context, const std::vector<BatchItem>& items, StatusCode code,
                   StopCheck stop = kNeverStop) {
  const Snapshot before = snapshot(context);
  const Status status = context.decode(items, stop);
  CHECK_MESSAGE(status.code() == code, status.message());
  CHECK(context.output_count() == 0);
  CHECK(snapshot(context) == before);
}

}  // namespace

TEST_CASE("a refused batch leaves every sequence as it was") {
  const SmallModel fixture;
  const auto context = value_of(Context::create(fixture.model, small_options()));
  const std::vector<int32_t> tokens = random_tokens(64, 320, 1);
  const std::span<const int32_t> all(tokens);
  decode_rows(*context, 0, all.first(10));
  decode_rows(*context, 1, all.first(3));

  const std::vector<int32_t> negative = {5, -1};
  const std::vector<int32_t> beyond = {5, 320};
  check_refused(*context, {{0, negative}}, StatusCode::kInvalidArgument);
  check_refused(*context, {{1, all.first(2)}, {0, beyond}}, StatusCode::kInvalidArgument);
  check_refused(*context, {{-1, all.first(2)}}, StatusCode::kInvalidArgument);
  check_refused(*context, {{1, all.first(2)}, {3, all.first(2)}}, StatusCode::kInvalidArgument);
  check_refused(*context, {{1, all.first(2)}, {2, all.first(1)}, {1, all.first(2)}},
                StatusCode::kInvalidArgument);
  check_refused(*context, {}, StatusCode::kInvalidArgument);
  check_refused(*context, {{0, {}}}, StatusCode::kInvalidArgument);
  check_refused(*context,
                {{0, all.first(20), OutputRows::kAll}, {1, all.first(5), OutputRows::kAll}},
                StatusCode::kInvalidArgument);
  check_refused(*context, {{1, all.first(4)}, {0, all.first(55)}}, StatusCode::kContextFull);
  CHECK(context->rewind(0, 11).code() == StatusCode::kInvalidArgument);
  CHECK(context->rewind(0, -1).code() == StatusCode::kInvalidArgument);
  CHECK(context->rewind(3, 0).code() == StatusCode::kInvalidArgument);
  CHECK(context->fork(0, 3).code() == StatusCode::kInvalidArgument);
  CHECK(context->fork(-1, 0).code() == StatusCode::kInvalidArgument);
  std::vector<float> log_probs(9);
  CHECK(context->score(all.first(10), log_probs.data(), [](int64_t, int64_t) { return false; })
            .code() == StatusCode::kInvalidState);

  const auto fresh = value_of(Context::create(fixture.model, small_options()));
  decode_rows(*fresh, 0, all.first(10));
  CHECK(first_difference(decode_rows(*context, 0, all.subspan(10, 4)),
                         decode_rows(*fresh, 0, all.subspan(10, 4)),
                         fixture.model->llama->config()) == "");
}

TEST_CASE("a pool without a free page refuses the batch, and serves it once there is one") {
  const SmallModel fixture;
  ContextOptions options = small_options();
  options.cache_tokens = 40;  // three pages
  const auto context = value_of(Context::create(fixture.model, options));
  CHECK(context->cache().pages_total() == 3);
  const std::vector<int32_t> tokens = random_tokens(64, 320, 2);
  const std::span<const int32_t> all(tokens);
  decode_rows(*context, 0, all.first(17));
  check_refused(*context, {{1, all.first(9)}, {2, all.first(1)}}, StatusCode::kContextFull);
  CHECK(context->cache().pages_used() == 2);
  // The fork shares; the copy that its first own token needs takes the last page.
  require_ok(context->fork(0, 1));
  CHECK(context->cache().pages_used() == 2);
  decode_rows(*context, 1, all.subspan(17, 1));
  CHECK(context->cache().pages_used() == 3);
  CHECK(context->cache().pages_copied() == 1);
  check_refused(*context, {{2, all.first(1)}}, StatusCode::kContextFull);
  require_ok(context->rewind(1, 16));
  decode_rows(*context, 2, all.first(1));
}

TEST_CASE("a cancel at any stop check leaves every sequence as it was") {
  const SmallModel fixture;
  const auto context = value_of(Context::create(fixture.model, small_options()));
  const std::vector<int32_t> tokens = random_tokens(64, 320, 3);
  const std::span<const int32_t> all(tokens);
  decode_rows(*context, 0, all.first(10));
  decode_rows(*context, 1, all.first(20).subspan(5, 7));
  const std::vector<BatchItem> items = {{1, all.subspan(20, 20)}, {0, all.subspan(10, 5)}};

  const auto fresh = value_of(Context::create(fixture.model, small_options()));
  decode_rows(*fresh, 0, all.first(10));
  decode_rows(*fresh, 1, all.first(20).subspan(5, 7));
  int n_checks = 0;
  require_ok(fresh->decode(items, [&] {
    ++n_checks;
    return Status();
  }));
  // Before the batch, before both layers of each of the four chunks, before the logits.
  CHECK(n_checks == 1 + 4 * 2 + 1);
  const OutputRowsCopy expected = decode_rows(*fresh, 1, all.subspan(40, 3));

  for (int stop_at = 1; stop_at <= n_checks; ++stop_at) {
    for (const StatusCode code : {StatusCode::kCancelled, StatusCode::kDeadlineExceeded}) {
      int call = 0;
      check_refused(*context, items, code,
                    [&] { return ++call == stop_at ? Status::error(code, "stop") : Status(); });
      CHECK(call == stop_at);
    }
  }
  decode_rows(*context, items);
  CHECK(first_difference(decode_rows(*context, 1, all.subspan(40, 3)), expected,
                         fixture.model->llama->config()) == "");
}

TEST_CASE("counters count tokens, chunks and copies") {
  const SmallModel fixture;
  const auto context = value_of(Context::create(fixture.model, small_options()));
  const std::vector<int32_t> tokens = random_tokens(64, 320, 4);
  const std::span<const int32_t> all(tokens);
  CHECK(context->counters().forward_calls == 0);
  decode_rows(*context, std::vector<BatchItem>{{0, all.first(10)}, {1, all.first(7)}});
  CHECK(context->output_count() == 2);
  CHECK(context->counters().tokens_computed == 17);
  CHECK(context->counters().forward_calls == 3);  // chunks of 8, 8 and 1
  CHECK(context->cache().pages_used() == 2);
  decode_rows(*context, std::vector<BatchItem>{{0, all.first(1), OutputRows::kNone}});
  CHECK(context->output_count() == 0);
  CHECK(context->counters().tokens_computed == 18);
  CHECK(context->counters().forward_calls == 4);
  CHECK(context->counters().compute_ns > 0);
}

TEST_CASE("score gives the log-probabilities of decode's logits, for any number of output rows") {
  const SmallModel fixture;
  const std::vector<int32_t> tokens = random_tokens(50, 320, 5);
  ContextOptions options = small_options();
  options.n_outputs = 50;
  const auto context = value_of(Context::create(fixture.model, options));
  const OutputRowsCopy rows = decode_rows(*context, 0, tokens);
  std::vector<float> expected;
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    double sum = 0;
    for (size_t v = 0; v < 320; ++v)
      sum += std::exp(static_cast<double>(rows.logits[i * 320 + v]));
    const auto next = static_cast<size_t>(tokens[i + 1]);
    expected.push_back(
        static_cast<float>(static_cast<double>(rows.logits[i * 320 + next]) - std::log(sum)));
  }
  std::vector<std::vector<float>> scored;
  for (const int32_t n_outputs : {1, 3, 8, 50}) {
    options.n_outputs = n_outputs;
    const auto scorer = value_of(Context::create(fixture.model, options));
    std::vector<int64_t> progress;
    scored.emplace_back(expected.size());
    require_ok(scorer->score(tokens, scored.back().data(), [&](int64_t done, int64_t total) {
      CHECK(total == 50);
      progress.push_back(done);
      return false;
    }));
    CHECK(progress == std::vector<int64_t>{8, 16, 24, 32, 40, 48, 50});
    CHECK(scorer->cache().length(0) == 0);
    for (size_t i = 0; i < expected.size(); ++i)
      CHECK(std::fabs(scored.back()[i] - expected[i]) < 1e-5f);
    CHECK(scored.back() == scored.front());

    CHECK(
        scorer->score(tokens, scored.back().data(), [](int64_t, int64_t) { return true; }).code() ==
        StatusCode::kCancelled);
    CHECK(scorer->cache().length(0) == 0);
    CHECK(scorer->cache().pages_used() == 0);
    require_ok(
        scorer->score(std::span(tokens).first(1), nullptr, [](int64_t, int64_t) { return false; }));
  }
}

TEST_CASE("options of a context are checked against the model") {
  const SmallModel fixture;
  const auto refused = [&](ContextOptions options) {
    return Context::create(fixture.model, options).status().code();
  };
  ContextOptions options;
  options.context_tokens = 129;
  CHECK(refused(options) == StatusCode::kUnsupportedValue);
  options = {};
  options.n_sequences = 0;
  CHECK(refused(options) == StatusCode::kUnsupportedValue);
  options.n_sequences = kMaxSequences + 1;
  CHECK(refused(options) == StatusCode::kUnsupportedValue);
  options = {};
  options.chunk_tokens = -1;
  CHECK(refused(options) == StatusCode::kUnsupportedValue);
  options.chunk_tokens = kMaxChunkTokens + 1;
  CHECK(refused(options) == StatusCode::kUnsupportedValue);
  options = {};
  options.n_outputs = kMaxChunkTokens + 1;
  CHECK(refused(options) == StatusCode::kUnsupportedValue);
  const auto context = value_of(Context::create(fixture.model, {}));
  CHECK(context->plan().shape.context_tokens == 128);
  CHECK(context->plan().shape.chunk_tokens == 128);
  CHECK(context->plan().shape.n_outputs == 1);
  CHECK(context->plan().shape.kv_type == KvType::kF16);
}

TEST_CASE("a context admits one user at a time") {
  const SmallModel fixture;
  const auto context = value_of(Context::create(fixture.model, {}));
  {
    const ContextUse first(*context);
    CHECK(first.status().ok());
    const ContextUse second(*context);
    CHECK(second.status().code() == StatusCode::kInvalidState);
  }
  CHECK(ContextUse(*context).status().ok());
}

}  // namespace flexq::test
