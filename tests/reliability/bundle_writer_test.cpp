// T14: quantizing to a file, or signing one, while any one system call, or every call from one on,
// fails, is interrupted, comes back short, or never returns because the process was killed. The
// file is the old one or the complete new one, and the next write removes what was left behind.
#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <fstream>

#include "base/file.h"
#include "base/os_calls.h"
#include "reliability/call_gate.h"
#include "reliability/tiny_model.h"
#include "support/test_data.h"
#include "support/test_keys.h"

namespace flexq::test {
namespace {

enum class Writer { kQuantize, kQuantizeOverOld, kSign };
constexpr Writer kWriters[] = {Writer::kQuantize, Writer::kQuantizeOverOld, Writer::kSign};

// A folder with a checkpoint, and an output path where a file may lie already.
class Workshop {
 public:
  explicit Workshop(Writer writer) : writer_(writer) {
    REQUIRE_OK(create(options_, flexq_quantize_options_create));
    REQUIRE_OK(flexq_quantize_options_set_threads(options_.get(), 2));
    put_old_file();
  }

  void put_old_file() {
    std::filesystem::remove(path_);
    if (writer_ != Writer::kQuantize) std::ofstream(path_, std::ios::binary) << old_file();
  }
  flexq_status write() const {
    if (writer_ != Writer::kSign)
      return flexq_quantize(checkpoint_.c_str(), path_.c_str(), options_.get());
    return flexq_bundle_sign(path_.c_str(), kTestSecretKey.data(),
                             static_cast<int64_t>(kTestSecretKey.size()), 2, nullptr, nullptr);
  }
  flexq_status write(CallGate& gate) const {
    os::set_gate(CallGate::ask, &gate);
    const flexq_status status = write();
    os::set_gate(nullptr, nullptr);
    return status;
  }
  bool has_old() const {
    return writer_ == Writer::kQuantize ? !std::filesystem::exists(path_)
                                        : read_file_bytes(path_) == old_file();
  }
  bool has_new() const {
    return read_file_bytes(path_) ==
           (writer_ == Writer::kSign ? signed_tiny_model_bytes() : tiny_model_bytes());
  }
  // Writes once more, undisturbed, and sees that the new file is all there is.
  void check_next_write() const {
    REQUIRE_OK(write());
    REQUIRE(has_new());
    REQUIRE(*list_directory(output_.path()) == std::vector<std::string>{"model.flexq"});
  }

 private:
  const std::string& old_file() const {
    static const std::string kOld = "the file that was there before";
    return writer_ == Writer::kSign ? tiny_model_bytes() : kOld;
  }

  const Writer writer_;
  const TemporaryDirectory input_ = [] {
    keep_temporaries_in_memory();
    return TemporaryDirectory();
  }();
  const TemporaryDirectory output_;
  const std::string checkpoint_ = write_tiny_checkpoint(input_.path());
  const std::string path_ = output_.file("model.flexq");
  QuantizeOptionsHandle options_;
};

int count_calls(Workshop& workshop) {
  workshop.put_old_file();
  CallGate counting;
  REQUIRE(workshop.write(counting) == FLEXQ_OK);
  REQUIRE(workshop.has_new());
  return counting.calls;
}

void fail_every_call(Workshop& workshop, Fault fault, int error) {
  const int n_calls = count_calls(workshop);
  REQUIRE(n_calls >= 30);
  for (int k = 0; k < n_calls; ++k) {
    CAPTURE(k);
    CAPTURE(error);
    workshop.put_old_file();
    CallGate gate;
    gate.fault = fault;
    gate.error = error;
    gate.k = k;
    const flexq_status status = workshop.write(gate);
    const std::string name = flexq_status_name(status);
    CAPTURE(name);
    const bool has_new = workshop.has_new();
    REQUIRE((has_new || workshop.has_old()));
    if (status == FLEXQ_OK) REQUIRE(has_new);
    // Only the last call, the sync of the folder, comes after the new file is in place.
    if (status != FLEXQ_OK && fault == Fault::kError && k < n_calls - 1)
      REQUIRE(workshop.has_old());
    if (status != FLEXQ_OK) {
      // A path that cannot be looked at counts as not found; everything else says what happened.
      const bool looked = gate.struck_call == static_cast<int>(os::Call::kStat);
      const bool right = error == ENOSPC ? name == "NO_SPACE" : name == "IO";
      REQUIRE((right || (looked && name == "NOT_FOUND")));
    }
    workshop.check_next_write();
  }
}

}  // namespace

TEST_CASE("T14_writer_system_calls: any one call fails") {
  for (const Writer writer : kWriters) {
    Workshop workshop(writer);
    for (const int error : {EIO, ENOSPC})
      fail_every_call(workshop, Fault::kError, error);
  }
}

TEST_CASE("T14_writer_system_calls: every call from one on fails") {
  for (const Writer writer : {Writer::kQuantizeOverOld, Writer::kSign}) {
    Workshop workshop(writer);
    for (const int error : {EIO, ENOSPC})
      fail_every_call(workshop, Fault::kErrorOnward, error);
  }
}

TEST_CASE("T14_writer_system_calls: any one call is interrupted or short, and goes on") {
  for (const Writer writer : {Writer::kQuantizeOverOld, Writer::kSign}) {
    Workshop workshop(writer);
    const int n_calls = count_calls(workshop);
    for (const Fault fault : {Fault::kError, Fault::kShort}) {
      for (int k = 0; k < n_calls; ++k) {
        CAPTURE(k);
        workshop.put_old_file();
        CallGate gate;
        gate.fault = fault;
        gate.error = EINTR;
        gate.k = k;
        REQUIRE(workshop.write(gate) == FLEXQ_OK);
        REQUIRE(workshop.has_new());
      }
    }
  }
}

TEST_CASE("T14_writer_system_calls: every call is interrupted once and every transfer is short") {
  for (const Writer writer : kWriters) {
    Workshop workshop(writer);
    std::atomic<int> calls{0};
    os::set_gate(
        [](os::Call, void* user_data) {
          if ((*static_cast<std::atomic<int>*>(user_data))++ % 2 == 0)
            return os::Fault{.error = EINTR};
          return os::Fault{.max_bytes = 100};
        },
        &calls);
    const flexq_status status = workshop.write();
    os::set_gate(nullptr, nullptr);
    CHECK(status == FLEXQ_OK);
    CHECK(workshop.has_new());
  }
}

TEST_CASE("T14_writer_system_calls: the process is killed at any call") {
  for (const Writer writer : kWriters) {
    Workshop workshop(writer);
    const int n_calls = count_calls(workshop);
    for (int k = 0; k <= n_calls; ++k) {
      CAPTURE(k);
      workshop.put_old_file();
      const int exit_status =
          exit_status_killed_at(k, [&](CallGate& gate) { return workshop.write(gate); });
      CHECK(exit_status == (k < n_calls ? kKilledExitStatus : 0));
      const bool has_new = workshop.has_new();
      REQUIRE((has_new || workshop.has_old()));
      if (k == n_calls) CHECK(has_new);
      workshop.check_next_write();
    }
  }
}

}  // namespace flexq::test
