// Scores of many continuations at once: the bits of each alone, what they share computed once.
#include "eval/continuation_scores.h"

#include <doctest/doctest.h>

#include <numeric>

#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr int32_t kVocab = 320;
constexpr auto kGoOn = [](int64_t, int64_t) { return false; };
constexpr auto kNextPass = [](size_t) { return false; };

std::vector<int32_t> joined(std::span<const int32_t> a, std::span<const int32_t> b) {
  std::vector<int32_t> tokens(a.begin(), a.end());
  tokens.insert(tokens.end(), b.begin(), b.end());
  return tokens;
}

// A question: continuations of the given lengths behind one context.
void add_question(std::vector<Continuation>& list, int32_t n_context,
                  std::initializer_list<int32_t> n_scored, uint64_t seed) {
  const std::vector<int32_t> context = random_tokens(n_context, kVocab, seed);
  for (const int32_t n : n_scored)
    list.push_back({joined(context, random_tokens(n, kVocab, ++seed * 977)), n});
}

// Contexts shorter and longer than a page, at its border, a lonely text, one of two tokens, and
// contexts that share all but their end.
std::vector<Continuation> some_list() {
  std::vector<Continuation> list;
  add_question(list, 7, {3, 1, 5, 2}, 1);
  add_question(list, 16, {4, 9}, 2);
  add_question(list, 17, {1, 1}, 3);
  add_question(list, 60, {20, 8, 16, 1, 2}, 4);
  add_question(list, 1, {1}, 5);
  add_question(list, 90, {30}, 6);
  const std::vector<int32_t> beginning = random_tokens(40, kVocab, 7);
  for (const uint64_t seed : {8u, 9u})
    list.push_back({joined(beginning, random_tokens(12, kVocab, seed)), 5});
  return list;
}

ContextOptions options_with(int32_t n_sequences, int32_t chunk_tokens, int32_t n_outputs,
                            int32_t cache_tokens = 0) {
  ContextOptions options;
  options.n_sequences = n_sequences;
  options.chunk_tokens = chunk_tokens;
  options.n_outputs = n_outputs;
  options.cache_tokens = cache_tokens;
  return options;
}

std::vector<double> scores_on(Context& context, std::span<const Continuation> list) {
  std::vector<double> scores(list.size());
  require_ok(score_continuations(context, list, scores.data(), kGoOn, kNextPass));
  CHECK(context.cache().pages_used() == 0);
  return scores;
}

struct SmallModel {
  TemporaryDirectory directory;
  std::shared_ptr<const LoadedModel> model;
  SmallModel() {
    write_synthetic_checkpoint(directory.path(), {});
    model = open_test_model(quantized_copy(directory.path(), "flexq", directory.path()), "auto", 2);
  }
};

}  // namespace

TEST_CASE("scores of continuations are those of each text alone, to the bit") {
  const SmallModel fixture;
  const std::vector<Continuation> list = some_list();
  std::vector<double> expected;
  const auto alone = value_of(Context::create(fixture.model, options_with(1, 32, 8)));
  for (const Continuation& text : list) {
    std::vector<float> log_probs(text.tokens.size() - 1);
    require_ok(alone->score(text.tokens, log_probs.data(), kGoOn));
    expected.push_back(std::accumulate(log_probs.end() - text.n_scored, log_probs.end(), 0.0));
  }
  for (const ContextOptions& options :
       {options_with(1, 32, 8), options_with(2, 5, 1), options_with(3, 256, 7),
        options_with(8, 16, 3), options_with(64, 256, 64), options_with(64, 1, 64),
        options_with(8, 64, 8, 128), options_with(64, 64, 8, 160)}) {
    CAPTURE(options.n_sequences);
    CAPTURE(options.chunk_tokens);
    CAPTURE(options.cache_tokens);
    const auto context = value_of(Context::create(fixture.model, options));
    CHECK(scores_on(*context, list) == expected);
    CHECK(scores_on(*context, list) == expected);
  }
}

TEST_CASE("what continuations share is computed once, and the last token never") {
  const SmallModel fixture;
  std::vector<Continuation> list;
  add_question(list, 50, {4, 4, 4, 4}, 1);
  const auto context = value_of(Context::create(fixture.model, options_with(4, 64, 4)));
  int64_t last_done = 0;
  int64_t last_total = 0;
  std::vector<size_t> passes;
  std::vector<double> scores(list.size());
  require_ok(score_continuations(
      *context, list, scores.data(),
      [&](int64_t done, int64_t total) {
        CHECK(done > last_done);
        last_done = done;
        last_total = total;
        return false;
      },
      [&](size_t n_scored) {
        passes.push_back(n_scored);
        return false;
      }));
  // The context's last token is computed with every continuation, whose first it predicts.
  const int64_t expected = 49 + 4 * (1 + 4 - 1);
  CHECK(context->counters().tokens_computed == expected);
  CHECK(last_done == expected);
  CHECK(last_total == expected);
  CHECK(passes == std::vector<size_t>{4});
  CHECK(context->cache().pages_copied() == 3);  // of the page with tokens 48 and 49
}

