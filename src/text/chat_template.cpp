#include "text/chat_template.h"

#include <algorithm>

namespace flexq {
namespace {

struct TemplateName {
  ChatTemplate chat_template;
  const char* name;
};
constexpr TemplateName kTemplateNames[] = {{ChatTemplate::kLlama2, "llama-2"},
                                           {ChatTemplate::kLlama3, "llama-3"},
                                           {ChatTemplate::kChatMl, "chatml"},
                                           {ChatTemplate::kZephyr, "zephyr"},
                                           {ChatTemplate::kVicuna, "vicuna"}};

constexpr const char* kAllNames = "llama-2, llama-3, chatml, zephyr, vicuna";

// What Vicuna 1.1 and later were trained with where a conversation has no system message.
constexpr std::string_view kVicunaSystem =
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions.";

std::string_view role_name(ChatRole role) {
  switch (role) {
    case ChatRole::kSystem:
      return "system";
    case ChatRole::kUser:
      return "user";
    case ChatRole::kAssistant:
      break;
  }
  return "assistant";
}

// ASCII white space only: what Jinja's trim would also remove beyond it does not begin messages.
constexpr std::string_view kWhiteSpace = " \t\n\v\f\r";

std::string_view trim_left(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kWhiteSpace), text.size()));
  return text;
}

std::string_view trim_right(std::string_view text) {
  const size_t last = text.find_last_not_of(kWhiteSpace);
  return text.substr(0, last == text.npos ? 0 : last + 1);
}

std::string_view trim(std::string_view text) {
  return trim_right(trim_left(text));
}

int32_t find_control_token(const Tokenizer& tokenizer, std::string_view spelling) {
  const int32_t id = tokenizer.id_of(spelling);
  const bool is_control =
      id >= 0 && tokenizer.data().types[static_cast<size_t>(id)] == PieceType::kControl;
  return is_control ? id : -1;
}

class ChatRenderer {
 public:
  ChatRenderer(const Tokenizer& tokenizer, ChatTemplate chat_template)
      : tokenizer_(tokenizer), template_(chat_template) {}

  Result<RenderedChat> render(std::span<const ChatMessage> messages, bool add_generation_prompt) {
    if (messages.empty())
      return Status::error(StatusCode::kInvalidArgument,
                           "conversation: expected at least one message, found none");
    for (const std::string_view token : required_tokens())
      FLEXQ_RETURN_IF_ERROR(require_control_token(token));
    FLEXQ_RETURN_IF_ERROR(check_order(messages, add_generation_prompt));
    switch (template_) {
      case ChatTemplate::kLlama2:
        FLEXQ_RETURN_IF_ERROR(render_llama2(messages));
        break;
      case ChatTemplate::kLlama3:
        FLEXQ_RETURN_IF_ERROR(render_llama3(messages, add_generation_prompt));
        break;
      case ChatTemplate::kChatMl:
        render_chatml(messages, add_generation_prompt);
        break;
      case ChatTemplate::kZephyr:
        FLEXQ_RETURN_IF_ERROR(render_zephyr(messages, add_generation_prompt));
        break;
      case ChatTemplate::kVicuna:
        FLEXQ_RETURN_IF_ERROR(render_vicuna(messages, add_generation_prompt));
        break;
    }
    return std::move(chat_);
  }

 private:
  void markup(std::string_view text) { chat_.segments.push_back({std::string(text), true}); }
  void content(std::string_view text) {
    if (!text.empty()) chat_.segments.push_back({std::string(text), false});
  }

  const char* name() const { return chat_template_name(template_); }

  std::vector<std::string_view> required_tokens() const {
    if (template_ == ChatTemplate::kLlama3)
      return {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};
    if (template_ == ChatTemplate::kChatMl) return {"<|im_start|>", "<|im_end|>"};
    return {};
  }

  Status require_control_token(std::string_view spelling) const {
    if (find_control_token(tokenizer_, spelling) >= 0) return {};
    return Status::error(StatusCode::kUnsupportedModel,
                         "chat template %s: the tokenizer has no control token %.*s", name(),
                         static_cast<int>(spelling.size()), spelling.data());
  }

  // How the tokenizer spells BOS or EOS, which the format cannot do without.
  Result<std::string_view> spelling_of(int32_t id, const char* what) const {
    if (id >= 0) return tokenizer_.data().piece(id);
    return Status::error(StatusCode::kUnsupportedModel, "chat template %s: the tokenizer has no %s",
                         name(), what);
  }

