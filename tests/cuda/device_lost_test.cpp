// T17: a lost device stays lost, says so at once, and takes nothing else with it.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cuda/substitute_backend.h"
#include "reliability/tiny_model.h"

namespace flexq::test {
namespace {

ModelHandle load_on(const char* device, flexq_status* status = nullptr) {
  const SourceHandle source = source_of(tiny_model_bytes("flexq"));
  const ModelOptionsHandle options = model_options(1);
  REQUIRE_OK(flexq_model_options_set_device(options.get(), device));
  ModelHandle model;
  const flexq_status loaded = create(model, flexq_model_load, source.get(), options.get());
  if (status != nullptr) {
    *status = loaded;
  } else {
    REQUIRE_OK(loaded);
  }
  return model;
}

int64_t calls_of(const SubstituteCuda& cuda, const char* name) {
  const auto found = cuda.calls_by_name().find(name);
  return found == cuda.calls_by_name().end() ? 0 : found->second;
}

flexq_status decode(flexq_context* context, int32_t n_tokens) {
  const std::vector<int32_t> tokens = tiny_tokens(n_tokens, 3);
  BatchHandle batch;
  REQUIRE_OK(create(batch, flexq_batch_create));
  REQUIRE_OK(flexq_batch_add(batch.get(), 0, tokens.data(), n_tokens, FLEXQ_OUTPUT_LAST));
  return flexq_context_decode(context, batch.get());
}

}  // namespace

TEST_CASE("T17_device_lost: every later call fails at once, a CPU context goes on") {
  const SubstituteBackend backend;
  SubstituteCuda& cuda = SubstituteBackend::cuda();
  const ModelHandle on_cpu = load_on("cpu");
  ContextHandle cpu_context;
  REQUIRE_OK(create(cpu_context, flexq_context_create, on_cpu.get(), nullptr));
  REQUIRE_OK(decode(cpu_context.get(), 5));
  const std::string expected = output_bytes(cpu_context.get());

  ModelHandle model = load_on("cuda:0");
  ContextHandle context;
  ContextHandle other;
  REQUIRE_OK(create(context, flexq_context_create, model.get(), nullptr));
  REQUIRE_OK(create(other, flexq_context_create, model.get(), nullptr));
  REQUIRE_OK(decode(context.get(), 5));
  REQUIRE_OK(decode(other.get(), 5));

  cuda.fail_call(7, cudaErrorIllegalAddress);
  REQUIRE(decode(context.get(), 1) == FLEXQ_ERROR_DEVICE_LOST);
  CHECK(std::string(flexq_last_error()).find("cuda:0") != std::string::npos);
  CHECK(std::string(flexq_last_error()).find("cudaErrorIllegalAddress") != std::string::npos);
  CHECK(SubstituteBackend::logged().find("cuda:0 is lost") != std::string::npos);
  CHECK(flexq_context_sequence_length(context.get(), 0) == 5);

  // No call reaches the runtime any more: neither of this context, nor of another, nor a new one.
  const int64_t calls = cuda.calls();
  const float* row = nullptr;
  CHECK(flexq_context_logits(other.get(), 0, &row, nullptr) == FLEXQ_ERROR_DEVICE_LOST);
  CHECK(decode(context.get(), 1) == FLEXQ_ERROR_DEVICE_LOST);
  CHECK(decode(other.get(), 1) == FLEXQ_ERROR_DEVICE_LOST);
  ContextHandle third;
  CHECK(create(third, flexq_context_create, model.get(), nullptr) == FLEXQ_ERROR_DEVICE_LOST);
  flexq_status status = FLEXQ_OK;
  load_on("cuda:0", &status);
  CHECK(status == FLEXQ_ERROR_DEVICE_LOST);
  CHECK(cuda.calls() == calls);

  // Host memory goes, device memory is left alone.
  const int64_t device_bytes = cuda.live().device_bytes;
  const int64_t n_freed = calls_of(cuda, "free");
  context.reset();
  other.reset();
  model.reset();
  CHECK(cuda.live().pinned_blocks == 0);
  CHECK(cuda.live().device_bytes == device_bytes);
  CHECK(calls_of(cuda, "free") == n_freed);

  REQUIRE_OK(flexq_context_rewind(cpu_context.get(), 0, 0));
  REQUIRE_OK(decode(cpu_context.get(), 5));
  CHECK(output_bytes(cpu_context.get()) == expected);
  CHECK(cuda.misuse() == "");
}

TEST_CASE("T17_device_lost: a fork of the process cannot use CUDA and leaves it alone") {
  const SubstituteBackend backend;
  ModelHandle model = load_on("cuda:0");
  ContextHandle context;
  REQUIRE_OK(create(context, flexq_context_create, model.get(), nullptr));
  REQUIRE_OK(decode(context.get(), 5));
  const pid_t child = fork();
  if (child == 0) {
    const int64_t calls = SubstituteBackend::cuda().calls();
    const bool refused = decode(context.get(), 1) == FLEXQ_ERROR_INVALID_STATE;
    flexq_status status = FLEXQ_OK;
    load_on("cuda:0", &status);
    const bool load_refused = status == FLEXQ_ERROR_INVALID_STATE;
    context.reset();
    model.reset();
    const bool untouched = SubstituteBackend::cuda().calls() == calls;
    _exit(refused && load_refused && untouched ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  REQUIRE_OK(decode(context.get(), 1));
}

}  // namespace flexq::test
