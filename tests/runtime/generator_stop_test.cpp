// Everything that ends an answer: length, end tokens, stop strings, deadlines, cancels, a full
// cache.
#include <doctest/doctest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/generator.h"
#include "runtime/runtime_fixtures.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr char kPrompt[] = "The history of the city";

std::shared_ptr<Context> context_on(const std::shared_ptr<const LoadedModel>& model,
                                    ContextOptions options = {}) {
  if (options.context_tokens == 0) options.context_tokens = 128;
  return value_of(Context::create(model, options));
}

std::shared_ptr<const LoadedModel> tiny_model() {
  static const auto model = open_test_model(source_path("tests/data/wiki-tiny-1m"), "auto", 2);
  return model;
}

std::unique_ptr<Generator> started(const std::shared_ptr<Context>& context,
                                   const GeneratorOptions& options) {
  auto generator = value_of(Generator::create(context, options));
  require_ok(generator->start_text(kPrompt, {}));
  return generator;
}

FinishReason run(Generator& generator) {
  FinishReason reason = FinishReason::kNone;
  while (reason == FinishReason::kNone)
    reason = value_of(generator.next()).finish_reason;
  return reason;
}

// The greedy answer of 40 tokens without any stop.
const Generator& plain_answer() {
  static const std::unique_ptr<Generator> generator = [] {
    GeneratorOptions options;
    options.max_tokens = 40;
    auto made = started(context_on(tiny_model()), options);
    REQUIRE(run(*made) == FinishReason::kLength);
    REQUIRE(made->tokens().size() == 40);
    return made;
  }();
  return *generator;
}

// A copy of wiki-tiny-1m whose only end token is `token`.
std::shared_ptr<const LoadedModel> model_ending_with(int32_t token, const std::string& folder) {
  namespace fs = std::filesystem;
  fs::copy(source_path("tests/data/wiki-tiny-1m"), folder);
  std::ifstream in(folder + "/config.json");
  std::string config{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const std::string field = "\"eos_token_id\": 2";
  REQUIRE(config.find(field) != std::string::npos);
  config.replace(config.find(field), field.size(), "\"eos_token_id\": " + std::to_string(token));
  fs::remove(folder + "/config.json");
  std::ofstream(folder + "/config.json") << config;
  return open_test_model(folder, "auto", 2);
}

}  // namespace

TEST_CASE("an end token ends the answer and is no part of it, unless ends are ignored") {
  const auto plain = plain_answer().tokens();
  // The first token from the tenth on that did not occur before.
  size_t at = 10;
  while (std::find(plain.begin(), plain.begin() + static_cast<ptrdiff_t>(at), plain[at]) !=
         plain.begin() + static_cast<ptrdiff_t>(at))
    ++at;
  const TemporaryDirectory directory;
  const auto model = model_ending_with(plain[at], directory.file("model"));
  GeneratorOptions options;
  options.max_tokens = 40;
  const auto generator = started(context_on(model), options);
  CHECK(run(*generator) == FinishReason::kStop);
  CHECK(generator->tokens().size() == at);
  CHECK(std::equal(generator->tokens().begin(), generator->tokens().end(), plain.begin()));
  CHECK(plain_answer().text().starts_with(generator->text()));

  options.ignore_end = true;
  const auto ignoring = started(context_on(model), options);
  CHECK(run(*ignoring) == FinishReason::kLength);
  CHECK(ignoring->text() == plain_answer().text());
}

TEST_CASE("a stop string ends the text before it, wherever token borders lie") {
  const std::string& text = plain_answer().text();
  // Every stretch of text of 1 to 9 bytes from the middle on: many straddle two tokens or three.
  for (const size_t n_bytes : {1, 2, 5, 9}) {
    for (size_t begin = text.size() / 3; begin + n_bytes <= text.size() * 2 / 3; begin += 7) {
      const std::string stop = text.substr(begin, n_bytes);
      CAPTURE(stop);
      GeneratorOptions options;
      options.max_tokens = 40;
      options.stop_strings = {"never said", stop};
      const auto generator = started(context_on(tiny_model()), options);
      std::string streamed;
      FinishReason reason = FinishReason::kNone;
      while (reason == FinishReason::kNone) {
        const TokenEvent event = value_of(generator->next());
        streamed += event.text;
        reason = event.finish_reason;
      }
      CHECK(reason == FinishReason::kStop);
      CHECK(generator->text() == text.substr(0, text.find(stop)));
      CHECK(streamed == generator->text());
    }
  }
  GeneratorOptions options;
  options.max_tokens = 40;
  options.stop_strings = {"never said"};
  const auto generator = started(context_on(tiny_model()), options);
  CHECK(run(*generator) == FinishReason::kLength);
  CHECK(generator->text() == text);
}

