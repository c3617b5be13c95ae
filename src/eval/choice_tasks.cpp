#include "eval/choice_tasks.h"

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/printable.h"
#include "text/utf8.h"

namespace flexq {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 28;

constexpr std::string_view kWhiteSpace = " \t\n\v\f\r";

std::string_view stripped(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(kWhiteSpace), text.size());
  return text.substr(begin, text.find_last_not_of(kWhiteSpace) + 1 - begin);
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(kWhiteSpace) == std::string_view::npos;
}

// Unicode code points of valid UTF-8.
int32_t character_count(std::string_view text) {
  return static_cast<int32_t>(std::count_if(text.begin(), text.end(), [](char byte) {
    return (static_cast<uint8_t>(byte) & 0xC0) != 0x80;
  }));
}

// The lines of a file with their numbers, which begin at 1.
class Lines {
 public:
  Lines(std::string_view text, const std::string& path) : rest_(text), path_(path) {}

  // False at the end of the file.
  bool next(std::string_view* line) {
    if (rest_.empty()) return false;
    const size_t n_bytes = std::min(rest_.find('\n'), rest_.size());
    *line = rest_.substr(0, n_bytes);
    rest_.remove_prefix(std::min(n_bytes + 1, rest_.size()));
    if (line->ends_with('\r')) line->remove_suffix(1);
    ++number_;
    return true;
  }
  // "PATH, line 7": where messages say that something is.
  std::string where() const { return path_ + ", line " + std::to_string(number_); }

 private:
  std::string_view rest_;
  const std::string& path_;
  int64_t number_ = 0;
};

Status corrupt(const std::string& where, const char* what, const std::string& expected,
               const std::string& found) {
  return Status::error(StatusCode::kCorrupt, "%s: %s: expected %s, found %s", where.c_str(), what,
                       expected.c_str(), found.c_str());
}

std::string in_quotes(std::string_view text) {
  return "\"" + printable(text) + "\"";
}

// Adds a choice; `text` is what its characters are counted of.
Status add_choice(Question& question, const std::string& where, const char* what,
                  std::string context, std::string_view text) {
  if (is_blank(text)) return corrupt(where, what, "a text", "a blank one");
  question.choices.push_back({std::move(context), " " + std::string(text), character_count(text)});
  return Status();
}

Status add_choice(Question& question, JsonFields& fields, const char* key,
                  const std::string& context) {
  const std::string text = fields.string(key);
  FLEXQ_RETURN_IF_ERROR(fields.status());
  return add_choice(question, fields.where(), key, context, text);
}

// A label of two choices.
Status read_binary_label(JsonFields& fields, Question& question) {
  question.answer = fields.integer("label");
  FLEXQ_RETURN_IF_ERROR(fields.status());
  if (question.answer == 0 || question.answer == 1) return Status();
  return corrupt(fields.where(), "label", "0 or 1", std::to_string(question.answer));
}

Status read_piqa(JsonFields& fields, Question& question) {
  const std::string context = "Question: " + fields.string("goal") + "\nAnswer:";
  FLEXQ_RETURN_IF_ERROR(add_choice(question, fields, "sol1", context));
  FLEXQ_RETURN_IF_ERROR(add_choice(question, fields, "sol2", context));
  return read_binary_label(fields, question);
}

// The strings of a list.
Status read_strings(JsonFields& fields, const char* key, std::vector<std::string>* strings) {
  const Json* list = fields.find(key);
  if (list == nullptr || !list->is_array()) {
    return corrupt(fields.where(), key, "a list of strings",
                   list == nullptr ? "none" : list->type_name());
  }
  for (const Json& element : *list) {
    if (!element.is_string()) {
      return corrupt(fields.where(), key, "a list of strings",
                     std::string(element.type_name()) + " in it");
    }
    strings->push_back(element.get_ref<const std::string&>());
  }
  return Status();
}

Status read_arc(JsonFields& fields, Question& question) {
  const std::string context = "Question: " + fields.string("question") + "\nAnswer:";
  const std::string key = fields.string("answerKey");
  FLEXQ_RETURN_IF_ERROR(fields.status());
  const Json* choices = fields.find("choices");
  if (choices == nullptr || !choices->is_object()) {
    return corrupt(fields.where(), "choices", "an object",
                   choices == nullptr ? "none" : choices->type_name());
  }
  JsonFields parts(*choices, fields.where() + ": choices");
  std::vector<std::string> texts;
  std::vector<std::string> labels;
  FLEXQ_RETURN_IF_ERROR(read_strings(parts, "text", &texts));
  FLEXQ_RETURN_IF_ERROR(read_strings(parts, "label", &labels));
  if (texts.size() < 2) {
    return corrupt(parts.where(), "text", "two choices or more", std::to_string(texts.size()));
  }
  if (labels.size() != texts.size()) {
    return corrupt(parts.where(), "label", std::to_string(texts.size()) + " labels",
                   std::to_string(labels.size()));
  }
  for (const std::string& text : texts)
    FLEXQ_RETURN_IF_ERROR(add_choice(question, parts.where(), "text", context, text));
  const auto right = std::find(labels.begin(), labels.end(), key);
  if (right == labels.end())
    return corrupt(fields.where(), "answerKey", "one of the labels", in_quotes(key));
  question.answer = static_cast<int32_t>(right - labels.begin());
  return Status();
}

