// Saved sequences and a GPU: what was saved on one device goes on there with the same bits, and on
// the other one with what it would have computed from the same keys and values.
#include <algorithm>
#include <cmath>

#include "cuda/gpu_fixture.h"

namespace flexq::test {
namespace {

constexpr int32_t kTokens = 200;

std::string checkpoint() {
  return source_path("tests/data/wiki-tiny-1m");
}

std::string save(const ContextHandle& context, int32_t sequence) {
  int64_t n_bytes = 0;
  static_cast<void>(
      flexq_context_save_sequence_to_memory(context.get(), sequence, nullptr, 0, &n_bytes));
  std::string bytes(static_cast<size_t>(n_bytes), '\0');
  REQUIRE_OK(flexq_context_save_sequence_to_memory(context.get(), sequence, bytes.data(), n_bytes,
                                                   &n_bytes));
  return bytes;
}

void restore(const ContextHandle& context, int32_t sequence, const std::string& bytes) {
  REQUIRE_OK(flexq_context_restore_sequence_from_memory(context.get(), sequence, bytes.data(),
                                                        std::ssize(bytes)));
}

ContextHandle context_on(const ModelHandle& model, const char* kv_type, int32_t context_tokens) {
  ContextShape shape;
  shape.kv_type = kv_type;
  shape.context_tokens = context_tokens;
  shape.n_sequences = 2;
  return make_context(model, shape);
}

std::vector<float> logits_of(const ContextHandle& context) {
  const float* row = nullptr;
  int32_t n_vocab = 0;
  REQUIRE_OK(flexq_context_logits(context.get(), 0, &row, &n_vocab));
  return {row, row + n_vocab};
}

// The largest difference, as a part of the largest logit.
double relative_difference(const std::vector<float>& found, const std::vector<float>& expected) {
  REQUIRE(found.size() == expected.size());
  double difference = 0;
  double largest = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    difference = std::max(difference, std::fabs(double{found[i]} - expected[i]));
    largest = std::max(largest, std::fabs(double{expected[i]}));
  }
  return difference / largest;
}

}  // namespace

TEST_CASE("a sequence that was saved on a GPU goes on there with the same bits") {
  if (!has_gpu()) return;
  for (const char* policy : {"flexq", "fp16"}) {
    const std::string path = bundle_of(checkpoint(), policy);
    const ModelHandle model = load_on(path, "cuda");
    for (const char* kv_type : {"f16", "i8"}) {
      CAPTURE(std::string(policy));
      CAPTURE(std::string(kv_type));
      const std::vector<int32_t> tokens = some_tokens(model, kTokens, 3);
      const ContextHandle straight = context_on(model, kv_type, 512);
      decode_bytes(straight.get(), 0, tokens, FLEXQ_OUTPUT_LAST);
      const std::string bytes = save(straight, 0);
      CHECK((save(straight, 0) == bytes));

      const ModelHandle again = load_on(path, "cuda");
      const ContextHandle context = context_on(again, kv_type, 256);
      decode_bytes(context.get(), 0, some_tokens(model, 20, 4), FLEXQ_OUTPUT_NONE);
      restore(context, 1, bytes);
      CHECK((save(context, 1) == bytes));
      // Single tokens, often enough to meet the graphs of decode steps, then several at once.
      for (int32_t token = 1; token <= 8; ++token) {
        CAPTURE(token);
        const std::string expected = decode_bytes(straight.get(), 0, {token}, FLEXQ_OUTPUT_LAST);
        CHECK((decode_bytes(context.get(), 1, {token}, FLEXQ_OUTPUT_LAST) == expected));
      }
      const std::string expected = decode_bytes(straight.get(), 0, {5, 6, 7}, FLEXQ_OUTPUT_LAST);
      CHECK((decode_bytes(context.get(), 1, {5, 6, 7}, FLEXQ_OUTPUT_LAST) == expected));
      CHECK((save(context, 1) == save(straight, 0)));
    }
  }
}

TEST_CASE("a sequence moves between a GPU and the CPU") {
  if (!has_gpu()) return;
  const std::string path = bundle_of(checkpoint(), "fp16");
  const ModelHandle on_gpu = load_on(path, "cuda");
  const ModelHandle on_cpu = load_on(path, "cpu");
  const std::vector<int32_t> tokens = some_tokens(on_gpu, kTokens, 3);
  for (const char* kv_type : {"f16", "i8"}) {
    CAPTURE(std::string(kv_type));
    for (const bool from_gpu : {true, false}) {
      CAPTURE(from_gpu);
      const ContextHandle from = context_on(from_gpu ? on_gpu : on_cpu, kv_type, 512);
      const ContextHandle to = context_on(from_gpu ? on_cpu : on_gpu, kv_type, 256);
      decode_bytes(from.get(), 0, tokens, FLEXQ_OUTPUT_LAST);
      const std::string bytes = save(from, 0);
      restore(to, 1, bytes);
      CHECK((save(to, 1) == bytes));  // no byte changes on the way
      decode_bytes(from.get(), 0, {9}, FLEXQ_OUTPUT_LAST);
      decode_bytes(to.get(), 1, {9}, FLEXQ_OUTPUT_LAST);
      const double difference = relative_difference(logits_of(to), logits_of(from));
      MESSAGE(kv_type << (from_gpu ? ", cuda to cpu: " : ", cpu to cuda: ") << difference
                      << " of the largest logit");
      // One token of fp16 products in another order; a wrong cache is off by its whole size.
      CHECK(difference < 0.01);
    }
  }
}

TEST_CASE("a session of a GPU lies on the disk like any other") {
  if (!has_gpu()) return;
  const TemporaryDirectory directory;
  const std::string path = directory.file("session");
  const std::string bundle = bundle_of(checkpoint(), "flexq");
  const ModelHandle model = load_on(bundle, "cuda");
  const ContextHandle context = context_on(model, "f16", 256);
  decode_bytes(context.get(), 0, some_tokens(model, 33, 5), FLEXQ_OUTPUT_LAST);
  REQUIRE_OK(flexq_context_save_sequence(context.get(), 0, path.c_str()));
  CHECK((read_file_bytes(path) == save(context, 0)));
  REQUIRE_OK(flexq_context_restore_sequence(context.get(), 1, path.c_str()));
  CHECK(flexq_context_sequence_length(context.get(), 1) == 33);
}

}  // namespace flexq::test
