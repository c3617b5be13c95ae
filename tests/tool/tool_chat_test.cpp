// flexq chat: what reaches the model is the conversation in its format, and Ctrl-C ends an answer,
// not the program.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <sstream>

#include "support/synthetic_checkpoint.h"
#include "support/synthetic_tokenizer.h"
#include "support/test_data.h"
#include "tool/slow_model.h"
#include "tool/tool_process.h"

using namespace flexq::test;
using Json = nlohmann::json;

namespace {

const std::string kWikiTiny = source_path("tests/data/wiki-tiny-1m");

using Words = std::vector<std::string>;

Words joined(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// The answers of one conversation: exit code 0, nothing on standard error, one object per line.
std::vector<Json> chat(const Words& arguments, const std::string& input) {
  const ToolResult result = run_tool(joined({"chat", "--json"}, arguments), {.stdin_text = input});
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  std::vector<Json> answers;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);)
    answers.push_back(Json::parse(line));
  return answers;
}

// What the model says to a conversation that is already written in its format.
Json answer_to(const std::string& model, const std::string& conversation, const Words& options) {
  return run_json(
      joined({"run", model, "-p", conversation, "--no-bos", "--parse-special", "--stop", "[INST]"},
             options));
}

// The two commands saw the same tokens and said the same.
void check_same_answer(const Json& chat_answer, const Json& run_answer) {
  CAPTURE(chat_answer.dump());
  CAPTURE(run_answer.dump());
  CHECK(chat_answer["tokens"] == run_answer["tokens"]);
  CHECK(chat_answer["finish_reason"] == run_answer["finish_reason"]);
  CHECK(chat_answer["n_prompt_tokens"].get<size_t>() +
            chat_answer["n_cached_tokens"].get<size_t>() ==
        run_answer["prompt_tokens"].size());
}

// A checkpoint whose tokenizer_config.json brings ChatML: the template, and <|im_start|> and
// <|im_end|> as ids 400 and 401.
constexpr int kImEnd = 401;
constexpr char kChatMlConfig[] = R"({
  "added_tokens_decoder": {
    "400": {"content": "<|im_start|>", "special": true},
    "401": {"content": "<|im_end|>", "special": true}},
  "chat_template": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
})";

void write_chatml_checkpoint(const std::string& directory) {
  SyntheticOptions options;
  options.config.n_vocab = 402;
  SyntheticFiles files = make_synthetic_checkpoint(options);
  files["tokenizer.model"] = synthetic_tokenizer_model(400);
  files["tokenizer_config.json"] = kChatMlConfig;
  write_files(directory, files);
}

// Answers that go on until someone ends them; EOS is token 2.
Words endless_chat() {
  return {"chat", slow_model(), "--template", "llama-2", "-n", "0", "--logit-bias", "2=-inf"};
}

