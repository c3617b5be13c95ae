// flexq chat: one conversation, kept in the KV cache of one sequence.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "run_command.h"

namespace flexq_tool {

struct ChatCommand {
  RunCommand run;  // model, sampling, lengths, stop strings
  std::string system;
  std::string template_name;
  bool names_template = false;
};

class ChatSession {
 public:
  explicit ChatSession(const ChatCommand& command) : command_(command) {}

  // Loads the model and checks the template. As all functions here: returns an exit code.
  int open();

  // Adds the user's message, computes the answer and prints it. Ctrl-C ends the answer, which then
  // stays in the conversation as far as it got. When the context has no room left, the oldest turns
  // are dropped, which standard error is told.
  int answer(const std::string& message);

  // Forgets the conversation, but not the system message.
  int reset();

  // Saves the conversation where --save-session says.
  int save() const;

 private:
  struct Message {
    std::string role;
    std::string content;
  };

  const char* template_name() const;
  int load();
  int encode_conversation(std::vector<int32_t>& tokens) const;
  int make_room(std::vector<int32_t>& tokens, bool& has_room);
  int generate(const std::vector<int32_t>& tokens);
  int finish_answer(const Generator& generator, size_t n_kept, bool was_cut);

  const ChatCommand& command_;
  Model model_;
  Tokenizer tokenizer_;
  Context context_;
  GeneratorOptions options_;
  int32_t context_tokens_ = 0;
  std::string system_;
  std::vector<Message> messages_;
  std::vector<int32_t> cached_;  // what the sequence holds
};

}  // namespace flexq_tool
