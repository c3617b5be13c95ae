// AtomicFile: the file under the name is the old one or the complete new one, whatever happens.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/os_calls.h"
#include "support/test_data.h"

namespace flexq {
namespace {

const std::string kOld = "the old file";
const std::string kNew = "the new file, somewhat longer than the old one";

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// Writes kNew in two pieces, back to front, as the writers of bundles do.
Status write_new(const std::string& path) {
  auto file = AtomicFile::create(path);
  if (!file.ok()) return std::move(file).status();
  const auto bytes = bytes_of(kNew);
  FLEXQ_RETURN_IF_ERROR(file->write_at(10, bytes.subspan(10)));
  FLEXQ_RETURN_IF_ERROR(file->write_at(0, bytes.first(10)));
  return file->publish();
}

std::string content(const std::string& path) {
  return *read_text_file(path, 1000);
}

// A gate that interferes with the k-th system call, counted from 0.
struct KthCall {
  int k = 0;
  int error = 0;
  bool end_process = false;
  bool every_call_from_k = false;
  int calls = 0;
};

os::Fault interfere(os::Call, void* user_data) {
  auto* kth = static_cast<KthCall*>(user_data);
  const int call = kth->calls++;
  const bool hit = kth->every_call_from_k ? call >= kth->k : call == kth->k;
  if (!hit) return {};
  if (kth->end_process) _exit(42);
  return {.error = kth->error};
}

TEST_CASE("T14_atomic_file: publishing replaces, anything else leaves what was there") {
  const test::TemporaryDirectory folder;
  const std::string path = folder.file("model.flexq");
  write_file(path, kOld);
  {
    auto file = AtomicFile::create(path);
    REQUIRE(file.ok());
    REQUIRE(file->write_at(0, bytes_of(kNew)).ok());
    AtomicFile moved = std::move(*file);
    CHECK(content(path) == kOld);
    CHECK(list_directory(folder.path())->size() == 2);
  }
  CHECK(*list_directory(folder.path()) == std::vector<std::string>{"model.flexq"});
  CHECK(content(path) == kOld);

  REQUIRE(write_new(path).ok());
  CHECK(*list_directory(folder.path()) == std::vector<std::string>{"model.flexq"});
  CHECK(content(path) == kNew);

  auto file = AtomicFile::create(path);
  REQUIRE(file->publish().ok());
  CHECK(file->publish().code() == StatusCode::kInvalidState);
  CHECK(content(path).empty());
}

TEST_CASE("T14_atomic_file: the mode is 0666 without the umask") {
  const test::TemporaryDirectory folder;
  const mode_t before = umask(027);
  const Status status = write_new(folder.file("out"));
  umask(before);
  REQUIRE(status.ok());
  struct stat info {};
  REQUIRE(stat(folder.file("out").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("T14_atomic_file: the mode of the old file is kept on request") {
  const test::TemporaryDirectory directory;
  const std::string path = directory.file("f");
  write_file(path, kOld);
  for (const mode_t mode : {mode_t{0600}, mode_t{0640}, mode_t{0755}, mode_t{0444}}) {
    REQUIRE(chmod(path.c_str(), mode) == 0);
    auto file = AtomicFile::create(path);
    REQUIRE(file.ok());
    REQUIRE(file->keep_permissions().ok());
    REQUIRE(file->write_at(0, bytes_of(kNew)).ok());
    REQUIRE(file->publish().ok());
    struct stat info {};
    REQUIRE(stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == mode);
    CHECK(content(path) == kNew);
  }
  auto file = AtomicFile::create(directory.file("new"));
  REQUIRE(file.ok());
  CHECK(file->keep_permissions().code() == StatusCode::kNotFound);
}

TEST_CASE("T14_atomic_file: targets that are not files are refused by name") {
  const test::TemporaryDirectory folder;
  const Status is_folder = AtomicFile::create(folder.path()).status();
  CHECK(is_folder.code() == StatusCode::kInvalidArgument);
  CHECK(is_folder.message().find(folder.path()) != std::string::npos);
  CHECK(AtomicFile::create(folder.path() + "/").status().code() == StatusCode::kInvalidArgument);
  CHECK(AtomicFile::create("").status().code() == StatusCode::kInvalidArgument);
  CHECK(AtomicFile::create("/dev/null").status().code() == StatusCode::kInvalidArgument);
  CHECK(AtomicFile::create(folder.file("missing/out")).status().code() == StatusCode::kNotFound);
  write_file(folder.file("plain"), "");
  CHECK(AtomicFile::create(folder.file("plain/out")).status().code() == StatusCode::kNotFound);
}

TEST_CASE("T14_atomic_file: left-overs of dead writers are swept, nothing else") {
  const test::TemporaryDirectory folder;
  const std::string path = folder.file("out");
  const pid_t dead = fork();
  if (dead == 0) _exit(0);
  REQUIRE(waitpid(dead, nullptr, 0) == dead);

  const std::vector<std::string> stale = {".out.flexq-tmp-" + std::to_string(dead) + "-0",
                                          // our own id, but nobody holds its lock
                                          ".out.flexq-tmp-" + std::to_string(getpid()) + "-999999"};
  std::vector<std::string> kept = {
      ".other.flexq-tmp-" + std::to_string(dead) + "-0",
      ".out.flexq-tmp-" + std::to_string(dead) + "-",
      ".out.flexq-tmp-" + std::to_string(dead) + "-0x",
      ".out.flexq-tmp-x-0",
      ".out.flexq-tmp-" + std::to_string(getppid()) + "-0",  // a living process
      "out.flexq-tmp-" + std::to_string(dead) + "-0"};
  for (const auto& name : stale)
    write_file(folder.file(name), "stale");
  for (const auto& name : kept)
    write_file(folder.file(name), "kept");

  auto in_use = AtomicFile::create(path);  // of this process, alive
  REQUIRE(in_use.ok());
  REQUIRE(write_new(path).ok());
  REQUIRE(in_use->publish().ok());
  kept.push_back("out");
  std::sort(kept.begin(), kept.end());
  CHECK(*list_directory(folder.path()) == kept);
}

TEST_CASE("T14_atomic_file: a failure of any system call leaves the old file or the new one") {
  const test::TemporaryDirectory folder;
  const std::string path = folder.file("out");
  KthCall counting{.k = -1};
  os::set_gate(interfere, &counting);
  REQUIRE(write_new(path).ok());
  os::set_gate(nullptr, nullptr);
  CHECK(counting.calls >= 10);

  for (const bool every_call_from_k : {false, true}) {
    for (const int error : {EIO, ENOSPC, EDQUOT, EACCES}) {
      for (int k = 0; k < counting.calls; ++k) {
        CAPTURE(every_call_from_k);
        CAPTURE(error);
        CAPTURE(k);
        write_file(path, kOld);
        KthCall failing{.k = k, .error = error, .every_call_from_k = every_call_from_k};
        os::set_gate(interfere, &failing);
        const Status status = write_new(path);
        os::set_gate(nullptr, nullptr);
        const std::string found = content(path);
        // The sync of the folder comes after the rename: its failure alone is reported on a
        // complete new file. Calls of the sweep and the lock may fail unnoticed.
        REQUIRE((found == kOld || found == kNew));
        if (status.ok()) REQUIRE(found == kNew);
        if (!status.ok()) {
          const bool is_space = error == ENOSPC || error == EDQUOT;
          CHECK(status.code() == (is_space ? StatusCode::kNoSpace : StatusCode::kIo));
          CHECK(status.message().find(folder.path()) == 0);
        }
        // When the removal of the temporary failed too, the next writer sweeps it.
        REQUIRE(write_new(path).ok());
        REQUIRE(list_directory(folder.path())->size() == 1);
      }
    }
  }
}

TEST_CASE("T14_atomic_file: interrupted and short writes are continued") {
  const test::TemporaryDirectory folder;
  const std::string path = folder.file("out");
  int calls = 0;
  os::set_gate(
      [](os::Call call, void* user_data) {
        const int k = (*static_cast<int*>(user_data))++;
        if (k % 2 == 0) return os::Fault{.error = EINTR};
        return call == os::Call::kWrite ? os::Fault{.max_bytes = 3} : os::Fault{};
      },
      &calls);
  const Status status = write_new(path);
  os::set_gate(nullptr, nullptr);
  REQUIRE(status.ok());
  CHECK(content(path) == kNew);

  os::set_gate(
      [](os::Call call, void*) {
        return call == os::Call::kWrite ? os::Fault{.max_bytes = 0} : os::Fault{};
      },
      nullptr);
  const Status stuck = write_new(path);
  os::set_gate(nullptr, nullptr);
  CHECK(stuck.code() == StatusCode::kIo);
}

TEST_CASE(
    "T14_atomic_file: a writer killed at any system call leaves the old file or the new one") {
  const test::TemporaryDirectory folder;
  const std::string path = folder.file("out");
  KthCall counting{.k = -1};
  os::set_gate(interfere, &counting);
  REQUIRE(write_new(path).ok());
  os::set_gate(nullptr, nullptr);

  for (int k = 0; k <= counting.calls; ++k) {
    CAPTURE(k);
    write_file(path, kOld);
    const pid_t child = fork();
    if (child == 0) {
      KthCall deadly{.k = k, .end_process = true};
      os::set_gate(interfere, &deadly);
      _exit(write_new(path).ok() ? 0 : 1);
    }
    int exit_status = 0;
    REQUIRE(waitpid(child, &exit_status, 0) == child);
    REQUIRE(WIFEXITED(exit_status));
    CHECK(WEXITSTATUS(exit_status) == (k < counting.calls ? 42 : 0));
    const std::string found = content(path);
    REQUIRE((found == kOld || found == kNew));
    if (k == counting.calls) CHECK(found == kNew);
    REQUIRE(write_new(path).ok());
    REQUIRE(list_directory(folder.path())->size() == 1);
  }
}

TEST_CASE("T14_atomic_file: a real limit on file size is no-space") {
  const test::TemporaryDirectory folder;
  const std::string path = folder.file("out");
  write_file(path, kOld);
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{20, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  const Status status = write_new(path);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  signal(SIGXFSZ, handler);
  CHECK(status.code() == StatusCode::kNoSpace);
  CHECK(content(path) == kOld);
  CHECK(list_directory(folder.path())->size() == 1);
}

}  // namespace
}  // namespace flexq
