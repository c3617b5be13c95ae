#include "api/handles.h"

using flexq::Status;
using flexq::StatusCode;
using flexq::api::guarded;
using flexq::api::Held;

namespace {

// The format that the caller named or, for NULL, the model's own.
flexq::Result<flexq::ChatTemplate> find_template(const flexq::Tokenizer& tokenizer,
                                                 const char* template_name) {
  if (template_name != nullptr) return flexq::find_chat_template(template_name);
  return flexq::own_chat_template(tokenizer);
}

}  // namespace

namespace flexq::api {

Result<std::vector<int32_t>> encode_conversation(const Tokenizer& tokenizer,
                                                 const char* template_name, const flexq_chat& chat,
                                                 bool add_generation_prompt) {
  FLEXQ_ASSIGN_OR_RETURN(const ChatTemplate found, find_template(tokenizer, template_name));
  std::vector<ChatMessage> messages;
  for (const flexq_chat::Message& message : chat.messages)
    messages.push_back({message.role, message.content});
  return encode_chat(tokenizer, found, messages, add_generation_prompt);
}

Status add_chat_stops(const Tokenizer& tokenizer, const char* template_name,
                      GeneratorOptions* options) {
  FLEXQ_ASSIGN_OR_RETURN(const ChatTemplate found, find_template(tokenizer, template_name));
  const ChatStops stops = chat_stops(tokenizer, found);
  std::vector<std::string> strings = options->stop_strings;
  strings.insert(strings.end(), stops.strings.begin(), stops.strings.end());
  FLEXQ_RETURN_IF_ERROR(StopMatcher::create(strings).status());
  std::vector<int32_t> tokens = options->stop_tokens;
  tokens.insert(tokens.end(), stops.tokens.begin(), stops.tokens.end());
  options->stop_strings = std::move(strings);
  options->stop_tokens = std::move(tokens);
  return Status();
}

}  // namespace flexq::api

extern "C" {

flexq_status flexq_tokenizer_chat_template(const flexq_tokenizer* tokenizer,
                                           const char** template_name) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(tokenizer);
    FLEXQ_REQUIRE(template_name);
    const Held held(tokenizer);
    FLEXQ_ASSIGN_OR_RETURN(const flexq::ChatTemplate found,
                           find_template(*held->tokenizer, nullptr));
    *template_name = flexq::chat_template_name(found);
    return Status();
  });
}

flexq_status flexq_tokenizer_chat_template_text(const flexq_tokenizer* tokenizer, char* text,
                                                int64_t capacity, int64_t* text_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(tokenizer);
    const Held held(tokenizer);
    return flexq::api::fill_text(held->tokenizer->chat_template(), text, capacity, text_bytes);
  });
}

flexq_status flexq_chat_create(flexq_chat** chat) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(chat);
    *chat = new flexq_chat;
    return Status();
  });
}

void flexq_chat_release(flexq_chat* chat) {
  flexq::api::drop_reference(chat);
}

flexq_status flexq_chat_add(flexq_chat* chat, const char* role, const char* content,
                            int64_t content_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(chat);
    FLEXQ_REQUIRE(role);
    const Held held(chat);
    std::string_view view;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_text("content", content, content_bytes, &view));
    if (view.size() > static_cast<size_t>(flexq::kMaxTextBytes)) {
      return Status::error(StatusCode::kLimitExceeded,
                           "content: expected at most %lld bytes, found %zu",
                           static_cast<long long>(flexq::kMaxTextBytes), view.size());
    }
    FLEXQ_ASSIGN_OR_RETURN(const flexq::ChatRole found, flexq::find_chat_role(role));
    held->messages.push_back({found, std::string(view)});
    return Status();
  });
}

flexq_status flexq_chat_clear(flexq_chat* chat) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(chat);
    const Held held(chat);
    held->messages.clear();
    return Status();
  });
}

flexq_status flexq_tokenizer_encode_chat(const flexq_tokenizer* tokenizer,
                                         const char* template_name, const flexq_chat* chat,
                                         int32_t add_generation_prompt, int32_t* tokens,
                                         int32_t capacity, int32_t* n_tokens) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(tokenizer);
    FLEXQ_REQUIRE(chat);
    const Held held(tokenizer);
    const Held held_chat(chat);
    if (add_generation_prompt != 0 && add_generation_prompt != 1) {
      return flexq::api::invalid_range("add_generation_prompt", 0, 1, add_generation_prompt);
    }
    FLEXQ_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                           flexq::api::encode_conversation(*held->tokenizer, template_name,
                                                           *held_chat, add_generation_prompt == 1));
    return flexq::api::fill_buffer(ids.data(), static_cast<int32_t>(ids.size()), tokens, capacity,
                                   n_tokens, "token buffer");
  });
}

flexq_status flexq_tokenizer_chat_stop_tokens(const flexq_tokenizer* tokenizer,
                                              const char* template_name, int32_t* tokens,
                                              int32_t capacity, int32_t* n_tokens) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(tokenizer);
    const Held held(tokenizer);
    FLEXQ_ASSIGN_OR_RETURN(const flexq::ChatTemplate found,
                           find_template(*held->tokenizer, template_name));
    const flexq::ChatStops stops = flexq::chat_stops(*held->tokenizer, found);
    return flexq::api::fill_buffer(stops.tokens.data(), static_cast<int32_t>(stops.tokens.size()),
                                   tokens, capacity, n_tokens, "token buffer");
  });
}

flexq_status flexq_generator_options_add_stop_token(flexq_generator_options* options,
                                                    int32_t token) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    if (token < 0) return flexq::api::invalid_range("stop token", 0, INT32_MAX, token);
    const Held held(options);
    held->options.stop_tokens.push_back(token);
    return Status();
  });
}

flexq_status flexq_generator_options_add_chat_stops(flexq_generator_options* options,
                                                    const flexq_tokenizer* tokenizer,
                                                    const char* template_name) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    FLEXQ_REQUIRE(tokenizer);
    const Held held(tokenizer);
    return flexq::api::add_chat_stops(*held->tokenizer, template_name, &options->options);
  });
}

}  // extern "C"
