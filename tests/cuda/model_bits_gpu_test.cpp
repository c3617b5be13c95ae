// What the CUDA backend promises of its own bits and bytes: the same request gives the same bits in
// any company and any chunking, nothing is read before it was written, plans are exact, faults in
// numbers are reported.
#include <cmath>

#include "cuda/gpu_fixture.h"

namespace flexq::test {
namespace {

struct Subject {
  std::string checkpoint;
  std::string policy;
  std::string kernels = "int8";
};

// Small models with ragged shapes: hidden 64 and 128, FFN 172, heads of 8 and 32.
std::vector<Subject> subjects() {
  std::vector<Subject> all;
  for (const char* checkpoint : {"samples/data/stories260k", "tests/data/wiki-tiny-1m"}) {
    for (const char* policy : {"flexq", "w6a16", "w8a8", "fp16"})
      all.push_back({source_path(checkpoint), policy});
    all.push_back({source_path(checkpoint), "w6a6", "btc"});
  }
  return all;
}

std::string name_of(const Subject& subject) {
  return std::filesystem::path(subject.checkpoint).filename().string() + " " + subject.policy +
         " " + subject.kernels;
}

ModelHandle load(const Subject& subject) {
  return load_on(bundle_of(subject.checkpoint, subject.policy), "cuda", subject.kernels);
}

// A prompt, then a few decode steps: all output rows of all of them.
std::string run_once(const ModelHandle& model, const ContextShape& shape, int32_t n_prompt) {
  const ContextHandle context = make_context(model, shape);
  const std::vector<int32_t> tokens = some_tokens(model, n_prompt + 8, 3);
  std::string bytes = decode_bytes(context.get(), 0, {tokens.begin(), tokens.begin() + n_prompt},
                                   FLEXQ_OUTPUT_LAST);
  for (int32_t i = 0; i < 8; ++i)
    bytes += decode_bytes(context.get(), 0, {tokens[static_cast<size_t>(n_prompt + i)]},
                          FLEXQ_OUTPUT_LAST);
  return bytes;
}

}  // namespace

TEST_CASE("T28_identical_runs on cuda: 100 runs, one result") {
  if (!has_gpu()) return;
  for (const Subject& subject : subjects()) {
    CAPTURE(name_of(subject));
    const ModelHandle model = load(subject);
    const std::string expected = run_once(model, {}, 40);
    for (int run = 1; run < 100; ++run)
      REQUIRE((run_once(model, {}, 40) == expected));
  }
}

TEST_CASE("T18_poison on cuda: nothing is read that was not written") {
  if (!has_gpu()) return;
  for (const Subject& subject : subjects()) {
    CAPTURE(name_of(subject));
    const ModelHandle model = load(subject);
    for (const int32_t chunk_tokens : {1, 7, 64}) {
      for (const char* kv_type : {"f16", "i8"}) {
        ContextShape shape;
        shape.chunk_tokens = chunk_tokens;
        shape.kv_type = kv_type;
        const std::string plain = run_once(model, shape, 50);
        shape.poison = "on";
        CHECK((run_once(model, shape, 50) == plain));
      }
    }
  }
}

TEST_CASE("T29_same_bits on cuda: any chunking of the prompt") {
  if (!has_gpu()) return;
  for (const Subject& subject : subjects()) {
    CAPTURE(name_of(subject));
    const ModelHandle model = load(subject);
    for (const char* kv_type : {"f16", "i8"}) {
      ContextShape shape;
      shape.kv_type = kv_type;
      shape.chunk_tokens = 256;
      const std::string expected = run_once(model, shape, 200);
      for (const int32_t chunk_tokens : {1, 2, 5, 8, 16, 33, 64, 100}) {
        CAPTURE(chunk_tokens);
        shape.chunk_tokens = chunk_tokens;
        CHECK((run_once(model, shape, 200) == expected));
      }
    }
  }
}

// A prompt, then steps of one token, which are launched, captured and replayed in turn.
TEST_CASE("T29_same_bits on cuda: alone and in any batch of up to 32") {
  if (!has_gpu()) return;
  constexpr int32_t kMost = 32;
  constexpr int kSteps = 4;
  for (const Subject& subject : subjects()) {
    CAPTURE(name_of(subject));
    const ModelHandle model = load(subject);
    // Prompts of different lengths; the longest sequence grows beyond a piece of attention.
    std::vector<std::vector<int32_t>> tokens;
    std::vector<std::string> alone;
    const ContextHandle context = make_context(model, {});
    for (int32_t sequence = 0; sequence < kMost; ++sequence) {
      tokens.push_back(
          some_tokens(model, 5 + 8 * ((sequence + 2) % kMost), static_cast<uint64_t>(sequence)));
      REQUIRE_OK(flexq_context_rewind(context.get(), 0, 0));
      alone.push_back(decode_bytes(context.get(), 0, tokens.back(), FLEXQ_OUTPUT_LAST));
      for (int step = 0; step < kSteps; ++step)
        alone.back() += decode_bytes(context.get(), 0, {5 + step}, FLEXQ_OUTPUT_LAST);
    }
    for (const int32_t batch_size : {2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 24, 32}) {
      CAPTURE(batch_size);
      ContextShape shape;
      shape.n_sequences = kMost;
      shape.n_outputs = kMost;
      const ContextHandle together = make_context(model, shape);
      std::vector<std::string> found(static_cast<size_t>(batch_size));
      for (int step = -1; step < kSteps; ++step) {
        BatchHandle batch;
        REQUIRE_OK(create(batch, flexq_batch_create));
        const int32_t next = 5 + step;
        for (int32_t i = 0; i < batch_size; ++i) {
          const std::vector<int32_t>& prompt = tokens[static_cast<size_t>(i)];
          REQUIRE_OK(flexq_batch_add(batch.get(), i, step < 0 ? prompt.data() : &next,
                                     step < 0 ? static_cast<int32_t>(prompt.size()) : 1,
                                     FLEXQ_OUTPUT_LAST));
        }
        REQUIRE_OK(flexq_context_decode(together.get(), batch.get()));
        const std::string rows = output_bytes(together.get());
        const size_t row_bytes = rows.size() / static_cast<size_t>(batch_size);
        for (size_t i = 0; i < found.size(); ++i)
          found[i] += rows.substr(i * row_bytes, row_bytes);
      }
      for (size_t i = 0; i < found.size(); ++i) {
        CAPTURE(i);
        CHECK((found[i] == alone[i]));
      }
    }
  }
}

TEST_CASE("a fork on cuda goes on like its original") {
  if (!has_gpu()) return;
  const ModelHandle model = load({source_path("samples/data/stories260k"), "flexq"});
  ContextShape shape;
  shape.n_sequences = 2;
  const ContextHandle context = make_context(model, shape);
  const std::vector<int32_t> prompt = some_tokens(model, 37, 4);  // ends inside a page
  decode_bytes(context.get(), 0, prompt, FLEXQ_OUTPUT_NONE);
  REQUIRE_OK(flexq_context_fork(context.get(), 0, 1));
  const std::string forked = decode_bytes(context.get(), 1, {7}, FLEXQ_OUTPUT_LAST);
  decode_bytes(context.get(), 1, {9, 11, 13}, FLEXQ_OUTPUT_NONE);
  CHECK((decode_bytes(context.get(), 0, {7}, FLEXQ_OUTPUT_LAST) == forked));
  flexq_context_counters counters = {};
  counters.struct_size = sizeof counters;
  REQUIRE_OK(flexq_context_get_counters(context.get(), &counters));
  CHECK(counters.pages_copied == 1);
}

TEST_CASE("T30_non_finite on cuda: overflow is a status, and the next prompt works") {
  if (!has_gpu()) return;
  const TemporaryDirectory directory;
  SyntheticOptions synthetic;
  synthetic.planted = {{"model.embed_tokens.weight", 7, 3, 1e30f}};
  write_synthetic_checkpoint(directory.path(), synthetic);
  for (const std::string policy : {"none", "flexq", "w6a16", "w8a8"}) {
    CAPTURE(policy);
    const ModelHandle model = load_on(bundle_of(directory.path(), policy), "cuda");
    const ContextHandle context = make_context(model, {});
    BatchHandle batch;
    REQUIRE_OK(create(batch, flexq_batch_create));
    const int32_t bad[] = {1, 7};
    REQUIRE_OK(flexq_batch_add(batch.get(), 0, bad, 2, FLEXQ_OUTPUT_LAST));
    CHECK(flexq_context_decode(context.get(), batch.get()) == FLEXQ_ERROR_NON_FINITE);
    float log_prob = 0;
    const int32_t scored[] = {7, 1};
    CHECK(flexq_context_score(context.get(), scored, 2, &log_prob, nullptr, nullptr) ==
          FLEXQ_ERROR_NON_FINITE);
    REQUIRE_OK(flexq_batch_clear(batch.get()));
    const int32_t good[] = {1, 2, 3};
    REQUIRE_OK(flexq_batch_add(batch.get(), 0, good, 3, FLEXQ_OUTPUT_LAST));
    REQUIRE_OK(flexq_context_decode(context.get(), batch.get()));
  }
}

TEST_CASE("the plan on cuda is what the device gives, within 2 %") {
  if (!has_gpu()) return;
  const auto free_bytes = [] {
    flexq_device_info info = {};
    info.struct_size = sizeof info;
    REQUIRE_OK(flexq_device_get_info(1, &info));
    return info.free_memory_bytes;
  };
  // What the driver takes for itself and for the code of kernels comes first.
  run_once(load({source_path("samples/data/stories260k"), "flexq"}), {}, 40);
  run_once(load({source_path("samples/data/stories260k"), "fp16"}), {}, 40);
  for (const std::string policy : {"flexq", "fp16"}) {
    CAPTURE(policy);
    QuantizeOptionsHandle precision;
    REQUIRE_OK(create(precision, flexq_quantize_options_create));
    REQUIRE_OK(flexq_quantize_options_set_policy(precision.get(), policy.c_str()));
    SourceHandle source;
    REQUIRE_OK(create(source, flexq_source_synthetic, "tinyllama-1.1b", precision.get()));
    const ModelOptionsHandle options = model_options(0);
    REQUIRE_OK(flexq_model_options_set_device(options.get(), "cuda:0"));
    ContextShape shape;
    shape.n_sequences = 4;
    shape.n_outputs = 4;
    shape.context_tokens = 2048;
    flexq_plan plan = {};
    plan.struct_size = sizeof plan;
    REQUIRE_OK(flexq_model_plan(source.get(), options.get(), options_of(shape).get(), 0, &plan));
    const int64_t before = free_bytes();
    ModelHandle model;
    REQUIRE_OK(create(model, flexq_model_load, source.get(), options.get()));
    const ContextHandle context = make_context(model, shape);
    decode_bytes(context.get(), 0, some_tokens(model, 600, 1), FLEXQ_OUTPUT_LAST);
    const int64_t before_steps = free_bytes();
    for (int step = 0; step < 4; ++step)
      decode_bytes(context.get(), 0, {5}, FLEXQ_OUTPUT_LAST);
    MESSAGE(policy << ": " << before_steps - free_bytes() << " bytes for the graph of a step");
    const int64_t taken = before - free_bytes();
    MESSAGE(policy << ": planned " << plan.total_bytes << " bytes, taken " << taken);
    CHECK(std::fabs(static_cast<double>(taken - plan.total_bytes)) <=
          0.02 * static_cast<double>(plan.total_bytes));
  }
}

}  // namespace flexq::test