TEST_CASE("groups of continuations fit the sequences and the pages") {
  std::vector<Continuation> list;
  add_question(list, 50, {4, 4, 4, 4}, 1);
  add_question(list, 50, {4, 4}, 2);
  const auto groups_of = [&](int32_t n_sequences, int32_t n_pages) {
    std::vector<std::vector<int32_t>> found;
    for (const ContinuationGroup& group : group_continuations(list, n_sequences, n_pages)) {
      found.push_back({static_cast<int32_t>(group.first), static_cast<int32_t>(group.count),
                       group.n_shared, group.n_pages});
    }
    return found;
  };
  using Groups = std::vector<std::vector<int32_t>>;
  // 53 tokens are 4 pages, of which the first 3 are shared.
  CHECK(groups_of(64, 1000) == Groups{{0, 4, 49, 7}, {4, 2, 49, 5}});
  CHECK(groups_of(3, 1000) == Groups{{0, 3, 49, 6}, {3, 1, 0, 4}, {4, 2, 49, 5}});
  CHECK(groups_of(64, 5) == Groups{{0, 2, 49, 5}, {2, 2, 49, 5}, {4, 2, 49, 5}});
  CHECK(groups_of(1, 4) ==
        Groups{{0, 1, 0, 4}, {1, 1, 0, 4}, {2, 1, 0, 4}, {3, 1, 0, 4}, {4, 1, 0, 4}, {5, 1, 0, 4}});
  // Half of the first one's context is enough, less is not.
  const std::vector<int32_t> tokens = random_tokens(60, kVocab, 3);
  for (const int32_t n_common : {24, 25}) {
    std::vector<int32_t> other = tokens;
    for (size_t i = static_cast<size_t>(n_common); i < other.size(); ++i)
      other[i] = (other[i] + 1) % kVocab;
    list = {{tokens, 10}, {other, 10}};  // 49 tokens that nothing is scored behind
    CHECK(group_continuations(list, 64, 1000).size() == (n_common == 24 ? 2 : 1));
  }
}

TEST_CASE("continuations that cannot be scored, and cancels, leave the sequences empty") {
  const SmallModel fixture;
  const auto context = value_of(Context::create(fixture.model, options_with(4, 8, 4)));
  std::vector<Continuation> list = some_list();
  std::vector<double> scores(list.size());
  const auto code = [&] {
    const Status status = score_continuations(*context, list, scores.data(), kGoOn, kNextPass);
    CHECK(context->cache().pages_used() == (context->cache().length(1) > 0 ? 1 : 0));
    return status.code();
  };
  list[2].n_scored = 0;
  CHECK(code() == StatusCode::kInvalidArgument);
  list[2].n_scored = static_cast<int32_t>(list[2].tokens.size());
  CHECK(code() == StatusCode::kInvalidArgument);
  list = some_list();
  list[2].tokens = random_tokens(130, kVocab, 1);
  CHECK(code() == StatusCode::kContextFull);
  list[2].tokens.pop_back();
  CHECK(code() == StatusCode::kOk);
  list[5].tokens.back() = kVocab;  // only ever a target
  CHECK(code() == StatusCode::kInvalidArgument);
  list[5].tokens.back() = -1;
  CHECK(code() == StatusCode::kInvalidArgument);
  list = some_list();
  decode_rows(*context, 1, std::span(list[0].tokens).first(3));
  CHECK(code() == StatusCode::kInvalidState);
  CHECK(context->cache().length(1) == 3);
  require_ok(context->rewind(1, 0));
  for (const int64_t stop_at : {1, 8, 60, 200}) {
    CHECK(score_continuations(
              *context, list, scores.data(), [&](int64_t done, int64_t) { return done >= stop_at; },
              kNextPass)
              .code() == StatusCode::kCancelled);
    CHECK(context->cache().pages_used() == 0);
  }
  CHECK(score_continuations(*context, list, scores.data(), kGoOn, [](size_t) {
          return true;
        }).code() == StatusCode::kCancelled);
  CHECK(context->cache().pages_used() == 0);
  list.clear();
  CHECK(code() == StatusCode::kOk);

  // A cache that one text does not fit.
  const auto narrow = value_of(Context::create(fixture.model, options_with(4, 8, 4, 64)));
  list = some_list();
  CHECK(score_continuations(*narrow, list, scores.data(), kGoOn, kNextPass).code() ==
        StatusCode::kContextFull);
  CHECK(narrow->cache().pages_used() == 0);
}

}  // namespace flexq::test
