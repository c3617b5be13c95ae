// One JSON line for every HTTP request. Never what a prompt or an answer says.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace flexq_tool {

struct AccessRecord {
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  std::string request_id;
  std::string remote_address;
  std::string method;
  std::string path;
  std::string route;  // path, or "other" for those that do not exist
  int status = 0;
  bool is_whole = true;  // false: the client went before the end of the answer
  int64_t n_bytes = 0;
  bool has_tokens = false;
  int64_t n_prompt_tokens = 0;
  int64_t n_cached_tokens = 0;
  int64_t n_completion_tokens = 0;
  double seconds_to_first_token = 0;  // 0: none
};

class AccessLog {
 public:
  AccessLog() = default;
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  // path: a file to append to, "-": standard output, "": no log. Reports a failure; returns an exit
  // code.
  int open(const std::string& path);
  void write(const AccessRecord& record) const;

 private:
  int descriptor_ = -1;
  bool is_own_ = false;
};

}  // namespace flexq_tool
