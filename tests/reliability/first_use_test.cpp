// T11 in a process that has not used the library yet: what is made once per process (libcrypto's
// tables, static objects) must survive a failed allocation too. Every attempt is a forked child;
// the parent itself never calls the library.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>

#include "reliability/allocation_faults.h"
#include "reliability/tiny_model.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

enum ExitCode : int { kLoaded = 0, kNoMemoryThenLoaded = 1, kWrongStatus = 2, kNeverLoaded = 3 };

template <typename Body>
int run_in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE_MESSAGE(WIFEXITED(status), "the child was killed by signal " << WTERMSIG(status));
  return WEXITSTATUS(status);
}

flexq_status load(const std::string& path) {
  flexq_build_info();
  SourceHandle source;
  flexq_status status = create(source, flexq_source_open, path.c_str());
  ModelHandle model;
  if (status == FLEXQ_OK) status = create(model, flexq_model_load, source.get(), nullptr);
  return status;
}

int load_with_fault(const std::string& path, int64_t k, bool onward) {
  flexq_status status = FLEXQ_OK;
  {
    const AllocationFault fault(Allocations::kHeap, k, onward);
    status = load(path);
  }
  if (status == FLEXQ_OK) return kLoaded;
  if (status != FLEXQ_ERROR_OUT_OF_MEMORY) return kWrongStatus;
  return load(path) == FLEXQ_OK ? kNoMemoryThenLoaded : kNeverLoaded;
}

}  // namespace

TEST_CASE("T11_first_use: any allocation of the first load in a process fails") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  REQUIRE(run_in_child([&] {
            const std::string checkpoint = write_tiny_checkpoint(directory.path());
            return flexq_quantize(checkpoint.c_str(), path.c_str(), nullptr) == FLEXQ_OK ? 0 : 1;
          }) == 0);
  int64_t n_allocations = 0;
  int pipe_ends[2];
  REQUIRE(pipe(pipe_ends) == 0);
  REQUIRE(run_in_child([&] {
            int64_t count = 0;
            {
              const AllocationFault counting(Allocations::kHeap, INT64_MAX, false);
              if (load(path) != FLEXQ_OK) return 1;
              count = counting.count();
            }
            return write(pipe_ends[1], &count, sizeof count) == sizeof count ? 0 : 1;
          }) == 0);
  REQUIRE(read(pipe_ends[0], &n_allocations, sizeof n_allocations) == sizeof n_allocations);
  close(pipe_ends[0]);
  close(pipe_ends[1]);

  std::map<int, int64_t> outcomes;
  for (const bool onward : {false, true}) {
    // Every k at the start, where libcrypto begins; about 100 of the others.
    const int64_t step = std::max<int64_t>(1, n_allocations / 100);
    for (int64_t k = 0; k < n_allocations; k += k < 64 ? 1 : step) {
      CAPTURE(k);
      CAPTURE(onward);
      const int outcome = run_in_child([&] { return load_with_fault(path, k, onward); });
      ++outcomes[outcome];
      REQUIRE((outcome == kLoaded || outcome == kNoMemoryThenLoaded));
    }
  }
  MESSAGE(n_allocations << " allocations; " << outcomes[kNoMemoryThenLoaded]
                        << " attempts without memory, " << outcomes[kLoaded]
                        << " that did without");
}

}  // namespace flexq::test
