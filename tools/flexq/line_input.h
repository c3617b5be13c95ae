// Standard input line by line, unbuffered by the C library: signals end a wait.
#pragma once

#include <string>

namespace flexq_tool {

class LineInput {
 public:
  enum class Outcome { kLine, kEnd, kInterrupted, kFailed };

  // The next line without its line break; the rest of the input counts as one. kEnd: no more lines.
  // kInterrupted: a signal came before a whole line. kFailed: errno says why.
  Outcome next(std::string& line);

 private:
  std::string buffer_;  // read and not handed out
  bool at_end_ = false;
};

}  // namespace flexq_tool
