// T12: any call of the CUDA runtime fails, once: out of memory, or with an error that loses the
// device. Through flexq.h, from load to release, on a substitute runtime.
#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "cuda/substitute_backend.h"
#include "reliability/tiny_model.h"

namespace flexq::test {
namespace {

// A program's life with a model on "cuda:0", in steps that may fail one by one.
class Program {
 public:
  flexq_status load(const std::string& policy) {
    source_ = source_of(tiny_model_bytes(policy));
    ModelOptionsHandle options = model_options(2);
    REQUIRE_OK(flexq_model_options_set_device(options.get(), "cuda:0"));
    return create(model_, flexq_model_load, source_.get(), options.get());
  }
  flexq_status create_context() {
    ContextOptionsHandle options;
    REQUIRE_OK(create(options, flexq_context_options_create));
    REQUIRE_OK(flexq_context_options_set_sequences(options.get(), 3));
    REQUIRE_OK(flexq_context_options_set_chunk_tokens(options.get(), 8));
    REQUIRE_OK(flexq_context_options_set_outputs(options.get(), 4));
    return create(context_, flexq_context_create, model_.get(), options.get());
  }
  // Sequence 0, in several chunks, with scattered output rows; then its logits and embedding.
  flexq_status prefill() {
    const std::vector<int32_t> tokens = tiny_tokens(20, 1);
    flexq_status status = decode(0, tokens, FLEXQ_OUTPUT_LAST);
    const float* row = nullptr;
    if (status == FLEXQ_OK) status = flexq_context_logits(context_.get(), 0, &row, nullptr);
    if (status == FLEXQ_OK) status = flexq_context_embedding(context_.get(), 0, &row, nullptr);
    return status;
  }
  // A fork, whose next token copies a page; two sequences at once.
  flexq_status decode_batch() {
    flexq_status status = flexq_context_fork(context_.get(), 0, 1);
    BatchHandle batch;
    REQUIRE_OK(create(batch, flexq_batch_create));
    const int32_t tokens[] = {3, 4};
    REQUIRE_OK(flexq_batch_add(batch.get(), 1, tokens, 2, FLEXQ_OUTPUT_ALL));
    REQUIRE_OK(flexq_batch_add(batch.get(), 0, tokens, 2, FLEXQ_OUTPUT_LAST));
    if (status == FLEXQ_OK) status = flexq_context_decode(context_.get(), batch.get());
    return status;
  }
  // Sequence 0 to memory, and back as sequence 2.
  flexq_status save_and_restore() {
    int64_t n_bytes = 0;
    static_cast<void>(
        flexq_context_save_sequence_to_memory(context_.get(), 0, nullptr, 0, &n_bytes));
    std::vector<char> bytes(static_cast<size_t>(n_bytes));
    flexq_status status =
        flexq_context_save_sequence_to_memory(context_.get(), 0, bytes.data(), n_bytes, &n_bytes);
    if (status == FLEXQ_OK) {
      status = flexq_context_restore_sequence_from_memory(context_.get(), 2, bytes.data(), n_bytes);
    }
    const int32_t length = flexq_context_sequence_length(context_.get(), 2);
    CHECK(length == (status == FLEXQ_OK ? flexq_context_sequence_length(context_.get(), 0) : 0));
    if (status == FLEXQ_OK) {
      std::vector<char> again(bytes.size());
      status =
          flexq_context_save_sequence_to_memory(context_.get(), 2, again.data(), n_bytes, &n_bytes);
      if (status == FLEXQ_OK) CHECK(again == bytes);
    }
    REQUIRE_OK(flexq_context_rewind(context_.get(), 2, 0));
    return status;
  }
  flexq_status generate() {
    REQUIRE_OK(flexq_context_rewind(context_.get(), 0, 0));
    SamplingHandle sampling;
    REQUIRE_OK(create(sampling, flexq_sampling_create));
    REQUIRE_OK(flexq_sampling_set_temperature(sampling.get(), 0.7f));
    GeneratorOptionsHandle options;
    REQUIRE_OK(create(options, flexq_generator_options_create));
    REQUIRE_OK(flexq_generator_options_set_sampling(options.get(), sampling.get()));
    REQUIRE_OK(flexq_generator_options_set_max_tokens(options.get(), 5));
    GeneratorHandle generator;
    REQUIRE_OK(create(generator, flexq_generator_create, context_.get(), options.get()));
    REQUIRE_OK(flexq_generator_start(generator.get(), "a prompt", 8, FLEXQ_ENCODE_DEFAULT));
    return flexq_generator_run(generator.get(), nullptr, nullptr);
  }
  flexq_status score() {
    REQUIRE_OK(flexq_context_rewind(context_.get(), 0, 0));
    const std::vector<int32_t> tokens = tiny_tokens(20, 2);
    std::vector<float> log_probs(tokens.size() - 1);
    return flexq_context_score(context_.get(), tokens.data(), static_cast<int32_t>(tokens.size()),
                               log_probs.data(), nullptr, nullptr);
  }
  flexq_status release() {
    context_.reset();
    model_.reset();
    source_.reset();
    return FLEXQ_OK;
  }

