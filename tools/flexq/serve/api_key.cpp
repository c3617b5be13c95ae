#include "serve/api_key.h"

#include <algorithm>
#include <cstdlib>

#include "file_input.h"
#include "terminal_output.h"

namespace flexq_tool {

int read_api_key(const ServeOptions& options, std::string& key) {
  std::string source = "--api-key";
  key = options.api_key;
  if (!options.api_key_file.empty()) {
    source = options.api_key_file;
    if (const int code = read_input(source, key); code != kExitOk) return code;
    while (!key.empty() && (key.back() == '\n' || key.back() == '\r'))
      key.pop_back();
  } else if (const char* variable = std::getenv("FLEXQ_API_KEY");
             key.empty() && variable != nullptr) {
    source = "FLEXQ_API_KEY";
    key = variable;
  } else if (key.empty()) {
    return kExitOk;
  }
  // Other characters do not get through an HTTP header.
  const bool is_key = !key.empty() && std::all_of(key.begin(), key.end(),
                                                  [](char c) { return c > ' ' && c <= '~'; });
  if (is_key) return kExitOk;
  return report_failure(source, std::string_view("expected a key of printable ASCII characters"));
}

bool is_authorized(const std::string& header, const std::string& key) {
  const std::string expected = "Bearer " + key;
  // Every byte is compared, also of a header of another length.
  volatile unsigned difference = header.size() == expected.size() ? 0 : 1;
  for (size_t i = 0; i < expected.size(); ++i) {
    const char found = header.empty() ? '\0' : header[i % header.size()];
    difference = difference | static_cast<unsigned>(static_cast<uint8_t>(found) ^
                                                    static_cast<uint8_t>(expected[i]));
  }
  return difference == 0;
}

}  // namespace flexq_tool
