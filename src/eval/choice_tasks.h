// Questions with several choices, read from the published files of a task and put into its
// template.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace flexq {

struct Choice {
  std::string context;
  std::string continuation;
  int32_t n_characters = 0;  // of the choice's own text, 1 or more: what acc_norm divides by
};

struct Question {
  std::vector<Choice> choices;  // at least two
  int32_t answer = 0;           // the right one
};

// Files and templates, as the lm-evaluation-harness has them. A line of the file, then context |
// continuation:
//
//   piqa        {"goal", "sol1", "sol2", "label": 0 | 1}
//               Question: {goal}\nAnswer: | {sol1}, {sol2}
//   arc         {"question", "choices": {"text": [...], "label": [...]}, "answerKey"}
//               Question: {question}\nAnswer: | {text}
//   boolq       {"passage", "question", "label": 0 | 1}
//               {passage}\nQuestion: {question}?\nAnswer: | no, yes
//   winogrande  {"sentence", "option1", "option2", "answer": "1" | "2"}
//               what is before _ and the option | what is behind _
//   hellaswag   six lines of text: context, index of the right ending, four endings
//               the context | the ending
//
// A space is put in front of every continuation. Other members of the JSON objects and blank lines
// between questions count for nothing. Another task is kUnsupportedValue, whatever is wrong in the
// file kCorrupt with its name and line in the message.
Result<std::vector<Question>> read_questions(std::string_view task, const std::string& path);

}  // namespace flexq