Status read_boolq(JsonFields& fields, Question& question) {
  const std::string passage = fields.string("passage");
  const std::string context = passage + "\nQuestion: " + fields.string("question") + "?\nAnswer:";
  for (const char* text : {"no", "yes"})
    FLEXQ_RETURN_IF_ERROR(add_choice(question, fields.where(), "choice", context, text));
  return read_binary_label(fields, question);
}

// The options fill the gap; what is scored is the rest of the sentence behind them.
Status read_winogrande(JsonFields& fields, Question& question) {
  const std::string sentence = fields.string("sentence");
  const std::string answer = fields.string("answer");
  const std::string options[] = {fields.string("option1"), fields.string("option2")};
  FLEXQ_RETURN_IF_ERROR(fields.status());
  const size_t gap = sentence.find('_');
  if (gap == std::string::npos)
    return corrupt(fields.where(), "sentence", "a text with _", in_quotes(sentence));
  const std::string_view rest = stripped(std::string_view(sentence).substr(gap + 1));
  for (const std::string& option : options) {
    FLEXQ_RETURN_IF_ERROR(add_choice(question, fields.where(), "sentence behind _",
                                     sentence.substr(0, gap) + option, rest));
  }
  if (answer != "1" && answer != "2")
    return corrupt(fields.where(), "answer", "\"1\" or \"2\"", in_quotes(answer));
  question.answer = answer == "1" ? 0 : 1;
  return Status();
}

// One JSON object a line.
Status read_json_lines(Lines& lines, Status (*read)(JsonFields&, Question&),
                       std::vector<Question>* questions) {
  for (std::string_view line; lines.next(&line);) {
    if (is_blank(line)) continue;
    FLEXQ_ASSIGN_OR_RETURN(const JsonDocument document, parse_json(line, lines.where()));
    if (!document.root().is_object())
      return corrupt(lines.where(), "question", "a JSON object",
                     std::string(document.root().type_name()));
    JsonFields fields(document.root(), lines.where());
    Question question;
    FLEXQ_RETURN_IF_ERROR(read(fields, question));
    FLEXQ_RETURN_IF_ERROR(fields.status());
    questions->push_back(std::move(question));
  }
  return Status();
}

constexpr int32_t kHellaswagEndings = 4;

Status read_hellaswag(Lines& lines, std::vector<Question>* questions) {
  for (std::string_view context; lines.next(&context);) {
    if (is_blank(context)) continue;
    Question question;
    std::string_view line;
    const auto next_line = [&](const char* what) -> Status {
      if (!lines.next(&line)) return corrupt(lines.where(), what, "one more line", "the end");
      if (is_valid_utf8(line)) return Status();
      return corrupt(lines.where(), what, "UTF-8", in_quotes(line));
    };
    if (!is_valid_utf8(context))
      return corrupt(lines.where(), "context", "UTF-8", in_quotes(context));
    FLEXQ_RETURN_IF_ERROR(next_line("index of the right ending"));
    if (line.size() != 1 || line[0] < '0' || line[0] >= '0' + kHellaswagEndings)
      return corrupt(lines.where(), "index of the right ending", "0 to 3", in_quotes(line));
    question.answer = line[0] - '0';
    for (int32_t i = 0; i < kHellaswagEndings; ++i) {
      FLEXQ_RETURN_IF_ERROR(next_line("ending"));
      FLEXQ_RETURN_IF_ERROR(
          add_choice(question, lines.where(), "ending", std::string(context), line));
    }
    questions->push_back(std::move(question));
  }
  return Status();
}

struct JsonTask {
  std::string_view name;
  Status (*read)(JsonFields&, Question&);
};
constexpr JsonTask kJsonTasks[] = {
    {"piqa", read_piqa}, {"arc", read_arc}, {"boolq", read_boolq}, {"winogrande", read_winogrande}};

}  // namespace

Result<std::vector<Question>> read_questions(std::string_view task, const std::string& path) {
  const auto* json_task = std::find_if(std::begin(kJsonTasks), std::end(kJsonTasks),
                                       [&](const JsonTask& one) { return one.name == task; });
  const bool is_json = json_task != std::end(kJsonTasks);
  if (!is_json && task != "hellaswag") {
    return Status::error(StatusCode::kUnsupportedValue,
                         "task: expected piqa, arc, boolq, winogrande or hellaswag, found %s",
                         in_quotes(task).c_str());
  }
  FLEXQ_ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxFileBytes));
  Lines lines(text, path);
  std::vector<Question> questions;
  FLEXQ_RETURN_IF_ERROR(is_json ? read_json_lines(lines, json_task->read, &questions)
                                : read_hellaswag(lines, &questions));
  if (!questions.empty()) return questions;
  return Status::error(StatusCode::kCorrupt, "%s: expected at least one question, found none",
                       path.c_str());
}

}  // namespace flexq
