#include "chat_session.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

#include "encoded_text.h"
#include "interrupt.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

// Formats put a space or a line break between the marker of a role and its message.
std::string_view without_leading_space(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  return text;
}

// Prints an answer as it comes; user_data of flexq_generator_run.
struct AnswerStream {
  bool to_stdout;
  bool has_begun = false;  // something but white space was printed
  int write_errno = 0;
};

int32_t on_token(const flexq_token_event* event, void* user_data) {
  auto* stream = static_cast<AnswerStream*>(user_data);
  std::string_view text(event->text_bytes > 0 ? event->text : "",
                        static_cast<size_t>(event->text_bytes));
  if (!stream->to_stdout) return 0;
  if (!stream->has_begun) text = without_leading_space(text);
  if (text.empty()) return 0;
  stream->has_begun = true;
  if (write_all(STDOUT_FILENO, text)) return 0;
  stream->write_errno = errno;
  return 1;
}

void tell(const std::string& text) {
  (void)write_all(STDERR_FILENO, "flexq: " + text + "\n");
}

}  // namespace

const char* ChatSession::template_name() const {
  return command_.names_template ? command_.template_name.c_str() : nullptr;
}

int ChatSession::open() {
  const RunCommand& run = command_.run;
  if (const int code = make_generator_options(run, options_); code != kExitOk) return code;
  if (const int code = load_model(run.model, run.common, model_); code != kExitOk) return code;
  flexq_status status = flexq_model_tokenizer(model_.get(), Out(tokenizer_));
  if (status != FLEXQ_OK) return report_failure(run.model, status);
  status =
      flexq_generator_options_add_chat_stops(options_.get(), tokenizer_.get(), template_name());
  if (status == FLEXQ_ERROR_UNSUPPORTED_VALUE) return report_usage("--template");
  if (status != FLEXQ_OK) return report_failure(run.model, status);
  if (const int code = create_context(run, model_, context_); code != kExitOk) return code;
  flexq_plan plan = {};
  plan.struct_size = sizeof plan;
  status = flexq_context_get_plan(context_.get(), &plan);
  if (status != FLEXQ_OK) return report_failure(run.model, status);
  context_tokens_ = plan.context_tokens;
  system_ = command_.system;
  return run.session.load.empty() ? reset() : load();
}

int ChatSession::load() {
  SessionMessages messages;
  const int code = load_session(command_.run.session.load, "chat", context_, messages, cached_);
  if (code != kExitOk) return code;
  for (auto& [role, content] : messages)
    messages_.push_back({std::move(role), std::move(content)});
  if (!messages_.empty() && messages_.front().role == "system") system_ = messages_.front().content;
  return kExitOk;
}

int ChatSession::save() const {
  if (command_.run.session.save.empty()) return kExitOk;
  SessionMessages messages;
  // After /reset the cache still holds the conversation that was to be forgotten.
  if (messages_.size() <= (system_.empty() ? 0u : 1u)) {
    const flexq_status status = flexq_context_rewind(context_.get(), 0, 0);
    if (status != FLEXQ_OK) return report_failure("--save-session", status);
  }
  for (const Message& message : messages_)
    messages.emplace_back(message.role, message.content);
  return save_session(command_.run.session.save, "chat", context_, messages);
}

int ChatSession::reset() {
  messages_.clear();
  if (!system_.empty()) messages_.push_back({"system", system_});
  return kExitOk;
}

int ChatSession::encode_conversation(std::vector<int32_t>& tokens) const {
  Chat chat;
  flexq_status status = flexq_chat_create(Out(chat));
  for (const Message& message : messages_) {
    if (status == FLEXQ_OK)
      status = flexq_chat_add(chat.get(), message.role.c_str(), message.content.data(),
                              static_cast<int64_t>(message.content.size()));
  }
  if (status == FLEXQ_OK) status = encode_chat(tokenizer_, template_name(), chat, tokens);
  return status == FLEXQ_OK ? kExitOk : report_failure("conversation", status);
}

