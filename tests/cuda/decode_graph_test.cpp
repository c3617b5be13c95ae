// Decode steps as CUDA graphs, on the substitute runtime: what is queued launch by launch, what is
// captured, what is replayed, and that a refused graph costs speed only.
#include <doctest/doctest.h>

#include "cuda/substitute_backend.h"
#include "reliability/tiny_model.h"

namespace flexq::test {
namespace {

int64_t calls_of(const char* name) {
  const auto& calls = SubstituteBackend::cuda().calls_by_name();
  const auto found = calls.find(name);
  return found == calls.end() ? 0 : found->second;
}

struct Decoder {
  SubstituteBackend backend;
  SourceHandle source = source_of(tiny_model_bytes("flexq"));
  ModelHandle model;
  ContextHandle context;

  explicit Decoder(int32_t n_sequences = 1) {
    const ModelOptionsHandle options = model_options(1);
    REQUIRE_OK(flexq_model_options_set_device(options.get(), "cuda:0"));
    REQUIRE_OK(create(model, flexq_model_load, source.get(), options.get()));
    ContextOptionsHandle context_options;
    REQUIRE_OK(create(context_options, flexq_context_options_create));
    REQUIRE_OK(flexq_context_options_set_sequences(context_options.get(), n_sequences));
    REQUIRE_OK(flexq_context_options_set_outputs(context_options.get(), n_sequences));
    REQUIRE_OK(create(context, flexq_context_create, model.get(), context_options.get()));
  }
  // One token for each of the first sequences.
  flexq_status step(int32_t n_sequences = 1, int32_t output = FLEXQ_OUTPUT_LAST) {
    BatchHandle batch;
    REQUIRE_OK(create(batch, flexq_batch_create));
    const int32_t token = 3;
    for (int32_t i = 0; i < n_sequences; ++i)
      REQUIRE_OK(flexq_batch_add(batch.get(), i, &token, 1, output));
    return flexq_context_decode(context.get(), batch.get());
  }
  int32_t length() const { return flexq_context_sequence_length(context.get(), 0); }
};

}  // namespace

TEST_CASE("a decode step is launched at first, then captured, then replayed in one call") {
  Decoder decoder;
  const SubstituteCuda& cuda = SubstituteBackend::cuda();
  const int64_t before = cuda.launches();
  const int64_t calls_before = calls_of("launch_kernel");  // packed weights
  REQUIRE_OK(decoder.step());
  const int64_t n_launches = cuda.launches() - before;
  CHECK(n_launches >= 5);
  CHECK(calls_of("stream_begin_capture") == 0);
  for (int i = 1; i <= 3; ++i) {
    REQUIRE_OK(decoder.step());
    CHECK(calls_of("graph_instantiate") == 1);
    CHECK(calls_of("graph_launch") == i);
    CHECK(cuda.launches() == before + (i + 1) * n_launches);
  }
  CHECK(calls_of("launch_kernel") == calls_before + 2 * n_launches);  // those of the capture too
  CHECK(decoder.length() == 4);
  CHECK(cuda.misuse() == "");
}

TEST_CASE("a decode step waits for the device once") {
  Decoder decoder;
  for (int i = 0; i < 4; ++i) {
    const int64_t waits = calls_of("stream_synchronize");
    const int64_t event_waits = calls_of("event_synchronize");
    REQUIRE_OK(decoder.step());
    CHECK(calls_of("stream_synchronize") == waits + 1);
    CHECK(calls_of("event_synchronize") == event_waits);
  }
  // A step without output rows waits at its end, too.
  const int64_t waits = calls_of("stream_synchronize");
  REQUIRE_OK(decoder.step(1, FLEXQ_OUTPUT_NONE));
  CHECK(calls_of("stream_synchronize") == waits + 1);
  CHECK(SubstituteBackend::cuda().misuse() == "");
}

TEST_CASE("a graph is made for each number of tokens and extent, and the oldest make room") {
  constexpr int32_t kSequences = 20;
  Decoder decoder(kSequences);
  for (int round = 0; round < 3; ++round) {
    for (const int32_t n_tokens : {1, 2})
      REQUIRE_OK(decoder.step(n_tokens));
    REQUIRE_OK(decoder.step(1, FLEXQ_OUTPUT_NONE));
  }
  CHECK(calls_of("graph_instantiate") == 3);
  CHECK(SubstituteBackend::cuda().live().graphs == 3);
  for (int round = 0; round < 3; ++round) {
    for (int32_t n_tokens = 1; n_tokens <= kSequences; ++n_tokens) {
      REQUIRE_OK(decoder.step(n_tokens));
      REQUIRE_OK(decoder.step(n_tokens));
    }
  }
  CHECK(SubstituteBackend::cuda().live().graphs == 16);
  CHECK(SubstituteBackend::cuda().misuse() == "");
}

TEST_CASE("without memory for a graph a step goes on launch by launch") {
  for (const char* refused : {"stream_begin_capture", "stream_end_capture", "graph_instantiate",
                              "graph_launch", "launch_kernel"}) {
    CAPTURE(refused);
    Decoder decoder;
    SubstituteCuda& cuda = SubstituteBackend::cuda();
    REQUIRE_OK(decoder.step());
    cuda.fail_next(refused, cudaErrorMemoryAllocation);
    const int64_t before = cuda.launches();
    REQUIRE_OK(decoder.step());
    CHECK(cuda.failed());
    const int64_t n_launches = cuda.launches() - before;
    CHECK(n_launches >= 5);
    const int64_t graph_launches = calls_of("graph_launch");
    REQUIRE_OK(decoder.step());
    CHECK(cuda.launches() == before + 2 * n_launches);
    CHECK(calls_of("graph_launch") == graph_launches);  // not tried again
    CHECK(decoder.length() == 3);
    decoder.context.reset();
    decoder.model.reset();
    CHECK(cuda.live().none());
    CHECK(cuda.misuse() == "");
  }
}

TEST_CASE("a step that is cancelled is not queued") {
  Decoder decoder;
  REQUIRE_OK(decoder.step());
  const int64_t before = SubstituteBackend::cuda().launches();
  BatchHandle batch;
  REQUIRE_OK(create(batch, flexq_batch_create));
  const int32_t token = 3;
  REQUIRE_OK(flexq_batch_add(batch.get(), 0, &token, 1, FLEXQ_OUTPUT_LAST));
  flexq_batch_cancel(batch.get());
  CHECK(flexq_context_decode(decoder.context.get(), batch.get()) == FLEXQ_ERROR_CANCELLED);
  CHECK(SubstituteBackend::cuda().launches() == before);
  CHECK(decoder.length() == 1);
  REQUIRE_OK(decoder.step());
  CHECK(decoder.length() == 2);
}

}  // namespace flexq::test
