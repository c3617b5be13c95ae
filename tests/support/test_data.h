// Where tests find checkpoints and reference results: small ones in tests/data and samples/data,
// the large ones in FLEXQ_REFERENCE_DATA, which a user's machine does not have.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "support/skipped.h"

namespace flexq::test {

// FLEXQ_TEST_SOURCE_DIR stands in for the source folder on machines that the programs were carried
// to.
inline std::string source_path(const std::string& relative) {
  const char* from_environment = std::getenv("FLEXQ_TEST_SOURCE_DIR");
  return std::string(from_environment != nullptr ? from_environment : FLEXQ_SOURCE_DIR) + "/" +
         relative;
}

// The path of a reference file, or "" after saying loudly that this part of the test was skipped.
//   const std::string path = reference_path("text/wiki.test.raw");
//   if (path.empty()) return;
inline std::string reference_path(const std::string& relative) {
  const char* from_environment = std::getenv("FLEXQ_REFERENCE_DATA");
  const std::string path =
      std::string(from_environment != nullptr ? from_environment : FLEXQ_REFERENCE_DATA_DIR) + "/" +
      relative;
  if (std::filesystem::exists(path)) return path;
  case_skipped = true;
  MESSAGE("SKIPPED: no reference data at " << path);
  return "";
}

// A fresh folder, removed with everything in it at the end of the scope.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "flexq-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) FAIL("cannot create a temporary folder: " << pattern);
    path_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace flexq::test
