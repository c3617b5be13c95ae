// T7: every kept input through its target without a fuzzer, in every build that runs tests. Names
// tell what must happen: valid_* are accepted and used, refused_* are refused.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz/fuzz_target.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<uint8_t> bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE_MESSAGE(file.good(), path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("T7_corpus_replay") {
  const std::filesystem::path corpus = source_path("tests/fuzz/corpus");
  for (const FuzzTarget& target : kFuzzTargets) {
    int n_valid = 0;
    int n_refused = 0;
    for (const auto& path : files_in(corpus / target.name)) {
      INFO(path.string());
      const std::vector<uint8_t> input = bytes_of(path);
      const bool was_accepted = target.run(input);
      const std::string name = path.filename().string();
      if (name.starts_with("valid_")) {
        CHECK(was_accepted);
        ++n_valid;
      } else if (name.starts_with("refused_")) {
        CHECK(!was_accepted);
        ++n_refused;
      }
    }
    MESSAGE(target.name << ": " << n_valid << " valid, " << n_refused << " refused");
    CHECK(n_valid > 0);
    CHECK((n_refused > 0 || target.name == "text"));
  }
  CHECK(files_in(corpus).size() == std::size(kFuzzTargets));
}

TEST_CASE("T7_corpus_replay: truncations of the corpus") {
  for (const FuzzTarget& target : kFuzzTargets) {
    for (const auto& path :
         files_in(std::filesystem::path(source_path("tests/fuzz/corpus")) / target.name)) {
      INFO(path.string());
      const std::vector<uint8_t> input = bytes_of(path);
      // Copies of their own, so that a sanitizer sees any read beyond them.
      for (size_t i = 0; i < 16; ++i)
        target.run(std::vector<uint8_t>(input.begin(),
                                        input.begin() + static_cast<long>(input.size() * i / 16)));
    }
  }
}

}  // namespace flexq::test
