// T19 on CUDA: what is planned is what is allocated, and one byte less is refused.
#include <doctest/doctest.h>

#include "cuda/substitute_backend.h"
#include "device/cuda/cuda_batch.h"
#include "device/device_registry.h"
#include "reliability/tiny_model.h"

namespace flexq::test {
namespace {

ExecutorShape some_shape() {
  ExecutorShape shape;
  shape.n_layers = 2;
  shape.n_embd = 72;
  shape.n_heads = 9;
  shape.n_kv_heads = 3;
  shape.head_dim = 8;
  shape.n_ff = 172;
  shape.n_vocab = 321;
  shape.rms_norm_eps = 1e-5f;
  shape.quantizes_activations = true;
  shape.context_tokens = 100;
  shape.n_sequences = 4;
  shape.chunk_tokens = 33;
  shape.n_outputs = 5;
  return shape;
}

}  // namespace

TEST_CASE("T19_cuda_plan_exact: the plan is what load and create allocate") {
  for (const std::string& policy : all_policies()) {
    CAPTURE(policy);
    const SubstituteBackend backend;
    SubstituteCuda& cuda = SubstituteBackend::cuda();
    const SourceHandle source = source_of(tiny_model_bytes(policy));
    const ModelOptionsHandle options = model_options(2);
    REQUIRE_OK(flexq_model_options_set_device(options.get(), "cuda:0"));
    ContextOptionsHandle context_options;
    REQUIRE_OK(create(context_options, flexq_context_options_create));
    REQUIRE_OK(flexq_context_options_set_sequences(context_options.get(), 3));
    flexq_plan plan = {};
    plan.struct_size = sizeof plan;
    REQUIRE_OK(flexq_model_plan(source.get(), options.get(), context_options.get(), 0, &plan));
    CHECK(plan.kind == FLEXQ_DEVICE_CUDA);
    CHECK(std::string(plan.device) == "cuda:0");
    CHECK(cuda.live().none());

    ModelHandle model;
    REQUIRE_OK(create(model, flexq_model_load, source.get(), options.get()));
    CHECK(cuda.live().device_bytes == plan.weight_bytes);
    CHECK(cuda.live().pinned_bytes == 0);
    ContextHandle context;
    REQUIRE_OK(create(context, flexq_context_create, model.get(), context_options.get()));
    CHECK(cuda.live().device_bytes == plan.total_bytes);
    CHECK(plan.total_bytes == plan.weight_bytes + plan.kv_bytes + plan.workspace_bytes);
  }
}

TEST_CASE("T19_cuda_plan_exact: a workspace one byte short is refused") {
  const SubstituteBackend backend;
  const std::shared_ptr<Device> device = *open_device("cuda:0", {});
  ThreadPool pool(1);
  for (const int32_t chunk_tokens : {1, 33, 200}) {
    ExecutorShape shape = some_shape();
    shape.chunk_tokens = chunk_tokens;
    const int64_t n_bytes = *device->workspace_bytes(shape);
    const auto workspace = std::move(device->allocate(n_bytes, "workspace")).value();
    const auto pages = std::move(device->allocate(page_bytes(shape) * 8, "pages")).value();
    const std::span<uint8_t> whole(workspace->data(), static_cast<size_t>(n_bytes));
    const std::span<uint8_t> pool_pages(pages->data(), static_cast<size_t>(pages->size()));
    const auto refused =
        device->create_executor(shape, whole.first(whole.size() - 1), pool_pages, pool);
    CHECK(refused.status().code() == StatusCode::kInvalidArgument);
    CHECK(device->create_executor(shape, whole, pool_pages, pool).ok());
  }
}

TEST_CASE("T19_cuda_plan_exact: sizes that do not fit are refused") {
  const SubstituteBackend backend;
  const std::shared_ptr<Device> device = *open_device("cuda:0", {});
  ExecutorShape shape = some_shape();
  shape.n_vocab = INT32_MAX;
  shape.n_outputs = INT32_MAX;
  shape.n_embd = INT32_MAX;
  CHECK(device->workspace_bytes(shape).status().code() == StatusCode::kLimitExceeded);
  DeviceTensorDesc desc;
  desc.rows = int64_t{1} << 40;
  desc.cols = int64_t{1} << 40;
  CHECK(device->tensor_bytes(desc).status().code() == StatusCode::kLimitExceeded);
}

TEST_CASE("kv types on cuda: f16 in place of f32, which is refused by name") {
  const SubstituteBackend backend;
  const SourceHandle source = source_of(tiny_model_bytes("flexq"));
  const ModelOptionsHandle options = model_options(1);
  REQUIRE_OK(flexq_model_options_set_device(options.get(), "cuda:0"));
  ModelHandle model;
  REQUIRE_OK(create(model, flexq_model_load, source.get(), options.get()));
  ContextOptionsHandle context_options;
  REQUIRE_OK(create(context_options, flexq_context_options_create));
  ContextHandle context;
  REQUIRE_OK(flexq_context_options_set(context_options.get(), "kv_type", "f32"));
  CHECK(create(context, flexq_context_create, model.get(), context_options.get()) ==
        FLEXQ_ERROR_UNSUPPORTED_VALUE);
  CHECK(std::string(flexq_last_error()).find("kv_type") != std::string::npos);
  for (const char* type : {"auto", "f16", "i8"}) {
    REQUIRE_OK(flexq_context_options_set(context_options.get(), "kv_type", type));
    REQUIRE_OK(create(context, flexq_context_create, model.get(), context_options.get()));
  }
}

TEST_CASE("linear layers are timed by the device's clock") {
  const SubstituteBackend backend;
  const std::shared_ptr<Device> device = *open_device("cuda:0", {});
  ThreadPool pool(1);
  for (const WeightFormat format : {WeightFormat::kInt6Group, WeightFormat::kF16}) {
    DeviceTensorDesc desc;
    desc.format = format;
    desc.rows = 40;
    desc.cols = 200;
    desc.activation_bits = is_grouped(format) ? 6 : 16;
    const auto memory = std::move(device->allocate(*device->tensor_bytes(desc), "weights")).value();
    const std::vector<uint8_t> values(40 * 200 * 2);
    const std::vector<uint16_t> scales(40 * 2);
    REQUIRE(device->store_rows(desc, 0, 40, values.data(), scales.data(), memory->data()).ok());
    REQUIRE(device->finish_stores().ok());
    REQUIRE(device->copy(memory->data() + 256, memory->data(), 256).ok());
    DeviceLinear linear;
    linear.weight = device->matrix_at(desc, memory->data());
    linear.activation_bits = desc.activation_bits;
    const auto runner = std::move(device->create_linear_runner({40, 200, 3}, pool)).value();
    const std::vector<DeviceLinear> linears(4, linear);
    // The substitute's clock shows a millisecond whatever is timed: a graph of two calls.
    CHECK(*runner->time(linears, 3) == 500.0);
  }
  CHECK(SubstituteBackend::cuda().misuse() == "");
}

TEST_CASE("a batch is staged with its own block tables, runs and extremes") {
  const ExecutorShape shape = some_shape();
  const int32_t pages = shape.pages_per_sequence();
  std::vector<int32_t> tables(static_cast<size_t>(4 * pages));
  for (size_t i = 0; i < tables.size(); ++i)
    tables[i] = static_cast<int32_t>(100 + i);
  const std::vector<int32_t> tokens = {7, 8, 9, 10, 11, 12};
  const std::vector<int32_t> positions = {40, 0, 1, 2, 5, 6};
  const std::vector<int32_t> sequences = {3, 1, 1, 1, 0, 0};
  const std::vector<float> cos(6 * 4, 0.5f), sin(6 * 4, 0.25f);
  ForwardBatch batch;
  batch.n_tokens = 6;
  batch.tokens = tokens.data();
  batch.positions = positions.data();
  batch.sequences = sequences.data();
  batch.block_tables = tables.data();
  batch.rope_cos = cos.data();
  batch.rope_sin = sin.data();
  std::vector<uint8_t> host(static_cast<size_t>(cuda_batch_bytes(shape)));
  const Result<StagedBatch> staged =
      stage_cuda_batch(shape, batch, host.data(), host.data());  // "device" pointers for the host
  REQUIRE(staged.ok());
  CHECK(staged->n_bytes <= static_cast<int64_t>(host.size()));
  const CudaBatch& out = staged->batch;
  CHECK(out.n_tokens == 6);
  CHECK(out.n_runs == 3);
  CHECK(out.longest_run == 3);
  CHECK(out.n_first_singles == 1);
  CHECK(out.most_positions == 41);
  CHECK(std::vector<int32_t>(out.run_begins, out.run_begins + 4) ==
        std::vector<int32_t>{0, 1, 4, 6});
  CHECK(std::vector<int32_t>(out.sequences, out.sequences + 6) ==
        std::vector<int32_t>{0, 1, 1, 1, 2, 2});
  CHECK(std::vector<int32_t>(out.positions, out.positions + 6) == positions);
  CHECK(std::vector<int32_t>(staged->tokens, staged->tokens + 6) == tokens);
  CHECK(out.cos[23] == 0.5f);
  CHECK(out.sin[23] == 0.25f);
  for (const auto& [run, sequence] : {std::pair{0, 3}, {1, 1}, {2, 0}}) {
    for (int32_t i = 0; i < pages; ++i)
      CHECK(staged->block_tables[run * pages + i] ==
            tables[static_cast<size_t>(sequence * pages + i)]);
  }
  batch.n_tokens = 0;
  CHECK(stage_cuda_batch(shape, batch, host.data(), host.data()).status().code() ==
        StatusCode::kInternal);
}

}  // namespace flexq::test
