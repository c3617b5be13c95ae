// Checks an error's code and the parts of its message that a user needs.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/status.h"

namespace flexq::test {

inline void expect_error(const Status& status, StatusCode code,
                         const std::vector<std::string>& parts) {
  const std::string message = status.message();
  INFO("message: ", message);
  CHECK(static_cast<int>(status.code()) == static_cast<int>(code));
  for (const std::string& part : parts) {
    INFO("expected in it: ", part);
    CHECK(message.find(part) != std::string::npos);
  }
}

}  // namespace flexq::test