 private:
  flexq_status decode(int32_t sequence, const std::vector<int32_t>& tokens, int32_t output) {
    BatchHandle batch;
    REQUIRE_OK(create(batch, flexq_batch_create));
    REQUIRE_OK(flexq_batch_add(batch.get(), sequence, tokens.data(),
                               static_cast<int32_t>(tokens.size()), output));
    return flexq_context_decode(context_.get(), batch.get());
  }

  SourceHandle source_;
  ModelHandle model_;
  ContextHandle context_;
};

struct Step {
  const char* name;
  std::function<flexq_status(Program&)> run;
};

std::vector<Step> steps(const std::string& policy) {
  return {{"load", [policy](Program& program) { return program.load(policy); }},
          {"create", &Program::create_context},
          {"prefill", &Program::prefill},
          {"decode", &Program::decode_batch},
          {"save and restore", &Program::save_and_restore},
          {"generate", &Program::generate},
          {"score", &Program::score},
          {"release", &Program::release}};
}

constexpr int64_t kCallsBeforeSession = 2;  // get_device_count, get_device_properties

struct Outcome {
  int64_t failures = 0;  // calls that failed and were reported
  int64_t unseen = 0;    // calls whose failure changed nothing: giving things back
};

// Runs the steps before `target`, then `target` with its k-th CUDA call failing, then, unless the
// device is lost, `target` and the rest again. False when there is no k-th call.
bool run_with_failure(const std::string& policy, size_t target, int64_t k, cudaError_t error,
                      Outcome& outcome) {
  const SubstituteBackend backend;
  SubstituteCuda& cuda = SubstituteBackend::cuda();
  const bool lost = error != cudaErrorMemoryAllocation;
  const std::vector<Step> all = steps(policy);
  bool failed = false;
  {
    Program program;
    for (size_t i = 0; i < target; ++i)
      REQUIRE_OK(all[i].run(program));
    cuda.fail_call(k, error);
    const flexq_status status = all[target].run(program);
    failed = cuda.failed();
    CAPTURE(std::string(all[target].name));
    CAPTURE(k);
    CAPTURE(std::string(flexq_last_error()));
    if (failed) {
      const flexq_status expected = lost ? FLEXQ_ERROR_DEVICE_LOST : FLEXQ_ERROR_OUT_OF_MEMORY;
      if (status == FLEXQ_OK) {
        ++outcome.unseen;
      } else {
        ++outcome.failures;
        REQUIRE(status == expected);
      }
      // The rest works after an ordinary error, and fails at once after a sticky one.
      const size_t next = status == FLEXQ_OK ? target + 1 : target;
      for (size_t i = next; i < all.size(); ++i) {
        if (lost && i + 1 < all.size()) {
          if (i > next && (next <= 1 || i > next + 1)) break;
          const int64_t calls = cuda.calls();
          REQUIRE(all[i].run(program) == FLEXQ_ERROR_DEVICE_LOST);
          // Before there is a session, a new load looks at the machine afresh.
          const bool has_session = target > 0 || k >= kCallsBeforeSession;
          if (has_session) CHECK(cuda.calls() == calls);
          break;
        }
        const flexq_status again = all[i].run(program);
        INFO(all[i].name, ": ", flexq_last_error());
        REQUIRE(again == FLEXQ_OK);
      }
    }
  }
  CHECK(cuda.misuse() == "");
  const SubstituteCuda::Live live = cuda.live();
  // A lost device keeps its memory and handles; host memory is always given back.
  CHECK(live.pinned_blocks == 0);
  if (!lost) CHECK(live.none());
  return failed;
}

void fail_every_call(const std::string& policy, cudaError_t error) {
  const size_t n_steps = steps(policy).size();
  Outcome outcome;
  int64_t n_calls = 0;
  for (size_t target = 0; target < n_steps; ++target) {
    for (int64_t k = 0; run_with_failure(policy, target, k, error, outcome); ++k)
      ++n_calls;
  }
  const std::string error_name = SubstituteCuda::runtime().get_error_name(error);
  MESSAGE(policy << ", " << error_name << ": " << n_calls << " calls failed, " << outcome.failures
                 << " seen as a status, " << outcome.unseen << " without consequence");
  CHECK(outcome.failures > 100);
}

}  // namespace

TEST_CASE("T12_cuda_call_failures: out of memory at any call, then the same call succeeds") {
  for (const char* policy : {"flexq", "fp16"})
    fail_every_call(policy, cudaErrorMemoryAllocation);
}

TEST_CASE("T12_cuda_call_failures: an illegal address at any call loses the device") {
  fail_every_call("flexq", cudaErrorIllegalAddress);
}

TEST_CASE("T12_cuda_call_failures: a failed launch at any call loses the device") {
  fail_every_call("w6a16", cudaErrorLaunchFailure);
}

}  // namespace flexq::test