TEST_CASE("an answer ends when the context is full") {
  const std::vector<int32_t> prompt = random_tokens(10, 2048, 1);
  ContextOptions context_options;
  context_options.context_tokens = 32;
  GeneratorOptions options;
  options.max_tokens = 0;
  options.ignore_end = true;
  const auto context = context_on(tiny_model(), context_options);
  const auto generator = value_of(Generator::create(context, options));
  require_ok(generator->start_tokens(prompt));
  CHECK(run(*generator) == FinishReason::kLength);
  CHECK(generator->tokens().size() == 22);  // positions 10 to 31
  CHECK(context->cache().length(0) == 31);

  // A prompt that fills the context still gets the token after it.
  const auto full = context_on(tiny_model(), context_options);
  const auto last = value_of(Generator::create(full, options));
  require_ok(last->start_tokens(random_tokens(32, 2048, 2)));
  CHECK(run(*last) == FinishReason::kLength);
  CHECK(last->tokens().size() == 1);
}

TEST_CASE("no free page is an error of its own that keeps the text") {
  ContextOptions context_options;
  context_options.cache_tokens = 32;
  GeneratorOptions options;
  options.max_tokens = 0;
  options.ignore_end = true;
  const auto context = context_on(tiny_model(), context_options);
  const auto generator = value_of(Generator::create(context, options));
  require_ok(generator->start_tokens(random_tokens(10, 2048, 1)));
  StatusCode code = StatusCode::kOk;
  while (code == StatusCode::kOk)
    code = generator->next().status().code();
  CHECK(code == StatusCode::kContextFull);
  CHECK(generator->stats().finish_reason == FinishReason::kError);
  CHECK(generator->tokens().size() == 23);
  CHECK(context->cache().length(0) == 32);
  CHECK_FALSE(generator->text().empty());
}

TEST_CASE("a deadline that has passed leaves the sequence as before the start") {
  const auto context = context_on(tiny_model());
  GeneratorOptions options;
  options.deadline_ms = 1;
  const auto generator = started(context, options);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(generator->next().status().code() == StatusCode::kDeadlineExceeded);
  CHECK(generator->stats().finish_reason == FinishReason::kDeadline);
  CHECK(generator->next().status().code() == StatusCode::kInvalidState);
  CHECK(context->cache().length(0) == 0);
}

TEST_CASE("a cancel before the start is not lost and reaches no other generator") {
  const auto context = context_on(tiny_model());
  const auto generator = value_of(Generator::create(context, {}));
  std::thread([&] { generator->cancel(); }).join();
  require_ok(generator->start_text(kPrompt, {}));
  CHECK(generator->next().status().code() == StatusCode::kCancelled);
  CHECK(generator->stats().finish_reason == FinishReason::kCancelled);
  CHECK(context->cache().length(0) == 0);
  const auto next = started(context, {});
  CHECK(next->next().ok());
}

TEST_CASE("a cancel between tokens keeps what was generated") {
  const auto context = context_on(tiny_model());
  const auto generator = started(context, {});
  for (int i = 0; i < 5; ++i)
    require_ok(generator->next().status());
  const int32_t length = context->cache().length(0);
  generator->cancel();
  CHECK(generator->next().status().code() == StatusCode::kCancelled);
  CHECK(generator->tokens().size() == 5);
  CHECK(context->cache().length(0) == length);
  CHECK(plain_answer().text().starts_with(generator->text()));
  CHECK_FALSE(generator->text().empty());
}

TEST_CASE("a callback's stop ends the answer") {
  const auto generator = started(context_on(tiny_model()), {});
  for (int i = 0; i < 3; ++i)
    require_ok(generator->next().status());
  generator->stop_by_callback();
  CHECK(generator->stats().finish_reason == FinishReason::kCancelled);
  CHECK(generator->tokens().size() == 3);
  CHECK(generator->next().status().code() == StatusCode::kInvalidState);
  generator->stop_by_callback();  // once more changes nothing
  CHECK(plain_answer().text().starts_with(generator->text()));
}

}  // namespace flexq::test
