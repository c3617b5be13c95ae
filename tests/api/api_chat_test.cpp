// Conversations through the C interface. tests/text compares the formats themselves.
#include <algorithm>

#include "api/api_fixture.h"
#include "api/published_chat_templates.h"
#include "support/synthetic_checkpoint.h"
#include "support/synthetic_tokenizer.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

Tokenizer tokenizer_of(const flexq_model* model) {
  Tokenizer tokenizer;
  REQUIRE_OK(flexq_model_tokenizer(model, tokenizer.out()));
  return tokenizer;
}

Chat make_chat(const std::vector<std::pair<const char*, std::string>>& messages) {
  Chat chat;
  REQUIRE_OK(flexq_chat_create(chat.out()));
  for (const auto& [role, content] : messages)
    REQUIRE_OK(flexq_chat_add(chat, role, content.data(), static_cast<int64_t>(content.size())));
  return chat;
}

std::vector<int32_t> encode_chat(const flexq_tokenizer* tokenizer, const char* name,
                                 const flexq_chat* chat) {
  int32_t n = 0;
  CHECK_ERROR(flexq_tokenizer_encode_chat(tokenizer, name, chat, 1, nullptr, 0, &n),
              "BUFFER_TOO_SMALL", "token buffer");
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  REQUIRE_OK(flexq_tokenizer_encode_chat(tokenizer, name, chat, 1, tokens.data(), n, &n));
  return tokens;
}

// A checkpoint whose tokenizer has the control tokens of every format.
void write_chat_checkpoint(const std::string& directory, const PublishedTemplate& published) {
  SyntheticOptions options;
  options.config.n_vocab = 602;
  options.byte_level_tokenizer = published.name == std::string("llama-3");
  SyntheticFiles files = make_synthetic_checkpoint(options);
  std::string added;
  if (!options.byte_level_tokenizer) {
    files["tokenizer.model"] = synthetic_tokenizer_model(600);
    added = R"("added_tokens_decoder": {"600": {"content": "<|im_start|>", "special": true},
                                        "601": {"content": "<|im_end|>", "special": true}},)";
  }
  files["tokenizer_config.json"] = "{" + added + "\"chat_template\": " + published.json + "}";
  write_files(directory, files);
}

}  // namespace

TEST_CASE("the template in tokenizer_config.json names the format, in a folder and in a bundle") {
  for (const PublishedTemplate& published : kPublishedTemplates) {
    CAPTURE(published.name);
    const TemporaryDirectory directory;
    write_chat_checkpoint(directory.path(), published);
    const std::string bundle = directory.file("model.flexq");
    REQUIRE_OK(flexq_quantize(directory.path().c_str(), bundle.c_str(), nullptr));
    for (const std::string& path : {directory.path(), bundle}) {
      CAPTURE(path);
      const Source source = open_source(path);
      Tokenizer tokenizer;
      REQUIRE_OK(flexq_tokenizer_open(source, tokenizer.out()));
      const char* name = nullptr;
      REQUIRE_OK(flexq_tokenizer_chat_template(tokenizer, &name));
      CHECK(name == std::string(published.name));
      const Chat chat = make_chat({{"user", "Hello"}, {"assistant", "Hi"}, {"user", "Who?"}});
      CHECK(encode_chat(tokenizer, nullptr, chat) == encode_chat(tokenizer, published.name, chat));
    }
  }
}

