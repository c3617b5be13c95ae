#include "base/file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/byte_source.h"
#include "base/os_calls.h"
#include "support/test_data.h"

namespace flexq {
namespace {

void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TEST_CASE("file: reading at offsets, and past the end") {
  const test::TemporaryDirectory folder;
  const std::string path = folder.file("data");
  write_file(path, "0123456789");
  auto file = File::open_read(path);
  REQUIRE(file.ok());
  CHECK(*file->size() == 10);
  std::vector<uint8_t> out(4);
  REQUIRE(file->read_at(6, out).ok());
  CHECK(std::string(out.begin(), out.end()) == "6789");
  const Status past = file->read_at(7, out);
  CHECK(past.code() == StatusCode::kCorrupt);
  CHECK(past.message() == path + ": 4 bytes expected at offset 7, but the file ends at 10");
  CHECK(file->read_at(100, out).code() == StatusCode::kCorrupt);
  CHECK(file->read_at(10, {}).ok());
}

TEST_CASE("file: what cannot be opened is refused by name") {
  const test::TemporaryDirectory folder;
  const auto missing = File::open_read(folder.file("missing"));
  CHECK(missing.status().code() == StatusCode::kNotFound);
  CHECK(missing.status().message() ==
        folder.file("missing") + ": cannot open: No such file or directory");
  CHECK(File::open_read(folder.path()).status().code() == StatusCode::kInvalidArgument);
  CHECK(File::open_read(std::string("a\0b", 3)).status().code() == StatusCode::kInvalidArgument);
  REQUIRE(mkfifo(folder.file("fifo").c_str(), 0600) == 0);
  CHECK(File::open_read(folder.file("fifo")).status().code() == StatusCode::kInvalidArgument);
  CHECK(list_directory(folder.file("missing")).status().code() == StatusCode::kNotFound);
}

TEST_CASE("file: whole texts up to a limit, folders in order") {
  const test::TemporaryDirectory folder;
  write_file(folder.file("b"), "12345");
  write_file(folder.file("a"), "");
  CHECK(*read_text_file(folder.file("b"), 5) == "12345");
  CHECK(read_text_file(folder.file("b"), 4).status().code() == StatusCode::kLimitExceeded);
  CHECK(read_text_file(folder.file("a"), 0)->empty());
  CHECK(*list_directory(folder.path()) == std::vector<std::string>{"a", "b"});
  CHECK(is_directory(folder.path()));
  CHECK_FALSE(is_directory(folder.file("a")));
  CHECK(is_regular_file(folder.file("a")));
  CHECK_FALSE(is_regular_file(folder.file("c")));
}

TEST_CASE("file: links lead to a path without them") {
  const test::TemporaryDirectory directory;
  const std::string folder = std::filesystem::canonical(directory.path()).string();
  write_file(directory.file("f"), "x");
  std::filesystem::create_symlink("f", directory.file("near"));
  std::filesystem::create_symlink(directory.file("near"), directory.file("far"));
  std::filesystem::create_symlink("absent", directory.file("dangling"));
  for (const char* name : {"f", "near", "far"})
    CHECK(*resolve_links(directory.file(name)) == folder + "/f");
  CHECK(resolve_links(directory.file("dangling")).status().code() == StatusCode::kNotFound);
  CHECK(resolve_links(std::string("a\0b", 3)).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("file: interrupted and short reads are continued, others reported") {
  const test::TemporaryDirectory folder;
  write_file(folder.file("data"), "0123456789");
  int calls = 0;
  os::set_gate(
      [](os::Call call, void* user_data) {
        if (call != os::Call::kRead) return os::Fault{};
        const int k = (*static_cast<int*>(user_data))++;
        return k % 2 == 0 ? os::Fault{.error = EINTR} : os::Fault{.max_bytes = 3};
      },
      &calls);
  const auto text = read_text_file(folder.file("data"), 100);
  os::set_gate([](os::Call call, void*) { return os::Fault{call == os::Call::kRead ? EIO : 0}; },
               nullptr);
  const auto failed = read_text_file(folder.file("data"), 100);
  os::set_gate(nullptr, nullptr);
  CHECK(*text == "0123456789");
  CHECK(calls == 8);
  CHECK(failed.status().code() == StatusCode::kIo);
}

TEST_CASE("byte source: file and memory answer alike") {
  const test::TemporaryDirectory folder;
  const std::string text = "the same bytes";
  write_file(folder.file("data"), text);
  auto file = open_file_source(folder.file("data"));
  REQUIRE(file.ok());
  const auto memory =
      make_memory_source({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  CHECK((*file)->name() == folder.file("data"));
  CHECK(memory->name() == "memory");
  const auto size = static_cast<int64_t>(text.size());
  for (ByteSource* source : {file->get(), memory.get()}) {
    CHECK(source->size() == size);
    std::vector<uint8_t> out(5);
    REQUIRE(source->read_at(size - 5, out).ok());
    CHECK(std::string(out.begin(), out.end()) == "bytes");
    CHECK(source->read_at(size - 4, out).code() == StatusCode::kCorrupt);
    CHECK(source->read_at(size, {}).ok());
    CHECK(source->read_at(size + 1, {}).code() == StatusCode::kCorrupt);
    CHECK(source->read_at(-1, out).code() == StatusCode::kCorrupt);
    CHECK(source->read_at(INT64_MAX - 2, out).code() == StatusCode::kCorrupt);
  }
}

}  // namespace
}  // namespace flexq
