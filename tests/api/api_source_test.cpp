// Bundles from a path, from memory and through callbacks; plans; damaged bytes.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>

#include "api/api_fixture.h"

using namespace flexq::test;

namespace {

// A bundle behind a read callback that can fail or stop giving the right bytes.
struct Archive {
  std::string bytes;
  int64_t fails_from_read = INT64_MAX;  // the k-th read and all later ones fail
  int64_t zero_from_byte = INT64_MAX;   // what lies behind reads as zeros
  std::atomic<int64_t> n_reads{0};
  std::atomic<bool> outside{false};  // a read outside of bytes was asked for
};

int32_t read_archive(int64_t offset, void* buffer, int64_t n_bytes, void* user_data) {
  auto* archive = static_cast<Archive*>(user_data);
  if (archive->n_reads++ >= archive->fails_from_read) return 5;
  const auto size = static_cast<int64_t>(archive->bytes.size());
  if (offset < 0 || n_bytes < 0 || offset > size || n_bytes > size - offset) {
    archive->outside = true;
    return 6;
  }
  std::memcpy(buffer, archive->bytes.data() + offset, static_cast<size_t>(n_bytes));
  const int64_t n_right = std::clamp<int64_t>(archive->zero_from_byte - offset, 0, n_bytes);
  std::memset(static_cast<char*>(buffer) + n_right, 0, static_cast<size_t>(n_bytes - n_right));
  return 0;
}

flexq_status load_archive(Archive& archive, int64_t size, Model& model) {
  Source source;
  REQUIRE_OK(flexq_source_from_callback(size, read_archive, &archive, source.out()));
  ModelOptions options;
  REQUIRE_OK(flexq_model_options_create(options.out()));
  REQUIRE_OK(flexq_model_options_set_threads(options, 2));
  return flexq_model_load(source, options, model.out());
}

std::vector<float> logits_of(const flexq_model* model) {
  const Context context = make_context(model);
  return last_logits(context, 0, encode(model, "Once upon a time, there was"));
}

flexq_plan plan_of(flexq_source* source, const flexq_context_options* options) {
  flexq_plan plan = {};
  plan.struct_size = sizeof plan;
  REQUIRE_OK(flexq_model_plan(source, nullptr, options, 0, &plan));
  return plan;
}

}  // namespace

TEST_CASE("path, memory and callbacks give the same logits") {
  const std::vector<float> expected = logits_of(load_model(stories_bundle()));

  // The memory and the source may go as soon as the model is loaded.
  auto memory = std::make_unique<std::string>(file_bytes(stories_bundle()));
  Source source;
  REQUIRE_OK(
      flexq_source_from_memory(memory->data(), static_cast<int64_t>(memory->size()), source.out()));
  Model from_memory;
  REQUIRE_OK(flexq_model_load(source, nullptr, from_memory.out()));
  Tokenizer tokenizer;
  REQUIRE_OK(flexq_tokenizer_open(source, tokenizer.out()));
  source.reset();
  std::fill(memory->begin(), memory->end(), '\xff');
  memory.reset();
  CHECK(logits_of(from_memory) == expected);
  CHECK(flexq_tokenizer_vocab_size(tokenizer) == 512);

  Model from_callbacks;
  {
    Archive archive{file_bytes(stories_bundle())};
    REQUIRE_OK(load_archive(archive, static_cast<int64_t>(archive.bytes.size()), from_callbacks));
    CHECK_FALSE(archive.outside);
  }
  CHECK(logits_of(from_callbacks) == expected);
}

TEST_CASE("a read callback that fails at any read gives IO") {
  Archive archive{file_bytes(tiny_bundle())};
  const auto size = static_cast<int64_t>(archive.bytes.size());
  Model model;
  REQUIRE_OK(load_archive(archive, size, model));
  const int64_t n_reads = archive.n_reads;
  CHECK(n_reads > 10);
  for (int64_t k = 0; k < n_reads; ++k) {
    CAPTURE(k);
    archive.n_reads = 0;
    archive.fails_from_read = k;
    CHECK_ERROR(load_archive(archive, size, model), "IO", "read callback");
    CHECK(model.get() == nullptr);
  }
  CHECK_FALSE(archive.outside);
}

TEST_CASE("callbacks with less data than they should have are found out") {
  Archive archive{file_bytes(tiny_bundle())};
  const auto size = static_cast<int64_t>(archive.bytes.size());
  Model model;
  for (const int64_t wrong : {int64_t{0}, int64_t{1}, int64_t{63}, size / 2, size - 1, size + 1,
                              size + 4096, INT64_MAX}) {
    CAPTURE(wrong);
    CHECK_ERROR(load_archive(archive, wrong, model), "CORRUPT", "callbacks");
  }
  CHECK_FALSE(archive.outside);
  for (const int64_t from : {size / 4, size / 2, size - 5000}) {
    CAPTURE(from);
    archive.zero_from_byte = from;
    CHECK_ERROR(load_archive(archive, size, model), "CORRUPT", "callbacks");
  }
}

