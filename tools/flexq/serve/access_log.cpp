#include "serve/access_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "serve/json_fields.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

// "2026-01-31T12:00:00.250Z"
std::string now_text() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc = {};
  gmtime_r(&now.tv_sec, &utc);
  char seconds[32];
  char text[48];
  std::strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text, sizeof text, "%s.%03dZ", seconds, static_cast<int>(now.tv_nsec / 1000000));
  return text;
}

double rounded_ms(double seconds) {
  return static_cast<double>(static_cast<int64_t>(seconds * 1e6)) / 1e3;
}

}  // namespace

AccessLog::~AccessLog() {
  if (is_own_) close(descriptor_);
}

int AccessLog::open(const std::string& path) {
  if (path.empty()) return kExitOk;
  if (path == "-") {
    descriptor_ = STDOUT_FILENO;
    return kExitOk;
  }
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  is_own_ = descriptor_ >= 0;
  return is_own_ ? kExitOk : report_failure(path, std::string_view(std::strerror(errno)));
}

void AccessLog::write(const AccessRecord& record) const {
  if (descriptor_ < 0) return;
  const std::chrono::duration<double> duration = std::chrono::steady_clock::now() - record.begin;
  nlohmann::ordered_json line = {{"time", now_text()},
                                 {"request_id", record.request_id},
                                 {"remote", record.remote_address},
                                 {"method", record.method},
                                 {"path", record.path},
                                 {"status", record.status},
                                 {"whole", record.is_whole},
                                 {"bytes", record.n_bytes},
                                 {"duration_ms", rounded_ms(duration.count())}};
  if (record.has_tokens) {
    line["prompt_tokens"] = record.n_prompt_tokens;
    line["cached_tokens"] = record.n_cached_tokens;
    line["completion_tokens"] = record.n_completion_tokens;
    line["ttft_ms"] = nullptr;
    if (record.seconds_to_first_token > 0) {
      line["ttft_ms"] = rounded_ms(record.seconds_to_first_token);
    }
  }
  // One write, so that lines of several threads do not mix. A log that takes no line (a full disk)
  // is no reason to refuse requests.
  (void)write_all(descriptor_, json_text(line) + "\n");
}

}  // namespace flexq_tool
