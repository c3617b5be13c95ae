// Writes the corpus: fuzz_corpus tests/fuzz/corpus. Other files in the folders stay: what fuzzing
// found, under names that say what it was.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "fuzz/seeds.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_corpus FOLDER\n");
    return 2;
  }
  try {
    flexq::test::Seeds seeds;
    flexq::test::add_bundle_seeds(seeds);
    flexq::test::add_checkpoint_seeds(seeds);
    flexq::test::add_session_seeds(seeds);
    flexq::test::add_tokenizer_seeds(seeds);
    size_t n_bytes = 0;
    for (const auto& [name, bytes] : seeds) {
      const std::filesystem::path path = std::filesystem::path(argv[1]) / name;
      std::filesystem::create_directories(path.parent_path());
      std::ofstream file(path, std::ios::binary);
      file << bytes;
      if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
      n_bytes += bytes.size();
    }
    std::printf("%zu files, %zu bytes\n", seeds.size(), n_bytes);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
