// --load-session and --save-session: a conversation or text that goes on another day. What the tool
// needs beside tokens, keys and values is JSON in the session's note.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tool_options.h"

namespace flexq_tool {

struct SessionFiles {
  std::string load;  // "": none
  std::string save;  // "": none
};

// The two options.
void add_session_options(CLI::App& app, SessionFiles& files);

// (role, content) in their order; none in a session of flexq run.
using SessionMessages = std::vector<std::pair<std::string, std::string>>;

// Restores sequence 0, which is empty, and gives the conversation and the tokens. A session of the
// other command is refused: a text is no conversation. Returns an exit code, as do all here.
int load_session(const std::string& path, const char* command, const Context& context,
                 SessionMessages& messages, std::vector<int32_t>& tokens);

// Saves sequence 0 with the conversation. An empty one is not saved, which standard error is told.
int save_session(const std::string& path, const char* command, const Context& context,
                 const SessionMessages& messages);

}  // namespace flexq_tool
