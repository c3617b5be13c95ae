// What plan_weights promises is what a load takes, and a load that ends early gives it back.
#include <doctest/doctest.h>

#include "base/memory.h"
#include "runtime/runtime_fixtures.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

ModelSource source_at(const std::string& path) {
  ModelSource source;
  source.path = path;
  return source;
}

LoadOptions two_threads() {
  LoadOptions options;
  options.n_threads = 2;
  return options;
}

// Several pieces per tensor, so that a load has several waves: an embedding of 8 MiB.
std::string write_model(const TemporaryDirectory& directory) {
  SyntheticOptions synthetic;
  synthetic.config.n_vocab = 1 << 15;
  synthetic.format = WeightFormat::kF32;
  write_synthetic_checkpoint(directory.path(), synthetic);
  return directory.path();
}

}  // namespace

TEST_CASE("the weight plan is what a load takes") {
  const TemporaryDirectory directory;
  const std::string checkpoint = write_model(directory);
  for (const char* policy : {"none", "flexq", "w6a16", "fp16"}) {
    CAPTURE(std::string(policy));
    const std::string path = quantized_copy(checkpoint, policy, directory.path());
    const int64_t before = host_memory_counters().live_bytes;
    const ModelPlan plan = value_of(plan_model(source_at(path), two_threads(), {}));
    CHECK(host_memory_counters().live_bytes == before);
    {
      const auto model = open_test_model(path, "auto", 2);
      CHECK(host_memory_counters().live_bytes - before == plan.weights.total_bytes);
      CHECK(model->llama->plan().total_bytes == plan.weights.total_bytes);
      CHECK(model->llama->plan().offsets == plan.weights.offsets);
      const auto context = value_of(Context::create(model, {}));
      CHECK(host_memory_counters().live_bytes - before ==
            plan.weights.total_bytes + plan.context.kv_bytes + plan.context.workspace_bytes);
    }
    CHECK(host_memory_counters().live_bytes == before);
  }
}

TEST_CASE("the weight plan counts parameters and bits") {
  const TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), {});
  const ModelConfig config = small_model_config();
  const int64_t per_layer = 2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64;
  const int64_t linears = 2 * (per_layer - 2 * 64);
  const ModelPlan dense = value_of(plan_model(source_at(directory.path()), {}, {}));
  CHECK(dense.weights.n_parameters == 2 * per_layer + 64 + 2 * 320 * 64);
  CHECK(dense.weights.linear_weights == linears);
  CHECK(dense.weights.linear_bytes == 2 * linears);
  CHECK(dense.weights.quantized_weights == 0);
  // BF16 matrices, fp32 vectors, everything in whole cache lines here; the embedding is not read
  // to decode a token.
  CHECK(dense.weights.total_bytes == 2 * (linears + 2 * 320 * 64) + 4 * (5 * 64));
  CHECK(dense.weights.total_bytes - dense.weights.decode_bytes == 2 * config.n_vocab * 64);

  const std::string bundle = quantized_copy(directory.path(), "flexq", directory.path());
  const ModelPlan packed = value_of(plan_model(source_at(bundle), {}, {}));
  CHECK(packed.weights.n_parameters == dense.weights.n_parameters);
  CHECK(packed.weights.quantized_weights == linears);
  CHECK(packed.weights.quantized_bytes == packed.weights.linear_bytes);
}

TEST_CASE("a load that progress cancels leaves nothing behind") {
  const TemporaryDirectory directory;
  const std::string checkpoint = write_model(directory);
  for (const char* policy : {"none", "flexq"}) {
    const std::string path = quantized_copy(checkpoint, policy, directory.path());
    const int64_t before = host_memory_counters().live_bytes;
    int n_calls = 0;
    int64_t last_done = 0;
    const auto count = [&](int64_t done, int64_t total) {
      ++n_calls;
      CHECK(done > last_done);
      CHECK(done <= total);
      last_done = done;
      return false;
    };
    int64_t all = 0;
    {
      const auto model = value_of(load_model(source_at(path), two_threads(), count));
      all = last_done;
    }
    REQUIRE(n_calls > 1);
    for (int stop_at = 1; stop_at <= n_calls; ++stop_at) {
      int call = 0;
      int64_t total_seen = 0;
      const auto model = load_model(source_at(path), two_threads(), [&](int64_t, int64_t total) {
        total_seen = total;
        return ++call == stop_at;
      });
      CHECK(model.status().code() == StatusCode::kCancelled);
      CHECK(total_seen == all);
      CHECK(host_memory_counters().live_bytes == before);
    }
  }
}

}  // namespace flexq::test