  Status check_order(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
    const bool system_is_first =
        template_ == ChatTemplate::kLlama2 || template_ == ChatTemplate::kVicuna;
    for (size_t i = 1; i < messages.size() && system_is_first; ++i)
      if (messages[i].role == ChatRole::kSystem)
        return Status::error(StatusCode::kInvalidArgument,
                             "chat template %s: message %zu: a system message must be the first",
                             name(), i);
    if (template_ != ChatTemplate::kLlama2) return {};
    const size_t n_system = messages[0].role == ChatRole::kSystem ? 1 : 0;
    if (messages.size() == n_system)
      return Status::error(StatusCode::kInvalidArgument,
                           "chat template %s: expected a user's message, found a system message "
                           "alone",
                           name());
    for (size_t i = n_system; i < messages.size(); ++i) {
      const ChatRole expected = (i - n_system) % 2 == 0 ? ChatRole::kUser : ChatRole::kAssistant;
      if (messages[i].role != expected)
        return Status::error(StatusCode::kInvalidArgument,
                             "chat template %s: message %zu: expected role %s, found %s", name(), i,
                             role_name(expected).data(), role_name(messages[i].role).data());
    }
    if (add_generation_prompt && messages.back().role != ChatRole::kUser)
      return Status::error(StatusCode::kInvalidArgument,
                           "chat template %s: an answer follows a user's message, found %s last",
                           name(), role_name(messages.back().role).data());
    return {};
  }

  Status render_llama2(std::span<const ChatMessage> messages) {
    FLEXQ_ASSIGN_OR_RETURN(const std::string_view bos, spelling_of(tokenizer_.bos_id(), "BOS"));
    FLEXQ_ASSIGN_OR_RETURN(const std::string_view eos, spelling_of(tokenizer_.eos_id(), "EOS"));
    const ChatMessage* system = messages[0].role == ChatRole::kSystem ? &messages[0] : nullptr;
    for (const ChatMessage& message : messages.subspan(system == nullptr ? 0 : 1)) {
      if (message.role == ChatRole::kUser) {
        markup(std::string(bos) + "[INST] ");
        if (system != nullptr) {
          markup("<<SYS>>\n");
          content(system->content);
          markup("\n<</SYS>>\n\n");
          content(trim_right(message.content));  // the whole of both is trimmed
          system = nullptr;
        } else {
          content(trim(message.content));
        }
        markup(" [/INST]");
      } else {
        markup(" ");
        content(trim(message.content));
        markup(" " + std::string(eos));
      }
    }
    return {};
  }

  Status render_llama3(std::span<const ChatMessage> messages, bool add_generation_prompt) {
    FLEXQ_ASSIGN_OR_RETURN(const std::string_view bos, spelling_of(tokenizer_.bos_id(), "BOS"));
    markup(bos);
    const auto header = [this](ChatRole role) {
      markup("<|start_header_id|>" + std::string(role_name(role)) + "<|end_header_id|>\n\n");
    };
    for (const ChatMessage& message : messages) {
      header(message.role);
      content(trim(message.content));
      markup("<|eot_id|>");
    }
    if (add_generation_prompt) header(ChatRole::kAssistant);
    return {};
  }

  void render_chatml(std::span<const ChatMessage> messages, bool add_generation_prompt) {
    chat_.add_bos = true;
    for (const ChatMessage& message : messages) {
      markup("<|im_start|>" + std::string(role_name(message.role)) + "\n");
      content(message.content);
      markup("<|im_end|>\n");
    }
    if (add_generation_prompt) markup("<|im_start|>assistant\n");
  }

  Status render_zephyr(std::span<const ChatMessage> messages, bool add_generation_prompt) {
    FLEXQ_ASSIGN_OR_RETURN(const std::string_view eos, spelling_of(tokenizer_.eos_id(), "EOS"));
    chat_.add_bos = true;
    for (const ChatMessage& message : messages) {
      markup("<|" + std::string(role_name(message.role)) + "|>\n");
      content(message.content);
      markup(std::string(eos) + "\n");
    }
    if (add_generation_prompt) markup("<|assistant|>\n");
    return {};
  }

  Status render_vicuna(std::span<const ChatMessage> messages, bool add_generation_prompt) {
    FLEXQ_ASSIGN_OR_RETURN(const std::string_view eos, spelling_of(tokenizer_.eos_id(), "EOS"));
    chat_.add_bos = true;
    const bool has_system = messages[0].role == ChatRole::kSystem;
    if (has_system)
      content(messages[0].content);
    else
      markup(kVicunaSystem);
    markup(" ");
    for (const ChatMessage& message : messages.subspan(has_system ? 1 : 0)) {
      const bool is_user = message.role == ChatRole::kUser;
      markup(is_user ? "USER: " : "ASSISTANT: ");
      content(message.content);
      markup(is_user ? std::string_view(" ") : eos);
    }
    if (add_generation_prompt) markup("ASSISTANT:");
    return {};
  }

