// Files of multiple-choice tasks: templates, and what is refused with which words.
#include "eval/choice_tasks.h"

#include <doctest/doctest.h>

#include <fstream>

#include "support/test_data.h"

namespace flexq::test {
namespace {

struct TaskFile {
  TemporaryDirectory directory;
  std::string path = directory.file("task.jsonl");
  Result<std::vector<Question>> read(std::string_view task, const std::string& text) const {
    std::ofstream(path, std::ios::binary) << text;
    return read_questions(task, path);
  }
};

// "[context|continuation|characters] ... answer"
std::string shown(const Question& question) {
  std::string text;
  for (const Choice& choice : question.choices) {
    text += "[" + choice.context + "|" + choice.continuation + "|" +
            std::to_string(choice.n_characters) + "] ";
  }
  return text + std::to_string(question.answer);
}

const std::string kPiqa = R"({"goal": "boil an egg", "sol1": "wait ", "sol2": "né", "label": 1})";
const std::string kArc =
    R"({"id": "x", "question": "Why?", "choices": {"text": ["a b", "c", "d"], )"
    R"("label": ["1", "2", "3"]}, "answerKey": "3"})";
const std::string kBoolq =
    R"({"question": "is it so", "passage": "It is -- so.", "idx": 5, "label": 1})";
const std::string kWinogrande =
    R"({"sentence": "Ann saw Bo because _ looked. ", "option1": "Ann", "option2": "Bo", )"
    R"("answer": "2"})";
const std::string kHellaswag = "A dog\n2\nbarks.\nis\nsleeps\nsings\n";

}  // namespace

TEST_CASE("templates of the tasks") {
  const TaskFile file;
  const auto only = [&](std::string_view task, const std::string& text) {
    const auto questions = file.read(task, text);
    REQUIRE_MESSAGE(questions.ok(), questions.status().message());
    REQUIRE(questions->size() == 1);
    return shown(questions->front());
  };
  CHECK(only("piqa", kPiqa) ==
        "[Question: boil an egg\nAnswer:| wait |5] [Question: boil an egg\nAnswer:| né|2] 1");
  CHECK(only("arc", kArc + "\n") ==
        "[Question: Why?\nAnswer:| a b|3] [Question: Why?\nAnswer:| c|1] "
        "[Question: Why?\nAnswer:| d|1] 2");
  CHECK(only("boolq", kBoolq + "\r\n") ==
        "[It is -- so.\nQuestion: is it so?\nAnswer:| no|2] "
        "[It is -- so.\nQuestion: is it so?\nAnswer:| yes|3] 1");
  CHECK(only("winogrande", kWinogrande) ==
        "[Ann saw Bo because Ann| looked.|7] [Ann saw Bo because Bo| looked.|7] 1");
  CHECK(only("hellaswag", kHellaswag) ==
        "[A dog| barks.|6] [A dog| is|2] [A dog| sleeps|6] [A dog| sings|5] 2");

  const auto two = file.read("piqa", "\n" + kPiqa + "\r\n  \r\n" + kPiqa + "\n\n");
  REQUIRE(two.ok());
  CHECK(two->size() == 2);
  const auto endings = file.read("hellaswag", "A dog\r\n0\r\na\r\nb\r\nc\r\nd\r\n" + kHellaswag);
  REQUIRE(endings.ok());
  REQUIRE(endings->size() == 2);
  CHECK(shown(endings->front()) == "[A dog| a|1] [A dog| b|1] [A dog| c|1] [A dog| d|1] 0");
}

TEST_CASE("malformed files name the file, the line, what was expected and what was found") {
  struct Case {
    std::string task;
    std::string text;
    std::vector<std::string> parts;
  };
  const auto changed = [](std::string text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
  };
  const Case cases[] = {
      {"piqa", "", {"at least one question"}},
      {"piqa", "\n \n", {"at least one question"}},
      {"piqa", kPiqa + "\n{\"goal\": ", {"line 2", "malformed JSON"}},
      {"piqa", kPiqa + "\n[1, 2]", {"line 2", "expected a JSON object, found array"}},
      {"piqa", "7", {"line 1", "expected a JSON object, found number"}},
      {"piqa", std::string("\xff\xfe\0", 3), {"line 1", "malformed JSON"}},
      {"piqa", changed(kPiqa, "\"sol2\"", "\"sol3\""), {"line 1", "sol2", "missing"}},
      {"piqa", changed(kPiqa, "\"wait \"", "3"), {"sol1", "expected a string, found number"}},
      {"piqa", changed(kPiqa, "\"wait \"", "\" \""), {"sol1", "expected a text", "blank"}},
      {"piqa", changed(kPiqa, "\"boil an egg\"", "null"), {"goal", "missing"}},
      {"piqa", changed(kPiqa, ": 1", ": 2"), {"label", "expected 0 or 1, found 2"}},
      {"piqa", changed(kPiqa, ": 1", ": -1"), {"label", "expected 0 or 1, found -1"}},
      {"piqa", changed(kPiqa, ": 1", ": \"1\""), {"label", "expected an integer, found string"}},
      {"piqa", changed(kPiqa, ": 1", ": 1e30"), {"label", "expected an integer"}},
      {"piqa", kArc, {"line 1", "missing"}},
      {"arc", changed(kArc, "\"3\"}", "\"4\"}"), {"answerKey", "one of the labels, found \"4\""}},
      {"arc", changed(kArc, "[\"a b\", \"c\", \"d\"]", "[\"a\"]"), {"text", "two choices", "1"}},
      {"arc", changed(kArc, ", \"d\"]", "]"), {"label", "expected 2 labels, found 3"}},
      {"arc", changed(kArc, ", \"d\"]", ", 7]"), {"text", "list of strings", "number"}},
      {"arc", changed(kArc, "\"d\"", "\"\""), {"text", "blank"}},
      {"arc", changed(kArc, "\"text\"", "\"texts\""), {"text", "list of strings, found none"}},
      {"arc", changed(kArc, "[\"1\", \"2\", \"3\"]", "{}"), {"label", "list", "object"}},
      {"arc", changed(kArc, "\"choices\"", "\"choice\""), {"choices", "an object, found none"}},
      {"arc",
       "{\"question\": \"q\", \"answerKey\": \"A\", \"choices\": []}",
       {"an object, found array"}},
      {"boolq", changed(kBoolq, "\"passage\"", "\"text\""), {"passage", "missing"}},
      {"boolq", changed(kBoolq, ": 1", ": true"), {"label", "integer", "boolean"}},
      {"winogrande", changed(kWinogrande, "_", "she"), {"sentence", "a text with _"}},
      {"winogrande", changed(kWinogrande, " looked. ", ""), {"sentence behind _", "blank"}},
      {"winogrande",
       changed(kWinogrande, "\"2\"", "\"\""),
       {"answer", "\"1\" or \"2\", found \"\""}},
      {"winogrande", changed(kWinogrande, "\"2\"", "2"), {"answer", "string", "number"}},
      {"hellaswag", kHellaswag + "A cat\n0\nmews\n", {"line 9", "ending", "the end"}},
      {"hellaswag", "A cat", {"line 1", "index", "the end"}},
      {"hellaswag", changed(kHellaswag, "\n2\n", "\n4\n"), {"line 2", "0 to 3, found \"4\""}},
      {"hellaswag", changed(kHellaswag, "\n2\n", "\n\n"), {"line 2", "0 to 3, found \"\""}},
      {"hellaswag", changed(kHellaswag, "\nis\n", "\n\n"), {"line 4", "ending", "blank"}},
      {"hellaswag", changed(kHellaswag, "barks", "b\xffrks"), {"line 3", "UTF-8"}},
      {"hellaswag", changed(kHellaswag, "A dog", "A d\xc0g"), {"line 1", "UTF-8"}},
  };
  const TaskFile file;
  for (const Case& one : cases) {
    CAPTURE(one.task);
    CAPTURE(one.text);
    const auto questions = file.read(one.task, one.text);
    CHECK(questions.status().code() == StatusCode::kCorrupt);
    const std::string message = questions.status().message();
    CAPTURE(message);
    CHECK(message.starts_with(file.path));
    for (const std::string& part : one.parts) {
      CAPTURE(part);
      CHECK(message.find(part) != std::string::npos);
    }
  }
  CHECK(file.read("piqa2", kPiqa).status().code() == StatusCode::kUnsupportedValue);
  CHECK(file.read("", kPiqa).status().code() == StatusCode::kUnsupportedValue);
  CHECK(read_questions("piqa", file.path + ".absent").status().code() == StatusCode::kNotFound);
  CHECK(read_questions("piqa", file.directory.path()).status().code() ==
        StatusCode::kInvalidArgument);
}

TEST_CASE("every line cut anywhere is read or refused") {
  const TaskFile file;
  struct Whole {
    std::string task;
    std::string text;
  };
  const Whole files[] = {{"piqa", kPiqa},
                         {"arc", kArc},
                         {"boolq", kBoolq},
                         {"winogrande", kWinogrande},
                         {"hellaswag", kHellaswag}};
  for (const Whole& whole : files) {
    CAPTURE(whole.task);
    for (size_t n_bytes = 0; n_bytes < whole.text.size(); ++n_bytes) {
      CAPTURE(n_bytes);
      const auto questions = file.read(whole.task, whole.text.substr(0, n_bytes));
      // The last ending of hellaswag may end early.
      const bool is_whole = whole.task == "hellaswag" && n_bytes > whole.text.rfind("sings");
      CHECK(questions.ok() == is_whole);
    }
  }
}

}  // namespace flexq::test
