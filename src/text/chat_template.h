// Conversations as the token sequences that chat models were trained on, by the name of the format.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

namespace flexq {

enum class ChatTemplate {
  kLlama2,  // <s>[INST] <<SYS>>\nsystem\n<</SYS>>\n\nuser [/INST] assistant </s>
  kLlama3,  // <|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>
  kChatMl,  // <|im_start|>role\ncontent<|im_end|>\n
  kZephyr,  // <|role|>\ncontent</s>\n
  kVicuna,  // system USER: user ASSISTANT: assistant</s>
};

enum class ChatRole { kSystem, kUser, kAssistant };

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::string_view content;
};

// "llama-2", "llama-3", "chatml", "zephyr", "vicuna".
const char* chat_template_name(ChatTemplate chat_template);
// kUnsupportedValue for another name; the message lists the names.
Result<ChatTemplate> find_chat_template(std::string_view name);
// "system", "user" and "assistant"; kInvalidArgument for another name.
Result<ChatRole> find_chat_role(std::string_view name);

// The format of a Jinja template, by characteristic fragments of its text; none for a template that
// has none of them:
//   llama-3  <|start_header_id|> and <|eot_id|>
//   chatml   <|im_start|> and <|im_end|>
//   llama-2  [INST] and <<SYS>>
//   zephyr   <|user|>, <|assistant|> and eos_token or </s>, but neither <|end|> nor <|endoftext|>
//   vicuna   USER: and ASSISTANT:
// tried in this order.
std::optional<ChatTemplate> recognize_chat_template(std::string_view jinja);

// The format of the tokenizer's own template. kNotFound: it has none; kUnsupportedModel: it has one
// that is not recognized.
Result<ChatTemplate> own_chat_template(const Tokenizer& tokenizer);

// A stretch of the rendered conversation. Markup comes from the format, and control tokens spelled
// in it are control tokens; content comes from a message and is text whatever it spells.
struct ChatSegment {
  std::string text;
  bool is_markup = false;
};

struct RenderedChat {
  std::vector<ChatSegment> segments;
  bool add_bos = false;  // BOS in front, if the tokenizer adds one; else it is in the markup
};

// With `add_generation_prompt`, ends with the markup after which the assistant's answer begins.
// Leading and trailing white space of contents is removed where the format does so (llama-2,
// llama-3).
// kInvalidArgument: no message, or an order that the format does not know: a system message that is
// not the first one (llama-2, vicuna), roles that do not alternate user, assistant (llama-2), a
// generation prompt that does not follow a user's message (llama-2).
// kUnsupportedModel: the tokenizer lacks a control token of the format, by name.
Result<RenderedChat> render_chat(const Tokenizer& tokenizer, ChatTemplate chat_template,
                                 std::span<const ChatMessage> messages, bool add_generation_prompt);

// The ids of the rendered conversation. A message cannot produce a control token; in formats whose
// role markers are plain text (llama-2, vicuna and, in most vocabularies, zephyr) it can still
// spell them, as it could for the models themselves.
Result<std::vector<int32_t>> encode_chat(const Tokenizer& tokenizer, ChatTemplate chat_template,
                                         std::span<const ChatMessage> messages,
                                         bool add_generation_prompt);

// What ends an answer: control tokens that close a turn (EOS among them), and text that begins the
// user's next turn.
struct ChatStops {
  std::vector<int32_t> tokens;  // ascending
  std::vector<std::string> strings;
};
ChatStops chat_stops(const Tokenizer& tokenizer, ChatTemplate chat_template);

}  // namespace flexq
