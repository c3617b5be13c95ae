#include "session_file.h"

#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

#include "terminal_output.h"

namespace flexq_tool {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kRoles = {"system", "user", "assistant"};

bool is_role(const Json& value) {
  for (const char* role : kRoles) {
    if (value == role) return true;
  }
  return false;
}

// False where the note is not one of this command.
bool parse_note(const std::string& note, const char* command, SessionMessages& messages) {
  const Json json = Json::parse(note, nullptr, false);
  if (!json.is_object() || json.value("command", Json()) != command) return false;
  const Json list = json.value("messages", Json());
  if (!list.is_array()) return false;
  for (const Json& message : list) {
    if (!message.is_object() || !is_role(message.value("role", Json())) ||
        !message.value("content", Json()).is_string()) {
      return false;
    }
    messages.emplace_back(message["role"].get<std::string>(),
                          message["content"].get<std::string>());
  }
  return true;
}

flexq_status read_note(const Context& context, std::string& note) {
  int64_t n_bytes = 0;
  flexq_status status = flexq_context_sequence_note(context.get(), 0, nullptr, 0, &n_bytes);
  if (status == FLEXQ_ERROR_BUFFER_TOO_SMALL) {
    note.resize(static_cast<size_t>(n_bytes));
    status = flexq_context_sequence_note(context.get(), 0, note.data(), n_bytes, &n_bytes);
  }
  return status;
}

}  // namespace

void add_session_options(CLI::App& app, SessionFiles& files) {
  app.add_option("--load-session", files.load,
                 "Go on where --save-session stopped, without computing anything again")
      ->type_name("FILE");
  app.add_option("--save-session", files.save,
                 "At the end, save all that --load-session needs; nobody else may read the file")
      ->type_name("FILE");
}

int load_session(const std::string& path, const char* command, const Context& context,
                 SessionMessages& messages, std::vector<int32_t>& tokens) {
  flexq_status status = flexq_context_restore_sequence(context.get(), 0, path.c_str());
  if (status != FLEXQ_OK) return report_failure("--load-session", status);
  std::string note;
  status = read_note(context, note);
  if (status != FLEXQ_OK) return report_failure("--load-session", status);
  if (!parse_note(note, command, messages)) {
    return report_failure("--load-session", path + ": expected a session that flexq " +
                                                std::string(command) + " saved");
  }
  int32_t n_tokens = flexq_context_sequence_length(context.get(), 0);
  tokens.resize(static_cast<size_t>(n_tokens));
  status = flexq_context_sequence_tokens(context.get(), 0, tokens.data(), n_tokens, &n_tokens);
  return status == FLEXQ_OK ? kExitOk : report_failure("--load-session", status);
}

int save_session(const std::string& path, const char* command, const Context& context,
                 const SessionMessages& messages) {
  if (flexq_context_sequence_length(context.get(), 0) == 0) {
    (void)write_all(STDERR_FILENO, "flexq: nothing was said: no session is saved\n");
    return kExitOk;
  }
  Json list = Json::array();
  for (const auto& [role, content] : messages)
    list.push_back({{"role", role}, {"content", content}});
  // A message may hold any bytes; those that are no UTF-8 reached the model as U+FFFD, too.
  const std::string note = Json({{"command", command}, {"messages", std::move(list)}})
                               .dump(-1, ' ', false, Json::error_handler_t::replace);
  flexq_status status = flexq_context_set_sequence_note(context.get(), 0, note.data(),
                                                        static_cast<int64_t>(note.size()));
  if (status == FLEXQ_OK) status = flexq_context_save_sequence(context.get(), 0, path.c_str());
  return status == FLEXQ_OK ? kExitOk : report_failure("--save-session", status);
}

}  // namespace flexq_tool