// A terminal with a person in front of it. Skips the test case where there are no terminals.
class Terminal {
 public:
  Terminal() : keyboard_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    if (keyboard_ < 0 || grantpt(keyboard_) != 0 || unlockpt(keyboard_) != 0) {
      case_skipped = true;
      MESSAGE("SKIPPED: no pseudo-terminals on this machine");
      return;
    }
    device_ = open(ptsname(keyboard_), O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE(device_ >= 0);
  }
  ~Terminal() {
    close(device_);
    close(keyboard_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  int device() const { return device_; }  // -1: there are no terminals

  void type(const std::string& keys) const {
    REQUIRE(write(keyboard_, keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
  }
  // Waits until the screen shows `text` behind all that was waited for before.
  void wait_for(const std::string& text) {
    using namespace std::chrono;
    const auto deadline = steady_clock::now() + seconds(120);
    for (;;) {
      if (const size_t at = screen_.find(text, n_seen_); at != std::string::npos) {
        n_seen_ = at + text.size();
        return;
      }
      REQUIRE_MESSAGE(steady_clock::now() < deadline, "the screen shows: " << screen_);
      pollfd event = {keyboard_, POLLIN, 0};
      char block[256];
      if (poll(&event, 1, 100) <= 0) continue;
      const ssize_t n_read = read(keyboard_, block, sizeof block);
      if (n_read > 0) screen_.append(block, static_cast<size_t>(n_read));
    }
  }

 private:
  int keyboard_ = -1;
  int device_ = -1;
  std::string screen_;
  size_t n_seen_ = 0;
};

constexpr char kCtrlC[] = "\x03";
constexpr char kCtrlD[] = "\x04";

}  // namespace

TEST_CASE("chat: an answer sees the system message and all turns before it") {
  const Words options = {"-n", "24"};
  const std::string first = "What is a river?";
  const std::string second = "And the sea?";
  const std::vector<Json> answers =
      chat(joined({kWikiTiny, "--template", "llama-2", "--system", "Be brief."}, options),
           first + "\n\n" + second + "\r\n/reset\n" + second);
  REQUIRE(answers.size() == 3);

  const std::string system = "<<SYS>>\nBe brief.\n<</SYS>>\n\n";
  const std::string opening = "<s>[INST] " + system + first + " [/INST]";
  check_same_answer(answers[0], answer_to(kWikiTiny, opening, options));
  CHECK(answers[0]["n_cached_tokens"] == 0);

  std::string said = answers[0]["text"];
  CHECK(said.size() > 10);
  while (!said.empty() && (said.back() == ' ' || said.back() == '\n'))
    said.pop_back();
  const std::string history = opening + " " + said + " </s><s>[INST] " + second + " [/INST]";
  check_same_answer(answers[1], answer_to(kWikiTiny, history, options));
  CHECK(answers[1]["n_cached_tokens"] > 30);

  // A new conversation has no turns before it, but the system message.
  const std::string anew = "<s>[INST] " + system + second + " [/INST]";
  check_same_answer(answers[2], answer_to(kWikiTiny, anew, options));
  CHECK(answers[2]["tokens"] != answers[1]["tokens"]);
  const std::vector<Json> without =
      chat(joined({kWikiTiny, "--template", "llama-2"}, options), second);
  REQUIRE(without.size() == 1);
  CHECK(without[0]["n_prompt_tokens"] <
        answers[2]["n_prompt_tokens"].get<int>() + answers[2]["n_cached_tokens"].get<int>());

  const ToolResult plain = run_tool(
      joined({"chat", kWikiTiny, "--template", "llama-2", "--system", "Be brief."}, options),
      {.stdin_text = first + "\n/exit\n" + second});
  CHECK(plain.exit_code == 0);
  CHECK(plain.err == "");
  CHECK(plain.out == answers[0]["text"].get<std::string>() + "\n");
}

TEST_CASE("chat: the format comes from tokenizer_config.json, and its stop tokens end an answer") {
  const TemporaryDirectory directory;
  write_chatml_checkpoint(directory.path());
  const std::string bundle = directory.file("model.flexq");
  run_json({"quantize", directory.path(), "-o", bundle});
  const Words never_eos = {"-n", "6", "--logit-bias", "2=-inf"};
  const Words im_end_next = {"--logit-bias", std::to_string(kImEnd) + "=100"};
  const Words never_im_end = {"--logit-bias", std::to_string(kImEnd) + "=-inf", "--logit-bias",
                              "400=-inf"};
  for (const std::string& model : {directory.path(), bundle}) {
    CAPTURE(model);
    const std::string conversation = "<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    const Words talks_on = joined(never_eos, never_im_end);
    const std::vector<Json> found = chat(joined({model}, talks_on), "Hi\n");
    REQUIRE(found.size() == 1);
    check_same_answer(found[0], answer_to(model, conversation, talks_on));
    CHECK(found[0]["finish_reason"] == "length");

    // The most probable token is <|im_end|> now: the end in this format, a token like any other in
    // that one.
    const std::vector<Json> stopped =
        chat(joined(joined({model}, never_eos), im_end_next), "Hi\nHi again\n");
    REQUIRE(stopped.size() == 2);
    for (const Json& answer : stopped) {
      CHECK(answer["finish_reason"] == "stop");
      CHECK(answer["tokens"].empty());
    }
    const std::vector<Json> other =
        chat(joined(joined({model, "--template", "llama-2"}, never_eos), im_end_next), "Hi\n");
    REQUIRE(other.size() == 1);
    CHECK(other[0]["finish_reason"] == "length");
    CHECK(other[0]["tokens"] == Json(std::vector<int>(6, kImEnd)));
  }
}

TEST_CASE("chat: --kv-type changes what the cache holds") {
  const std::string conversation = "<s>[INST] What is a river? [/INST]";
  const Words base = {"-n", "64"};
  std::vector<Json> tokens;
  for (const char* kv_type : {"f32", "i8"}) {
    CAPTURE(kv_type);
    const Words options = joined(base, {"--kv-type", kv_type});
    const std::vector<Json> answers =
        chat(joined({kWikiTiny, "--template", "llama-2"}, options), "What is a river?");
    REQUIRE(answers.size() == 1);
    check_same_answer(answers[0], answer_to(kWikiTiny, conversation, options));
    tokens.push_back(answers[0]["tokens"]);
  }
  CHECK(tokens[0] != tokens[1]);
  check_failure(run_tool({"chat", kWikiTiny, "--template", "llama-2", "--kv-type", "i4"}), 2,
                {"kv_type", "i4"});
}

TEST_CASE("chat: a full context drops the oldest turns and says so") {
  const Words command = {"chat", kWikiTiny, "--template", "llama-2", "--context", "64", "-n", "16"};
  const ToolResult turns =
      run_tool(command, {.stdin_text = "One river\nTwo rivers\nThree\nFour\n"});
  CHECK(turns.exit_code == 0);
  CHECK(turns.err.find("the context of 64 tokens is full: the oldest turn was dropped") !=
        std::string::npos);
  // One message alone has no room: the program goes on without it.
  const std::string too_long(300, 'x');
  const ToolResult refused = run_tool(command, {.stdin_text = too_long + "\nOne river\n"});
  CHECK(refused.exit_code == 0);
  CHECK(refused.err.find("not sent") != std::string::npos);
  CHECK(run_tool(command, {.stdin_text = "One river\n"}).out == refused.out);
}

TEST_CASE("chat: what cannot begin is refused by name") {
  check_failure(run_tool({"chat", kWikiTiny}, {.stdin_text = "Hi\n"}), 1, {"template"});
  check_failure(run_tool({"chat", kWikiTiny, "--template", "alpaca"}), 2, {"alpaca", "vicuna"});
  check_failure(run_tool({"chat", kWikiTiny, "--template", "llama-3"}, {.stdin_text = "Hi\n"}), 1,
                {"llama-3", "<|"});
  check_failure(run_tool({"chat", source_path("absent")}), 1, {"absent"});
  const ToolSetup full = {.stdin_text = "Hi\n", .stdout_path = "/dev/full"};
  check_failure(run_tool({"chat", kWikiTiny, "--template", "llama-2", "-n", "4"}, full), 1,
                {"standard output", "No space left"});
}

TEST_CASE("chat on a terminal: Ctrl-C ends the answer, and the program only between answers") {
  Terminal terminal;
  if (terminal.device() < 0) return;
  SUBCASE("Ctrl-C") {
    ToolProcess process(endless_chat(), {.terminal = terminal.device()});
    terminal.wait_for("> ");
    terminal.type("hello\n");
    REQUIRE(process.wait_for_output(1));
    terminal.type(kCtrlC);
    terminal.wait_for("> ");
    const int64_t n_bytes = process.n_output_bytes();
    terminal.type("hello again\n");
    REQUIRE(process.wait_for_output(n_bytes + 1));
    terminal.type(kCtrlC);
    terminal.wait_for("> ");
    // Half a message is given up with the program.
    terminal.type("hel");
    terminal.type(kCtrlC);
    terminal.wait_for("flexq: interrupted");
    const ToolResult result = process.wait();
    CHECK(result.exit_code == 130);
    CHECK(std::count(result.out.begin(), result.out.end(), '\n') >= 2);
    CHECK(result.out.ends_with('\n'));
  }
  SUBCASE("Ctrl-D") {
    ToolProcess process(endless_chat(), {.terminal = terminal.device()});
    terminal.wait_for("> ");
    terminal.type(kCtrlD);
    const ToolResult result = process.wait();
    CHECK(result.exit_code == 0);
    CHECK(result.out == "");
  }
}

TEST_CASE("chat: SIGTERM ends the program within an answer") {
  ToolProcess process(endless_chat(), {.stdin_text = "hello\nhello again\n"});
  REQUIRE(process.wait_for_output(1));
  process.send_signal(SIGTERM);
  const ToolResult result = process.wait();
  CHECK(result.exit_code == 143);
  CHECK(result.err == "flexq: interrupted\n");
}