// Drops the oldest turns until the conversation leaves room for an answer. Without room even for
// the last message alone, that message is taken back.
int ChatSession::make_room(std::vector<int32_t>& tokens, bool& has_room) {
  const int32_t max_tokens = command_.run.max_tokens;
  const int32_t quarter = std::max(1, context_tokens_ / 4);
  const int32_t wanted = max_tokens > 0 ? std::min(max_tokens, quarter) : quarter;
  const size_t first_turn = system_.empty() ? 0 : 1;
  int n_dropped = 0;
  has_room = true;
  while (static_cast<int64_t>(tokens.size()) + wanted > context_tokens_) {
    if (messages_.size() - first_turn < 3) {
      messages_.pop_back();
      tell("the message takes " + std::to_string(tokens.size()) + " tokens of a context of " +
           std::to_string(context_tokens_) + " and leaves no room for an answer: not sent");
      has_room = false;
      return kExitOk;
    }
    const auto oldest = messages_.begin() + static_cast<std::ptrdiff_t>(first_turn);
    messages_.erase(oldest, oldest + 2);
    ++n_dropped;
    if (const int code = encode_conversation(tokens); code != kExitOk) return code;
  }
  if (n_dropped > 0)
    tell("the context of " + std::to_string(context_tokens_) + " tokens is full: " +
         (n_dropped == 1 ? "the oldest turn was" : std::to_string(n_dropped) + " old turns were") +
         " dropped; /reset begins anew");
  return kExitOk;
}

int ChatSession::answer(const std::string& message) {
  messages_.push_back({"user", message});
  std::vector<int32_t> tokens;
  if (const int code = encode_conversation(tokens); code != kExitOk) return code;
  bool has_room = true;
  if (const int code = make_room(tokens, has_room); code != kExitOk || !has_room) return code;
  return generate(tokens);
}

int ChatSession::generate(const std::vector<int32_t>& tokens) {
  // What the cache already holds is not computed again; at least one token must be.
  const auto differs = std::mismatch(cached_.begin(), cached_.end(), tokens.begin(), tokens.end());
  const size_t n_kept =
      std::min(static_cast<size_t>(differs.first - cached_.begin()), tokens.size() - 1);
  flexq_status status = flexq_context_rewind(context_.get(), 0, static_cast<int32_t>(n_kept));
  if (status != FLEXQ_OK) return report_failure("conversation", status);
  cached_.resize(n_kept);

  Generator generator;
  status = flexq_generator_create(context_.get(), options_.get(), Out(generator));
  if (status != FLEXQ_OK) return report_failure(command_.run.model, status);
  status = flexq_generator_start_tokens(generator.get(), tokens.data() + n_kept,
                                        static_cast<int32_t>(tokens.size() - n_kept));
  if (status != FLEXQ_OK) return report_failure("conversation", status);
  AnswerStream stream{.to_stdout = !command_.run.common.json};
  {
    const InterruptWatcher watcher([&] { flexq_generator_cancel(generator.get()); });
    status = flexq_generator_run(generator.get(), on_token, &stream);
  }
  if (stream.write_errno != 0 && stream.write_errno != EINTR)
    return report_failure("standard output", std::string_view(std::strerror(stream.write_errno)));
  const bool was_interrupted = interrupt_signal() == SIGINT;
  const bool was_stopped =
      status == FLEXQ_ERROR_CANCELLED || status == FLEXQ_ERROR_STOPPED_BY_CALLBACK;
  if (status != FLEXQ_OK && status != FLEXQ_ERROR_DEADLINE_EXCEEDED &&
      !(was_stopped && was_interrupted))
    return report_failure("generation", status);
  if (was_interrupted) clear_interrupt();
  return finish_answer(generator, n_kept, status != FLEXQ_OK);
}

// Puts the answer into the conversation, and the end of its line or its JSON object on standard
// output.
int ChatSession::finish_answer(const Generator& generator, size_t n_kept, bool was_cut) {
  RunResult result;
  if (const int code = collect_result(context_, generator, result); code != kExitOk) return code;
  const int32_t length = flexq_context_sequence_length(context_.get(), 0);
  if (length > static_cast<int32_t>(n_kept)) {
    cached_.insert(cached_.end(), result.prompt_tokens.begin(), result.prompt_tokens.end());
    cached_.insert(cached_.end(), result.tokens.begin(), result.tokens.end());
  }
  cached_.resize(std::min(cached_.size(), static_cast<size_t>(std::max(length, 0))));

  const std::string text(without_leading_space(result.text));
  if (text.empty() && was_cut)
    messages_.pop_back();  // nothing was said: the question may be asked again
  else
    messages_.push_back({"assistant", text});
  const bool is_full = result.stats.finish_reason == FLEXQ_FINISH_LENGTH &&
                       result.stats.n_generated_tokens != command_.run.max_tokens;
  int code = kExitOk;
  if (command_.run.common.json) {
    code = print_json({{"text", text},
                       {"tokens", result.tokens},
                       {"n_prompt_tokens", result.stats.n_prompt_tokens},
                       {"n_cached_tokens", n_kept},
                       {"finish_reason", result.finish_reason}});
  } else {
    code = print("\n");
  }
  if (is_full)
    tell("the context of " + std::to_string(context_tokens_) +
         " tokens is full: the answer was cut; /reset begins anew");
  return code;
}

}  // namespace flexq_tool
