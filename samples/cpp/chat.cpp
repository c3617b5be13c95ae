// A conversation with streamed answers:  chat MODEL.flexq [TEMPLATE]
//
// Reads one message a line from standard input. TEMPLATE is a chat format ("llama-2", "llama-3",
// "chatml", "zephyr", "vicuna"); without it the format that the model names itself.
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "handles.h"

namespace {

constexpr int32_t kAnswerTokens = 64;

// C calls this: no exception may leave it.
int32_t print_piece(const flexq_token_event* event, void*) noexcept {
  std::fwrite(event->text, 1, static_cast<size_t>(event->text_bytes), stdout);
  return std::fflush(stdout);
}

class Conversation {
 public:
  Conversation(const char* path, const char* template_name) : template_name_(template_name) {
    const auto source = sample::create<sample::Source>(flexq_source_open, path);
    const auto model = sample::create<sample::Model>(flexq_model_load, source.get(), nullptr);
    tokenizer_ = sample::create<sample::Tokenizer>(flexq_model_tokenizer, model.get());
    context_ = sample::create<sample::Context>(flexq_context_create, model.get(), nullptr);
    sample::check(
        flexq_generator_options_add_chat_stops(options_.get(), tokenizer_.get(), template_name_));
    sample::check(flexq_generator_options_set_max_tokens(options_.get(), kAnswerTokens));
  }

  // Streams the answer to standard output.
  void answer(const std::string& message) {
    add("user", message);
    const auto tokens = sample::read_tokens([&](int32_t* buffer, int32_t capacity, int32_t* n) {
      return flexq_tokenizer_encode_chat(tokenizer_.get(), template_name_, chat_.get(), 1, buffer,
                                         capacity, n);
    });
    // The tokens are the whole conversation: begin with an empty sequence.
    sample::check(flexq_context_rewind(context_.get(), 0, 0));
    const auto generator =
        sample::create<sample::Generator>(flexq_generator_create, context_.get(), options_.get());
    sample::check(flexq_generator_start_tokens(generator.get(), tokens.data(),
                                               static_cast<int32_t>(tokens.size())));
    sample::check(flexq_generator_run(generator.get(), print_piece, nullptr));
    std::puts("");
    add("assistant", sample::read_text([&](char* buffer, int64_t capacity, int64_t* n) {
          return flexq_generator_text(generator.get(), buffer, capacity, n);
        }));
  }

 private:
  void add(const char* role, const std::string& text) {
    sample::check(flexq_chat_add(chat_.get(), role, text.data(), sample::n_bytes(text)));
  }

  const char* template_name_;
  sample::Tokenizer tokenizer_;
  sample::Context context_;
  sample::Chat chat_ = sample::create<sample::Chat>(flexq_chat_create);
  sample::GeneratorOptions options_ =
      sample::create<sample::GeneratorOptions>(flexq_generator_options_create);
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MODEL.flexq [TEMPLATE]\n", argv[0]);
    return 2;
  }
  try {
    Conversation conversation(argv[1], argc > 2 ? argv[2] : nullptr);
    for (std::string line; std::getline(std::cin, line);) {
      if (!line.empty()) conversation.answer(line);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
