// T19: an executor stays inside the workspace and the pages that were planned for it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "runtime/runtime_fixtures.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

// A block of exactly `n_bytes` between two fields of a known pattern.
class GuardedBlock {
 public:
  explicit GuardedBlock(int64_t n_bytes) : n_bytes_(static_cast<size_t>(n_bytes)) {
    buffer_ = value_of(HostBuffer::allocate(n_bytes + 2 * kGuard, "guarded block"));
    std::memset(buffer_.data(), kPattern, static_cast<size_t>(buffer_.size()));
  }
  std::span<uint8_t> span() { return {buffer_.data() + kGuard, n_bytes_}; }
  bool intact() {
    const auto is_pattern = [](uint8_t byte) { return byte == kPattern; };
    const uint8_t* end = buffer_.data() + kGuard + n_bytes_;
    return std::all_of(buffer_.data(), buffer_.data() + kGuard, is_pattern) &&
           std::all_of(end, end + kGuard, is_pattern);
  }

 private:
  static constexpr int64_t kGuard = 4096;
  static constexpr uint8_t kPattern = 0x5c;
  size_t n_bytes_;
  HostBuffer buffer_;
};

// Runs `tokens` of sequence 1 of 2 in chunks, with its pages in descending order, and copies the
// logits of each last token.
std::vector<float> run(const LoadedModel& model, const ExecutorShape& shape, Executor& executor,
                       const std::vector<int32_t>& tokens) {
  const int32_t per_sequence = shape.pages_per_sequence();
  std::vector<int32_t> tables(static_cast<size_t>(2 * per_sequence));
  for (size_t i = 0; i < tables.size(); ++i)
    tables[i] = static_cast<int32_t>(tables.size() - 1 - i);
  const auto half = static_cast<size_t>(shape.head_dim / 2);
  const auto chunk = static_cast<size_t>(shape.chunk_tokens);
  std::vector<float> logits;
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const size_t n = std::min(chunk, tokens.size() - begin);
    std::vector<int32_t> positions, sequences(n, 1);
    std::vector<float> cos(n * half), sin(n * half);
    for (size_t i = 0; i < n; ++i) {
      positions.push_back(static_cast<int32_t>(begin + i));
      model.rope.angles(positions[i], &cos[i * half], &sin[i * half]);
    }
    ForwardBatch batch;
    batch.n_tokens = static_cast<int32_t>(n);
    batch.tokens = &tokens[begin];
    batch.positions = positions.data();
    batch.sequences = sequences.data();
    batch.block_tables = tables.data();
    batch.rope_cos = cos.data();
    batch.rope_sin = sin.data();
    require_ok(forward(*model.llama, executor, batch, kNeverStop));
    // Every hidden row that there is, and the last row of logits.
    std::vector<int32_t> rows(static_cast<size_t>(std::max(shape.n_outputs, shape.chunk_tokens)));
    std::fill(rows.begin(), rows.end(), static_cast<int32_t>(n) - 1);
    require_ok(executor.final_norm(model.llama->final_norm(), rows, 0));
    require_ok(executor.logits(model.llama->lm_head(), 0, 0, shape.n_outputs));
    const float* row = value_of(executor.logits_row(shape.n_outputs - 1));
    logits.insert(logits.end(), row, row + shape.n_vocab);
  }
  require_ok(executor.copy_page(0, 2 * per_sequence - 1));
  return logits;
}

}  // namespace

TEST_CASE("T19_workspace_exact: nothing is touched outside, one byte less is refused") {
  const TemporaryDirectory directory;
  const std::string checkpoint = source_path("tests/data/wiki-tiny-1m");
  const Precision precisions[] = {{"none"}, {"flexq"}, {"w6a16"}, {"w8a8", 8, 8}, {"w8a16", 8}};
  for (const Precision& precision : precisions) {
    const std::string path = quantized_copy(checkpoint, precision, directory.path());
    CAPTURE(path);
    const auto model = open_test_model(path, "auto", 2);
    const std::vector<int32_t> tokens = random_tokens(67, model->llama->config().n_vocab, 8);
    for (const int32_t chunk_tokens : {1, 3, 16, 64}) {
      CAPTURE(chunk_tokens);
      ExecutorShape shape = executor_shape(model->llama->config(), model->llama->tensors());
      shape.kv_type = chunk_tokens == 3    ? KvType::kF32
                      : chunk_tokens == 16 ? KvType::kF16
                                           : KvType::kI8;
      shape.context_tokens = 67;
      shape.n_sequences = 2;
      shape.chunk_tokens = chunk_tokens;
      shape.n_outputs = 2;
      shape.n_threads = 2;
      Device& device = model->llama->device();
      const int64_t n_bytes = value_of(device.workspace_bytes(shape));
      GuardedBlock workspace(n_bytes);
      GuardedBlock pages(page_bytes(shape) * 2 * shape.pages_per_sequence());

      const auto smaller = device.create_executor(
          shape, workspace.span().first(workspace.span().size() - 1), pages.span(), *model->pool);
      CHECK(smaller.status().code() == StatusCode::kInvalidArgument);
      CHECK(device.create_executor(shape, {}, pages.span(), *model->pool).status().code() ==
            StatusCode::kInvalidArgument);

      const auto executor =
          value_of(device.create_executor(shape, workspace.span(), pages.span(), *model->pool));
      require_ok(executor->poison_workspace());
      CHECK(workspace.intact());
      const std::vector<float> logits = run(*model, shape, *executor, tokens);
      CHECK(logits.size() % static_cast<size_t>(shape.n_vocab) == 0);
      CHECK(std::none_of(logits.begin(), logits.end(), [](float x) { return x != x; }));
      CHECK(workspace.intact());
      CHECK(pages.intact());
    }
  }
}

TEST_CASE("T19_workspace_exact: the plan is what load and create take") {
  const TemporaryDirectory directory;
  ContextOptions options;
  options.context_tokens = 200;
  options.n_sequences = 3;
  options.chunk_tokens = 50;
  options.cache_tokens = 333;
  options.n_outputs = 7;
  LoadOptions load_options;
  load_options.n_threads = 2;
  // Bytes of K or V of one token and head of 32: int8 has an fp16 scale besides.
  const std::pair<KvType, int64_t> kv_types[] = {
      {KvType::kF16, 64}, {KvType::kF32, 128}, {KvType::kI8, 34}};
  const Precision precisions[] = {{"flexq"}, {"w8a8"}, {"w8a16", 16, 8}, {"flexq", 8, 8}};
  for (const Precision& precision : precisions) {
    for (const auto& [kv_type, head_bytes] : kv_types) {
      options.kv_type = kv_type;
      ModelSource source;
      source.path =
          quantized_copy(source_path("tests/data/wiki-tiny-1m"), precision, directory.path());
      CAPTURE(source.path);
      const ModelPlan plan = value_of(plan_model(source, load_options, options));
      const int64_t before = host_memory_counters().live_bytes;
      const auto model = open_test_model(source.path, "auto", 2);
      CHECK(host_memory_counters().live_bytes - before == plan.weights.total_bytes);
      const auto context = value_of(Context::create(model, options));
      CHECK(host_memory_counters().live_bytes - before ==
            plan.weights.total_bytes + plan.context.kv_bytes + plan.context.workspace_bytes);
      CHECK(plan.context.kv_bytes == 21 * 16 * plan.context.kv_bytes_per_token);
      // Six layers, K and V of 2 heads.
      CHECK(plan.context.kv_bytes_per_token == 6 * 2 * 2 * head_bytes);
    }
  }
}

}  // namespace flexq::test
