// T14: saving a sequence while any one system call, or every call from one on, fails, is
// interrupted, comes back short, or never returns because the process was killed. The file is the
// old one or the complete new one, and the next save removes what was left behind. Restoring it
// under the same faults restores all or nothing.
#include <doctest/doctest.h>

#include <cerrno>
#include <fstream>

#include "base/file.h"
#include "base/os_calls.h"
#include "reliability/call_gate.h"
#include "reliability/tiny_model.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr char kOldFile[] = "the file that was there before";
constexpr int32_t kTokens = 40;

// A context with something in sequence 0, and a path where a file may lie already.
class Workshop {
 public:
  explicit Workshop(bool with_old_file) : with_old_file_(with_old_file) {
    ContextOptionsHandle options;
    REQUIRE_OK(create(options, flexq_context_options_create));
    REQUIRE_OK(flexq_context_options_set_sequences(options.get(), 2));
    REQUIRE_OK(create(context_, flexq_context_create, model_.get(), options.get()));
    const std::vector<int32_t> tokens = tiny_tokens(kTokens, 1);
    BatchHandle batch;
    REQUIRE_OK(create(batch, flexq_batch_create));
    REQUIRE_OK(flexq_batch_add(batch.get(), 0, tokens.data(), kTokens, FLEXQ_OUTPUT_NONE));
    REQUIRE_OK(flexq_context_decode(context_.get(), batch.get()));
    put_old_file();
    REQUIRE_OK(save());
    expected_ = read_file_bytes(path_);
    put_old_file();
  }

  void put_old_file() {
    std::filesystem::remove(path_);
    if (with_old_file_) std::ofstream(path_, std::ios::binary) << kOldFile;
  }
  flexq_status save() const {
    return flexq_context_save_sequence(context_.get(), 0, path_.c_str());
  }
  flexq_status restore() const {
    return flexq_context_restore_sequence(context_.get(), 1, path_.c_str());
  }
  template <typename Call>
  flexq_status with(CallGate& gate, Call call) const {
    os::set_gate(CallGate::ask, &gate);
    const flexq_status status = call();
    os::set_gate(nullptr, nullptr);
    return status;
  }
  int32_t restored_tokens() const { return flexq_context_sequence_length(context_.get(), 1); }
  void empty() const { REQUIRE_OK(flexq_context_rewind(context_.get(), 1, 0)); }
  bool has_old() const {
    return with_old_file_ ? read_file_bytes(path_) == kOldFile : !std::filesystem::exists(path_);
  }
  bool has_new() const { return read_file_bytes(path_) == expected_; }
  // Saves once more, undisturbed, and sees that the new file is all there is.
  void check_next_save() const {
    REQUIRE_OK(save());
    REQUIRE(has_new());
    REQUIRE(*list_directory(output_.path()) == std::vector<std::string>{"session"});
  }

 private:
  const bool with_old_file_;
  const TemporaryDirectory output_ = [] {
    keep_temporaries_in_memory();
    return TemporaryDirectory();
  }();
  const std::string path_ = output_.file("session");
  const ModelHandle model_ = load_tiny_model("flexq", 1);
  ContextHandle context_;
  std::string expected_;
};

int count_calls(const Workshop& workshop) {
  CallGate counting;
  REQUIRE(workshop.with(counting, [&] { return workshop.save(); }) == FLEXQ_OK);
  return counting.calls;
}

void fail_every_call(Workshop& workshop, Fault fault, int error) {
  const int n_calls = count_calls(workshop);
  REQUIRE(n_calls >= 12);
  for (int k = 0; k < n_calls; ++k) {
    CAPTURE(k);
    CAPTURE(error);
    workshop.put_old_file();
    CallGate gate;
    gate.fault = fault;
    gate.error = error;
    gate.k = k;
    const flexq_status status = workshop.with(gate, [&] { return workshop.save(); });
    const std::string name = flexq_status_name(status);
    CAPTURE(name);
    const bool has_new = workshop.has_new();
    REQUIRE((has_new || workshop.has_old()));
    if (status == FLEXQ_OK) REQUIRE(has_new);
    // Only the last call, the sync of the folder, comes after the new file is in place.
    if (status != FLEXQ_OK && fault == Fault::kError && k < n_calls - 1)
      REQUIRE(workshop.has_old());
    if (status != FLEXQ_OK) REQUIRE(name == (error == ENOSPC ? "NO_SPACE" : "IO"));
    workshop.check_next_save();
  }
}

}  // namespace

TEST_CASE("T14_session_system_calls: any one call fails, or every call from one on") {
  for (const bool with_old_file : {true, false}) {
    Workshop workshop(with_old_file);
    for (const int error : {EIO, ENOSPC}) {
      fail_every_call(workshop, Fault::kError, error);
      fail_every_call(workshop, Fault::kErrorOnward, error);
    }
  }
}

TEST_CASE("T14_session_system_calls: any one call is interrupted or short, and goes on") {
  Workshop workshop(true);
  const int n_calls = count_calls(workshop);
  for (const Fault fault : {Fault::kError, Fault::kShort}) {
    for (int k = 0; k < n_calls; ++k) {
      CAPTURE(k);
      workshop.put_old_file();
      CallGate gate;
      gate.fault = fault;
      gate.error = EINTR;
      gate.k = k;
      REQUIRE(workshop.with(gate, [&] { return workshop.save(); }) == FLEXQ_OK);
      REQUIRE(workshop.has_new());
    }
  }
}

TEST_CASE("T14_session_system_calls: the process is killed at any call") {
  for (const bool with_old_file : {true, false}) {
    Workshop workshop(with_old_file);
    const int n_calls = count_calls(workshop);
    for (int k = 0; k <= n_calls; ++k) {
      CAPTURE(k);
      workshop.put_old_file();
      const int exit_status = exit_status_killed_at(
          k, [&](CallGate& gate) { return workshop.with(gate, [&] { return workshop.save(); }); });
      CHECK(exit_status == (k < n_calls ? kKilledExitStatus : 0));
      const bool has_new = workshop.has_new();
      REQUIRE((has_new || workshop.has_old()));
      if (k == n_calls) CHECK(has_new);
      workshop.check_next_save();
    }
  }
}

TEST_CASE("T14_session_system_calls: a restore reads everything or leaves the sequence empty") {
  const Workshop workshop(true);
  REQUIRE_OK(workshop.save());
  CallGate counting;
  REQUIRE(workshop.with(counting, [&] { return workshop.restore(); }) == FLEXQ_OK);
  workshop.empty();
  for (int k = 0; k < counting.calls; ++k) {
    CAPTURE(k);
    for (const auto& [fault, error] : {std::pair(Fault::kError, EIO),
                                       {Fault::kErrorOnward, EIO},
                                       {Fault::kError, EINTR},
                                       {Fault::kShort, 0}}) {
      CallGate gate;
      gate.fault = fault;
      gate.error = error;
      gate.k = k;
      const flexq_status status = workshop.with(gate, [&] { return workshop.restore(); });
      CHECK(status == (error == EIO ? FLEXQ_ERROR_IO : FLEXQ_OK));
      CHECK(workshop.restored_tokens() == (status == FLEXQ_OK ? kTokens : 0));
      workshop.empty();
    }
  }
}

}  // namespace flexq::test
