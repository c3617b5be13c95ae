#include "base/log.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace flexq {
namespace {

struct Line {
  int32_t level;
  std::string text;
};

void collect(int32_t level, const char* text, int64_t text_bytes, void* user_data) {
  CHECK(text[text_bytes] == '\0');
  static_cast<std::vector<Line>*>(user_data)->push_back(
      {level, std::string(text, static_cast<size_t>(text_bytes))});
}

TEST_CASE("log: quiet by default, filtered by level, silenced by null") {
  std::vector<Line> lines;
  log(LogLevel::kError, "nobody listens");
  set_log_callback(collect, LogLevel::kWarning, &lines);
  log(LogLevel::kInfo, "too detailed");
  log(LogLevel::kWarning, "chunk %d of %s", 3, "model.flexq");
  set_log_callback(nullptr, LogLevel::kDebug, nullptr);
  log(LogLevel::kError, "nobody listens any more");
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].level == 2);
  CHECK(lines[0].text == "chunk 3 of model.flexq");
}

TEST_CASE("log: long lines are cut at 1023 bytes, between characters") {
  std::vector<Line> lines;
  set_log_callback(collect, LogLevel::kDebug, &lines);
  log(LogLevel::kError, "%s", std::string(1023, 'x').c_str());
  log(LogLevel::kError, "%s", std::string(5000, 'x').c_str());
  std::string euros;
  for (int i = 0; i < 1000; ++i)
    euros += "\xe2\x82\xac";
  for (int lead = 0; lead < 4; ++lead)
    log(LogLevel::kError, "%s%s", std::string(static_cast<size_t>(lead), 'x').c_str(),
        euros.c_str());
  set_log_callback(nullptr, LogLevel::kError, nullptr);
  REQUIRE(lines.size() == 6);
  CHECK(lines[0].text.size() == 1023);
  CHECK(lines[1].text.size() == 1023);
  CHECK(lines[2].text.size() == 1023);
  CHECK(lines[3].text.size() == 1 + 1020);
  CHECK(lines[4].text.size() == 2 + 1020);
  CHECK(lines[5].text.size() == 3 + 1020);
}

}  // namespace
}  // namespace flexq