  const Tokenizer& tokenizer_;
  ChatTemplate template_;
  RenderedChat chat_;
};

}  // namespace

const char* chat_template_name(ChatTemplate chat_template) {
  for (const TemplateName& entry : kTemplateNames)
    if (entry.chat_template == chat_template) return entry.name;
  return "";
}

Result<ChatTemplate> find_chat_template(std::string_view name) {
  for (const TemplateName& entry : kTemplateNames)
    if (name == entry.name) return entry.chat_template;
  return Status::error(StatusCode::kUnsupportedValue,
                       "chat template: expected one of %s, found %.*s", kAllNames,
                       static_cast<int>(std::min<size_t>(name.size(), 64)), name.data());
}

Result<ChatRole> find_chat_role(std::string_view name) {
  for (const ChatRole role : {ChatRole::kSystem, ChatRole::kUser, ChatRole::kAssistant})
    if (name == role_name(role)) return role;
  return Status::error(StatusCode::kInvalidArgument,
                       "role: expected system, user or assistant, found %.*s",
                       static_cast<int>(std::min<size_t>(name.size(), 64)), name.data());
}

std::optional<ChatTemplate> recognize_chat_template(std::string_view jinja) {
  const auto has = [jinja](std::string_view part) { return jinja.find(part) != jinja.npos; };
  if (has("<|start_header_id|>") && has("<|eot_id|>")) return ChatTemplate::kLlama3;
  if (has("<|im_start|>") && has("<|im_end|>")) return ChatTemplate::kChatMl;
  if (has("[INST]") && has("<<SYS>>")) return ChatTemplate::kLlama2;
  if (has("<|user|>") && has("<|assistant|>") && (has("eos_token") || has("</s>")) &&
      !has("<|end|>") && !has("<|endoftext|>"))
    return ChatTemplate::kZephyr;
  if (has("USER:") && has("ASSISTANT:")) return ChatTemplate::kVicuna;
  return std::nullopt;
}

Result<ChatTemplate> own_chat_template(const Tokenizer& tokenizer) {
  if (tokenizer.chat_template().empty())
    return Status::error(StatusCode::kNotFound, "the model has no chat template: choose one of %s",
                         kAllNames);
  const std::optional<ChatTemplate> found = recognize_chat_template(tokenizer.chat_template());
  if (found) return *found;
  return Status::error(StatusCode::kUnsupportedModel,
                       "the model's chat template, of %zu bytes, is of none of the known formats: "
                       "choose one of %s",
                       tokenizer.chat_template().size(), kAllNames);
}

Result<RenderedChat> render_chat(const Tokenizer& tokenizer, ChatTemplate chat_template,
                                 std::span<const ChatMessage> messages,
                                 bool add_generation_prompt) {
  return ChatRenderer(tokenizer, chat_template).render(messages, add_generation_prompt);
}

Result<std::vector<int32_t>> encode_chat(const Tokenizer& tokenizer, ChatTemplate chat_template,
                                         std::span<const ChatMessage> messages,
                                         bool add_generation_prompt) {
  FLEXQ_ASSIGN_OR_RETURN(const RenderedChat chat,
                         render_chat(tokenizer, chat_template, messages, add_generation_prompt));
  std::vector<TextSegment> segments;
  segments.reserve(chat.segments.size());
  for (const ChatSegment& segment : chat.segments)
    segments.push_back({segment.text, segment.is_markup});
  return tokenizer.encode_segments(segments, chat.add_bos);
}

ChatStops chat_stops(const Tokenizer& tokenizer, ChatTemplate chat_template) {
  ChatStops stops;
  const auto add = [&](int32_t id) {
    if (id >= 0 && std::find(stops.tokens.begin(), stops.tokens.end(), id) == stops.tokens.end())
      stops.tokens.push_back(id);
  };
  add(tokenizer.eos_id());
  switch (chat_template) {
    case ChatTemplate::kLlama2:
      stops.strings = {"[INST]"};
      break;
    case ChatTemplate::kLlama3:
      for (const char* token : {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"})
        add(find_control_token(tokenizer, token));
      break;
    case ChatTemplate::kChatMl:
      for (const char* token : {"<|im_end|>", "<|im_start|>"})
        add(find_control_token(tokenizer, token));
      break;
    case ChatTemplate::kZephyr:
      stops.strings = {"<|user|>", "<|system|>"};
      for (const std::string& marker : stops.strings)
        add(find_control_token(tokenizer, marker));
      break;
    case ChatTemplate::kVicuna:
      stops.strings = {"USER:"};
      break;
  }
  std::sort(stops.tokens.begin(), stops.tokens.end());
  return stops;
}

}  // namespace flexq
