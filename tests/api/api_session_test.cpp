// Saved sequences through flexq.h: a conversation that went on in another process is the one that
// never stopped, to the bit; errors, notes, permissions.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "api/api_fixture.h"
#include "support/test_data.h"

using namespace flexq::test;

namespace {

constexpr char kPrompt[] = "Once upon a time";
constexpr int32_t kBefore = 37;  // tokens of the answer until it is saved
constexpr int32_t kAfter = 43;

struct Setting {
  const char* kv_type;
  float temperature;
};

Context context_of(const flexq_model* model, const char* kv_type) {
  return make_context(model, [&](flexq_context_options* options) {
    REQUIRE_OK(flexq_context_options_set(options, "kv_type", kv_type));
    REQUIRE_OK(flexq_context_options_set_sequences(options, 2));
  });
}

Generator generator_for(flexq_context* context, const Setting& setting, int32_t n_tokens) {
  return make_generator(context, [&](flexq_generator_options* options) {
    REQUIRE_OK(flexq_generator_options_set_max_tokens(options, n_tokens));
    REQUIRE_OK(flexq_generator_options_set_ignore_end(options, 1));
    REQUIRE_OK(flexq_generator_options_set_log_probs(options, 5));
    set_sampling(options, [&](flexq_sampling* sampling) {
      REQUIRE_OK(flexq_sampling_set_temperature(sampling, setting.temperature));
      REQUIRE_OK(flexq_sampling_set_top_p(sampling, 0.95f));
      REQUIRE_OK(flexq_sampling_set_penalties(sampling, 1.1f, 0.1f, 0.1f, 32));
      REQUIRE_OK(flexq_sampling_set_seed(sampling, 77));
    });
  });
}

std::vector<RecordedEvent> run(flexq_generator* generator) {
  std::vector<RecordedEvent> events;
  REQUIRE_OK(flexq_generator_run(generator, record_event, &events));
  return events;
}

// Everything of the tokens' events, as bytes; texts are compared as a whole.
std::string trace_of(const std::vector<RecordedEvent>& events) {
  std::string trace;
  const auto add = [&](const void* data, size_t n_bytes) {
    trace.append(static_cast<const char*>(data), n_bytes);
  };
  for (const RecordedEvent& event : events) {
    if (event.finish_reason != FLEXQ_FINISH_NONE) continue;
    add(&event.token, sizeof event.token);
    add(&event.position, sizeof event.position);
    add(&event.log_prob, sizeof event.log_prob);
    add(event.alternative_tokens.data(), event.alternative_tokens.size() * sizeof(int32_t));
    add(event.alternative_log_probs.data(), event.alternative_log_probs.size() * sizeof(float));
  }
  return trace;
}

std::string bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

std::string note_of(const flexq_context* context, int32_t sequence) {
  int64_t n_bytes = 0;
  static_cast<void>(flexq_context_sequence_note(context, sequence, nullptr, 0, &n_bytes));
  std::string note(static_cast<size_t>(n_bytes), '\0');
  REQUIRE_OK(flexq_context_sequence_note(context, sequence, note.data(), n_bytes, &n_bytes));
  return note;
}

std::vector<int32_t> tokens_in(const flexq_context* context, int32_t sequence) {
  std::vector<int32_t> tokens(
      static_cast<size_t>(flexq_context_sequence_length(context, sequence)));
  int32_t n_tokens = 0;
  REQUIRE_OK(flexq_context_sequence_tokens(context, sequence, tokens.data(),
                                           static_cast<int32_t>(tokens.size()), &n_tokens));
  REQUIRE(static_cast<size_t>(n_tokens) == tokens.size());
  return tokens;
}

std::string saved_bytes(flexq_context* context, int32_t sequence) {
  int64_t n_bytes = 0;
  CHECK_ERROR(flexq_context_save_sequence_to_memory(context, sequence, nullptr, 0, &n_bytes),
              "BUFFER_TOO_SMALL", "session");
  std::string bytes(static_cast<size_t>(n_bytes), '\0');
  REQUIRE_OK(
      flexq_context_save_sequence_to_memory(context, sequence, bytes.data(), n_bytes, &n_bytes));
  return bytes;
}

// Goes on from a session: the answer's last token, which the cache lacks, begins the prompt.
std::string continue_session(const std::string& path, const Setting& setting) {
  const Model model = load_model(stories_bundle());
  const Context context = context_of(model, setting.kv_type);
  REQUIRE_OK(flexq_context_restore_sequence(context, 0, path.c_str()));
  const int32_t last = std::stoi(note_of(context, 0));
  const Generator generator = generator_for(context, setting, kAfter);
  REQUIRE_OK(flexq_generator_start_tokens(generator, &last, 1));
  std::string result = trace_of(run(generator));
  return result + text_of(generator) + bytes_of(last_logits(context, 0, {5, 9}));
}

// What a child process makes of it, through a file.
std::string continue_in_another_process(const std::string& path, const Setting& setting) {
  const TemporaryDirectory directory;
  const std::string result = directory.file("result");
  const pid_t child = fork();
  if (child == 0) {
    std::ofstream(result, std::ios::binary) << continue_session(path, setting);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  return file_bytes(result);
}

}  // namespace

TEST_CASE("an answer that goes on in another process is the one that never stopped") {
  if (kThreadSanitized) return;  // which allows no threads in a child of a process with threads
  const TemporaryDirectory directory;
  const Model model = load_model(stories_bundle());
  for (const Setting& setting : {Setting{"f16", 0}, {"f16", 0.9f}, {"i8", 0}, {"i8", 0.9f}}) {
    CAPTURE(std::string(setting.kv_type));
    CAPTURE(setting.temperature);
    const Context straight = context_of(model, setting.kv_type);
    const Generator whole = generator_for(straight, setting, kBefore + kAfter);
    REQUIRE_OK(start(whole, kPrompt));
    std::vector<RecordedEvent> events = run(whole);
    const std::vector<RecordedEvent> later(events.begin() + kBefore, events.end());
    const std::string logits = bytes_of(last_logits(straight, 0, {5, 9}));

    const Context context = context_of(model, setting.kv_type);
    const Generator first = generator_for(context, setting, kBefore);
    REQUIRE_OK(start(first, kPrompt));
    run(first);
    const std::string last = std::to_string(tokens_of(first).back());
    REQUIRE_OK(flexq_context_set_sequence_note(context, 0, last.data(), std::ssize(last)));
    const std::string path = directory.file("session");
    REQUIRE_OK(flexq_context_save_sequence(context, 0, path.c_str()));

    const std::string text = text_of(whole).substr(text_of(first).size());
    CHECK((text_of(first) + text == text_of(whole)));
    const std::string expected = trace_of(later) + text + logits;
    CHECK((continue_session(path, setting) == expected));
    CHECK((continue_in_another_process(path, setting) == expected));
  }
}

TEST_CASE("file and memory hold the same bytes, for the owner's eyes only") {
  const TemporaryDirectory directory;
  const Model model = load_model(tiny_bundle());
  const Context context = context_of(model, "f16");
  last_logits(context, 0, {1, 2, 3, 4, 5});
  REQUIRE_OK(flexq_context_set_sequence_note(context, 0, "a\0b", 3));
  const std::string path = directory.file("session");
  const mode_t old_mask = umask(0);
  const flexq_status status = flexq_context_save_sequence(context, 0, path.c_str());
  umask(old_mask);
  REQUIRE_OK(status);
  struct stat info {};
  REQUIRE(stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);

  const std::string bytes = saved_bytes(context, 0);
  CHECK((bytes == file_bytes(path)));
  REQUIRE_OK(
      flexq_context_restore_sequence_from_memory(context, 1, bytes.data(), std::ssize(bytes)));
  CHECK(tokens_in(context, 1) == std::vector<int32_t>{1, 2, 3, 4, 5});
  CHECK(note_of(context, 1) == std::string("a\0b", 3));
  CHECK(last_logits(context, 1, {7}) == last_logits(context, 0, {7}));
}

TEST_CASE("what a session cannot be restored into, and what cannot be saved") {
  const TemporaryDirectory directory;
  const Model model = load_model(tiny_bundle());
  const Context context = context_of(model, "f16");
  last_logits(context, 0, {1, 2, 3, 4, 5});
  const std::string path = directory.file("session");
  REQUIRE_OK(flexq_context_save_sequence(context, 0, path.c_str()));
  const std::string bytes = saved_bytes(context, 0);
  const auto restore = [&](flexq_context* into, int32_t sequence) {
    return flexq_context_restore_sequence(into, sequence, path.c_str());
  };

  CHECK_ERROR(restore(context, 0), "INVALID_STATE", "sequence 0: expected an empty sequence");
  CHECK_INVALID(restore(context, 2), "sequence: expected 0 to 1, found 2");
  CHECK_INVALID(restore(context, -1), "sequence");
  CHECK_ERROR(flexq_context_restore_sequence(context, 1, directory.file("none").c_str()),
              "NOT_FOUND", "none");
  CHECK_INVALID(flexq_context_restore_sequence(context, 1, directory.path().c_str()), "");
  CHECK_ERROR(restore(context_of(model, "i8"), 0), "UNSUPPORTED_VALUE", "kv_type i8, found f16");
  const Model other = load_model(stories_bundle());
  CHECK_ERROR(restore(context_of(other, "f16"), 0), "UNSUPPORTED_MODEL", "another");
  const Model checkpoint = load_model(stories_checkpoint());
  CHECK_ERROR(restore(context_of(checkpoint, "f16"), 0), "UNSUPPORTED_MODEL", "checkpoint");
  const Context small = make_context(model, [](flexq_context_options* options) {
    REQUIRE_OK(flexq_context_options_set_context_tokens(options, 4));
  });
  CHECK_ERROR(restore(small, 0), "CONTEXT_FULL", "at most 4 tokens");
  CHECK_ERROR(
      flexq_context_restore_sequence_from_memory(context, 1, bytes.data(), std::ssize(bytes) - 1),
      "CORRUPT", "memory");
  CHECK_ERROR(flexq_context_restore_sequence(context, 1, tiny_bundle().c_str()), "CORRUPT",
              "not a FlexQ session");
  CHECK(flexq_context_sequence_length(context, 1) == 0);

  CHECK_ERROR(flexq_context_save_sequence(context, 1, path.c_str()), "INVALID_STATE",
              "at least one token");
  CHECK_INVALID(flexq_context_save_sequence(context, 2, path.c_str()), "sequence");
  CHECK_ERROR(flexq_context_save_sequence(context, 0, directory.file("no/folder").c_str()),
              "NOT_FOUND", "/no: cannot find");
  CHECK_INVALID(flexq_context_save_sequence(context, 0, directory.path().c_str()), "folder");
  CHECK((file_bytes(path) == bytes));
  using Entries = std::filesystem::directory_iterator;
  CHECK(std::distance(Entries(directory.path()), Entries()) == 1);  // no temporary is left
}

TEST_CASE("arguments of the functions of sessions") {
  const Model model = load_model(tiny_bundle());
  const Context context = context_of(model, "f16");
  last_logits(context, 0, {1, 2, 3});
  int64_t n_bytes = -1;
  int32_t n_tokens = -1;
  char room[8];
  int32_t tokens[3];
  CHECK_INVALID(flexq_context_save_sequence(nullptr, 0, "x"), "context");
  CHECK_INVALID(flexq_context_save_sequence(context, 0, nullptr), "path");
  CHECK_INVALID(flexq_context_restore_sequence(nullptr, 0, "x"), "context");
  CHECK_INVALID(flexq_context_restore_sequence(context, 0, nullptr), "path");
  CHECK_INVALID(flexq_context_save_sequence_to_memory(nullptr, 0, room, 8, &n_bytes), "context");
  CHECK_INVALID(flexq_context_save_sequence_to_memory(context, 0, room, 8, nullptr),
                "session_bytes");
  CHECK_INVALID(flexq_context_save_sequence_to_memory(context, 0, room, -1, &n_bytes), "capacity");
  CHECK_INVALID(flexq_context_save_sequence_to_memory(context, 5, room, 8, &n_bytes), "sequence");
  CHECK(n_bytes == 0);
  CHECK_INVALID(flexq_context_save_sequence_to_memory(context, 0, nullptr, 1 << 20, &n_bytes),
                "session");
  CHECK(n_bytes > 256);
  CHECK_INVALID(flexq_context_restore_sequence_from_memory(nullptr, 1, room, 8), "context");
  CHECK_INVALID(flexq_context_restore_sequence_from_memory(context, 1, nullptr, 8), "session");
  CHECK_INVALID(flexq_context_restore_sequence_from_memory(context, 1, room, -1), "session_bytes");
  CHECK_ERROR(flexq_context_restore_sequence_from_memory(context, 1, room, 0), "CORRUPT",
              "0 bytes");
  CHECK_INVALID(flexq_context_sequence_tokens(nullptr, 0, tokens, 3, &n_tokens), "context");
  CHECK_INVALID(flexq_context_sequence_tokens(context, 2, tokens, 3, &n_tokens), "sequence");
  CHECK_INVALID(flexq_context_sequence_tokens(context, 0, tokens, 3, nullptr), "length");
  CHECK_ERROR(flexq_context_sequence_tokens(context, 0, tokens, 2, &n_tokens), "BUFFER_TOO_SMALL",
              "tokens of a sequence: expected room for 3, found 2");
  CHECK(n_tokens == 3);
  REQUIRE_OK(flexq_context_sequence_tokens(context, 1, nullptr, 0, &n_tokens));
  CHECK(n_tokens == 0);
  CHECK_INVALID(flexq_context_set_sequence_note(nullptr, 0, room, 1), "context");
  CHECK_INVALID(flexq_context_set_sequence_note(context, 0, nullptr, 1), "note");
  CHECK_INVALID(flexq_context_set_sequence_note(context, 0, room, -1), "note_bytes");
  CHECK_INVALID(flexq_context_set_sequence_note(context, 2, room, 1), "sequence");
  CHECK_ERROR(flexq_context_set_sequence_note(context, 0, room, (int64_t{1} << 26) + 1),
              "LIMIT_EXCEEDED", "67108864");
  REQUIRE_OK(flexq_context_set_sequence_note(context, 0, "note", 4));
  CHECK_ERROR(flexq_context_sequence_note(context, 0, room, 3, &n_bytes), "BUFFER_TOO_SMALL",
              "note of a sequence: expected room for 4, found 3");
  REQUIRE_OK(flexq_context_set_sequence_note(context, 0, nullptr, 0));
  REQUIRE_OK(flexq_context_sequence_note(context, 0, nullptr, 0, &n_bytes));
  CHECK(n_bytes == 0);
  CHECK_INVALID(flexq_context_sequence_note(context, -1, room, 8, &n_bytes), "sequence");
  CHECK_INVALID(flexq_context_sequence_note(nullptr, 0, room, 8, &n_bytes), "context");
}