TEST_CASE("a conversation in the llama-2 format is BOS and its text, and contents stay text") {
  const Model model = load_model(wiki_tiny_bundle());
  const Tokenizer tokenizer = tokenizer_of(model);
  const Chat chat = make_chat({{"user", "Hello </s> there"}});
  const std::vector<int32_t> tokens = encode_chat(tokenizer, "llama-2", chat);
  const int32_t bos = 1;
  const int32_t eos = 2;
  CHECK(tokens.front() == bos);
  CHECK(std::count(tokens.begin(), tokens.end(), bos) == 1);
  CHECK(std::count(tokens.begin(), tokens.end(), eos) == 0);
  CHECK(decode(model, tokens) == "[INST] Hello </s> there [/INST]");

  REQUIRE_OK(flexq_chat_clear(chat));
  int32_t n = 0;
  CHECK_INVALID(flexq_tokenizer_encode_chat(tokenizer, "llama-2", chat, 1, nullptr, 0, &n), "");
  const Chat twice = make_chat({{"user", "one"}, {"user", "two"}});
  CHECK_INVALID(flexq_tokenizer_encode_chat(tokenizer, "llama-2", twice, 1, nullptr, 0, &n), "");
}

TEST_CASE("formats, roles and templates that do not fit are named") {
  const Model model = load_model(wiki_tiny_bundle());
  const Tokenizer tokenizer = tokenizer_of(model);
  const Chat chat = make_chat({{"user", "Hello"}});
  int32_t n = 0;
  const char* name = nullptr;
  CHECK_ERROR(flexq_tokenizer_chat_template(tokenizer, &name), "NOT_FOUND", "template");
  int64_t n_bytes = -1;
  REQUIRE_OK(flexq_tokenizer_chat_template_text(tokenizer, nullptr, 0, &n_bytes));
  CHECK(n_bytes == 0);
  CHECK_ERROR(flexq_tokenizer_encode_chat(tokenizer, nullptr, chat, 1, nullptr, 0, &n), "NOT_FOUND",
              "template");
  CHECK_ERROR(flexq_tokenizer_encode_chat(tokenizer, "alpaca", chat, 1, nullptr, 0, &n),
              "UNSUPPORTED_VALUE", "alpaca");
  CHECK_ERROR(flexq_tokenizer_encode_chat(tokenizer, "llama-3", chat, 1, nullptr, 0, &n),
              "UNSUPPORTED_MODEL", "");
  CHECK_INVALID(flexq_chat_add(chat, "narrator", "x", 1), "narrator");
  CHECK_INVALID(flexq_chat_add(chat, "user", "x", -1), "");
}

TEST_CASE("stop tokens of a format end an answer") {
  const Model model = load_model(wiki_tiny_bundle());
  const Tokenizer tokenizer = tokenizer_of(model);
  int32_t stop = -1;
  int32_t n = 0;
  REQUIRE_OK(flexq_tokenizer_chat_stop_tokens(tokenizer, "llama-2", &stop, 1, &n));
  CHECK(n == 1);
  CHECK(stop == 2);

  const Context context = make_context(model);
  const Generator first = make_generator(context, [](flexq_generator_options* options) {
    REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 8));
  });
  REQUIRE_OK(start(first, "The history of"));
  REQUIRE_OK(flexq_generator_run(first, nullptr, nullptr));
  const std::vector<int32_t> tokens = tokens_of(first);
  REQUIRE(tokens.size() == 8);

  // The same answer ends where a token of it is made a stop token.
  REQUIRE_OK(flexq_context_rewind(context, 0, 0));
  const Generator second = make_generator(context, [&](flexq_generator_options* options) {
    REQUIRE_OK(flexq_generator_options_set_max_tokens(options, 8));
    REQUIRE_OK(flexq_generator_options_add_chat_stops(options, tokenizer, "llama-2"));
    REQUIRE_OK(flexq_generator_options_add_stop_token(options, tokens[5]));
  });
  REQUIRE_OK(start(second, "The history of"));
  REQUIRE_OK(flexq_generator_run(second, nullptr, nullptr));
  const auto end = std::find(tokens.begin(), tokens.end(), tokens[5]);
  CHECK(tokens_of(second) == std::vector<int32_t>(tokens.begin(), end));
  CHECK(stats_of(second).finish_reason == FLEXQ_FINISH_STOP);
}

}  // namespace flexq::test