TEST_CASE("every truncation at 64-byte steps is refused with a message") {
  const std::string bytes = file_bytes(tiny_bundle());
  int64_t n_checked = 0;
  for (size_t size = 0; size < bytes.size(); size += 64) {
    // A block of its own, so that a read past its end is seen by AddressSanitizer.
    const std::vector<char> truncated(bytes.data(), bytes.data() + std::max<size_t>(size, 1));
    Source source;
    REQUIRE_OK(
        flexq_source_from_memory(truncated.data(), static_cast<int64_t>(size), source.out()));
    Model model;
    const flexq_status status = flexq_model_load(source, nullptr, model.out());
    const std::string message = flexq_last_error();
    if (status == FLEXQ_ERROR_CORRUPT && message.find("memory: ") == 0) {
      ++n_checked;
      continue;
    }
    CAPTURE(size);
    CAPTURE(message);
    FAIL_CHECK("expected CORRUPT, found " << flexq_status_name(status));
  }
  CHECK(n_checked == static_cast<int64_t>((bytes.size() + 63) / 64));
}

TEST_CASE("paths that are no models") {
  Source source;
  Model model;
  CHECK_ERROR(flexq_source_open("", source.out()), "NOT_FOUND", "expected");
  source = open_source("/");
  CHECK(flexq_model_load(source, nullptr, model.out()) != FLEXQ_OK);
  Tokenizer tokenizer;
  CHECK_ERROR(flexq_tokenizer_open(source, tokenizer.out()), "NOT_FOUND", "tokenizer.model");
  // A checkpoint folder gives the tokenizer that its bundle has.
  REQUIRE_OK(flexq_tokenizer_open(open_source(stories_checkpoint()), tokenizer.out()));
  CHECK(flexq_tokenizer_vocab_size(tokenizer) == 512);
}

TEST_CASE("the plan before loading is the plan of what is loaded, to the byte") {
  const Source source = open_source(stories_bundle());
  Model model;
  REQUIRE_OK(flexq_model_load(source, nullptr, model.out()));
  flexq_model_info info = {};
  info.struct_size = sizeof info;
  REQUIRE_OK(flexq_model_get_info(model, &info));

  const auto check = [&](const std::function<void(flexq_context_options*)>& configure) {
    ContextOptions options;
    REQUIRE_OK(flexq_context_options_create(options.out()));
    configure(options);
    const flexq_plan planned = plan_of(source, options);
    Context context;
    REQUIRE_OK(flexq_context_create(model, options, context.out()));
    flexq_plan created = {};
    created.struct_size = sizeof created;
    REQUIRE_OK(flexq_context_get_plan(context, &created));
    CHECK(std::memcmp(&planned, &created, sizeof planned) == 0);

    CHECK(planned.weight_bytes == info.weight_bytes);
    CHECK(planned.total_bytes == planned.weight_bytes + planned.kv_bytes + planned.workspace_bytes);
    flexq_context_counters counters = {};
    counters.struct_size = sizeof counters;
    REQUIRE_OK(flexq_context_get_counters(context, &counters));
    CHECK(planned.kv_bytes ==
          planned.kv_bytes_per_token * planned.page_tokens * counters.pages_total);
    CHECK(std::string(planned.device) == "cpu");
    return planned;
  };
  const flexq_plan defaults = check([](flexq_context_options*) {});
  CHECK(defaults.context_tokens == 512);
  CHECK(defaults.n_sequences == 1);
  CHECK(defaults.chunk_tokens == 256);
  const flexq_plan f32 = check(
      [](flexq_context_options* o) { REQUIRE_OK(flexq_context_options_set(o, "kv_type", "f32")); });
  CHECK(f32.kv_bytes == 2 * defaults.kv_bytes);
  const flexq_plan many = check([](flexq_context_options* o) {
    REQUIRE_OK(flexq_context_options_set_context_tokens(o, 100));
    REQUIRE_OK(flexq_context_options_set_sequences(o, 7));
    REQUIRE_OK(flexq_context_options_set_chunk_tokens(o, 33));
    REQUIRE_OK(flexq_context_options_set_outputs(o, 50));
  });
  CHECK(many.context_tokens == 100);
  CHECK(many.n_sequences == 7);
  CHECK(many.chunk_tokens == 33);
  const flexq_plan shared = check([](flexq_context_options* o) {
    REQUIRE_OK(flexq_context_options_set_sequences(o, 8));
    REQUIRE_OK(flexq_context_options_set_cache_tokens(o, 512));
  });
  CHECK(shared.kv_bytes == defaults.kv_bytes);
}

TEST_CASE("what the model says about itself adds up") {
  const Model model = load_model(stories_bundle());
  flexq_model_info info = {};
  info.struct_size = sizeof info;
  REQUIRE_OK(flexq_model_get_info(model, &info));
  CHECK(info.n_layers == 5);
  CHECK(info.n_embd == 64);
  CHECK(info.n_vocab == 512);
  CHECK(info.bos_token_id == 1);
  CHECK(info.n_threads == 2);
  CHECK(info.bits_per_weight > 6.0);
  CHECK(std::string(info.policy) == "flexq");
  int64_t n_parameters = 0;
  for (int32_t i = 0; i < flexq_model_tensor_count(model); ++i) {
    flexq_tensor_info tensor = {};
    tensor.struct_size = sizeof tensor;
    REQUIRE_OK(flexq_model_get_tensor_info(model, i, &tensor));
    n_parameters += tensor.rows * tensor.cols;
    const bool linear = std::string(tensor.name).find("_proj.weight") != std::string::npos;
    const bool down = std::string(tensor.name).find("down_proj") != std::string::npos;
    CAPTURE(tensor.name);
    CHECK((tensor.weight_bits == 6) == linear);
    CHECK(tensor.group_size == (linear ? 128 : 0));
    CHECK(tensor.activation_bits == (down ? 8 : linear ? 6 : 16));
  }
  CHECK(info.n_parameters == n_parameters);
}
