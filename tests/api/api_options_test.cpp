// Every setter's range and every option key.
#include <initializer_list>
#include <limits>

#include "api/api_fixture.h"

using namespace flexq::test;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kMax = INT32_MAX;

// check(value) for values outside the range of a setter, and then for values at its ends.
template <typename T, typename Set>
void check_range(const char* name, Set set, std::initializer_list<T> refused,
                 std::initializer_list<T> accepted) {
  CAPTURE(name);
  for (const T value : refused) {
    CAPTURE(value);
    CHECK_INVALID(set(value), name);
  }
  for (const T value : accepted) {
    CAPTURE(value);
    CHECK(set(value) == FLEXQ_OK);
  }
}

}  // namespace

TEST_CASE("setters refuse what is out of range and take both ends of it") {
  Sampling s;
  REQUIRE_OK(flexq_sampling_create(s.out()));
  CHECK_INVALID(flexq_sampling_create(nullptr), "sampling");
  const auto float_setter = [&](flexq_status (*set)(flexq_sampling*, float)) {
    CHECK_INVALID(set(nullptr, 0.5f), "sampling");
    return [&s, set](float value) { return set(s, value); };
  };
  check_range<float>("temperature", float_setter(flexq_sampling_set_temperature),
                     {-0.1f, 100.5f, kNan, kInfinity}, {0.0f, 100.0f});
  check_range<float>("top_p", float_setter(flexq_sampling_set_top_p),
                     {-0.1f, 1.1f, kNan, -kInfinity}, {0.0f, 1.0f});
  check_range<float>("min_p", float_setter(flexq_sampling_set_min_p), {-0.1f, 1.1f, kNan},
                     {0.0f, 1.0f});
  check_range<int32_t>("top_k", [&](int32_t k) { return flexq_sampling_set_top_k(s, k); },
                       {-1, (1 << 20) + 1, kMax}, {0, 1 << 20});
  CHECK_INVALID(flexq_sampling_set_seed(nullptr, 1), "sampling");
  CHECK(flexq_sampling_set_seed(s, UINT64_MAX) == FLEXQ_OK);
  CHECK_INVALID(flexq_sampling_set_penalties(nullptr, 1, 0, 0, 1), "sampling");
  check_range<float>("repetition",
                     [&](float v) { return flexq_sampling_set_penalties(s, v, 0, 0, 64); },
                     {0.0f, -1.0f, 100.5f, kNan}, {0.001f, 100.0f});
  check_range<float>("presence",
                     [&](float v) { return flexq_sampling_set_penalties(s, 1, v, 0, 64); },
                     {-100.5f, 100.5f, kNan, kInfinity}, {-100.0f, 100.0f});
  check_range<float>("frequency",
                     [&](float v) { return flexq_sampling_set_penalties(s, 1, 0, v, 64); },
                     {-100.5f, 100.5f, kNan, -kInfinity}, {-100.0f, 100.0f});
  check_range<int32_t>("penalty window",
                       [&](int32_t v) { return flexq_sampling_set_penalties(s, 1, 0, 0, v); },
                       {-1, INT32_MIN}, {0, kMax});
  CHECK_INVALID(flexq_sampling_set_logit_bias(nullptr, 0, 0), "sampling");
  check_range<int32_t>("token", [&](int32_t v) { return flexq_sampling_set_logit_bias(s, v, 0); },
                       {-1, INT32_MIN}, {0, kMax});
  check_range<float>("bias", [&](float v) { return flexq_sampling_set_logit_bias(s, 0, v); },
                     {kNan, kInfinity}, {-kInfinity, -1e30f, 1e30f});

  GeneratorOptions g;
  REQUIRE_OK(flexq_generator_options_create(g.out()));
  const auto count_setter = [&](flexq_status (*set)(flexq_generator_options*, int32_t)) {
    CHECK_INVALID(set(nullptr, 1), "options");
    return [&g, set](int32_t value) { return set(g, value); };
  };
  check_range<int32_t>("sequence", count_setter(flexq_generator_options_set_sequence), {-1},
                       {0, kMax});
  check_range<int32_t>("max_tokens", count_setter(flexq_generator_options_set_max_tokens), {-1},
                       {0, kMax});
  check_range<int32_t>("ignore_end", count_setter(flexq_generator_options_set_ignore_end), {-1, 2},
                       {0, 1});
  check_range<int32_t>("alternatives", count_setter(flexq_generator_options_set_log_probs),
                       {-1, 21, kMax}, {0, 20});
  check_range<int32_t>("priority", count_setter(flexq_generator_options_set_priority),
                       {-101, 101, kMax}, {-100, 0, 100});
  CHECK_INVALID(flexq_generator_options_set_format(nullptr, "json"), "options");
  CHECK_INVALID(flexq_generator_options_set_format(g, nullptr), "format");
  for (const char* format : {"", "yaml", "JSON", "json "})
    CHECK_ERROR(flexq_generator_options_set_format(g, format), "UNSUPPORTED_VALUE", format);
  for (const char* format : {"json", "text"})
    CHECK(flexq_generator_options_set_format(g, format) == FLEXQ_OK);
  CHECK_INVALID(flexq_generator_options_set_deadline(nullptr, 1), "options");
  check_range<int64_t>("deadline",
                       [&](int64_t v) { return flexq_generator_options_set_deadline(g, v); },
                       {-1, INT64_MAX}, {0, 1, int64_t{366} * 24 * 3600 * 1000});
  CHECK_INVALID(flexq_generator_options_add_stop(g, "", 0), "stop string");
  const std::string longest(1024, 'a');
  CHECK(flexq_generator_options_add_stop(g, longest.data(), 1024) == FLEXQ_OK);
  CHECK_ERROR(flexq_generator_options_add_stop(g, (longest + "a").data(), 1025), "LIMIT_EXCEEDED",
              "1025");
  for (int i = 1; i < 64; ++i)
    CHECK(flexq_generator_options_add_stop(g, "b", 1) == FLEXQ_OK);
  CHECK_ERROR(flexq_generator_options_add_stop(g, "b", 1), "LIMIT_EXCEEDED", "64");

  ContextOptions c;
  REQUIRE_OK(flexq_context_options_create(c.out()));
  const auto context_setter = [&](flexq_status (*set)(flexq_context_options*, int32_t)) {
    CHECK_INVALID(set(nullptr, 1), "options");
    return [&c, set](int32_t value) { return set(c, value); };
  };
  check_range<int32_t>("context tokens", context_setter(flexq_context_options_set_context_tokens),
                       {-1, INT32_MIN}, {0, 1, kMax});
  check_range<int32_t>("sequences", context_setter(flexq_context_options_set_sequences), {-1, 0},
                       {1, kMax});
  check_range<int32_t>("chunk tokens", context_setter(flexq_context_options_set_chunk_tokens),
                       {-1, 0}, {1, kMax});
  check_range<int32_t>("cache tokens", context_setter(flexq_context_options_set_cache_tokens),
                       {-1, INT32_MIN}, {0, kMax});
  check_range<int32_t>("outputs", context_setter(flexq_context_options_set_outputs), {-1, 0},
                       {1, kMax});

  ModelOptions m;
  REQUIRE_OK(flexq_model_options_create(m.out()));
  check_range<int32_t>("n_threads",
                       [&](int32_t v) { return flexq_model_options_set_threads(m, v); },
                       {-1, 257, kMax}, {0, 256});
  QuantizeOptions q;
  REQUIRE_OK(flexq_quantize_options_create(q.out()));
  check_range<int32_t>("n_threads",
                       [&](int32_t v) { return flexq_quantize_options_set_threads(q, v); },
                       {-1, 257, kMax}, {0, 256});
  Bundle bundle;
  REQUIRE_OK(flexq_bundle_open(open_source(tiny_bundle()), bundle.out()));
  check_range<int32_t>("n_threads",
                       [&](int32_t v) { return flexq_bundle_verify(bundle, v, nullptr, nullptr); },
                       {-1, 257}, {0, 1});
}

TEST_CASE("context sizes beyond what the model or the library takes are refused when created") {
  const Model model = load_model(tiny_bundle());
  const auto refuses = [&](flexq_status (*set)(flexq_context_options*, int32_t), int32_t value) {
    ContextOptions options;
    REQUIRE_OK(flexq_context_options_create(options.out()));
    REQUIRE_OK(set(options, value));
    Context context;
    const flexq_status status = flexq_context_create(model, options, context.out());
    CAPTURE(std::string(flexq_last_error()));
    CHECK((status == FLEXQ_ERROR_UNSUPPORTED_VALUE || status == FLEXQ_ERROR_LIMIT_EXCEEDED));
    CHECK(context.get() == nullptr);
  };
  refuses(flexq_context_options_set_context_tokens, 129);
  refuses(flexq_context_options_set_context_tokens, kMax);
  refuses(flexq_context_options_set_sequences, kMax);
  refuses(flexq_context_options_set_chunk_tokens, kMax);
  refuses(flexq_context_options_set_outputs, kMax);
}

TEST_CASE("options by name") {
  ModelOptions m;
  REQUIRE_OK(flexq_model_options_create(m.out()));
  for (const char* key : {"", "cpu.kernel", "CPU.KERNELS", "kv_type"})
    CHECK_ERROR(flexq_model_options_set(m, key, "auto"), "UNKNOWN_OPTION", key);
  for (const char* value : {"", "avx9", "AVX2"})
    CHECK_ERROR(flexq_model_options_set(m, "cpu.kernels", value), "UNSUPPORTED_VALUE", value);
  for (const char* value : {"auto", "portable", "avx2"})
    CHECK(flexq_model_options_set(m, "cpu.kernels", value) == FLEXQ_OK);
  for (const char* value : {"", "0", "-1", "1e9", "12 ", " 12", "9223372036854775808", "0x10"})
    CHECK_ERROR(flexq_model_options_set(m, "max_decoded_bytes", value), "UNSUPPORTED_VALUE", value);
  CHECK(flexq_model_options_set(m, "max_decoded_bytes", "9223372036854775807") == FLEXQ_OK);

  // Some values are known to be wrong only when the model is loaded.
  Model model;
  const Source source = open_source(tiny_bundle());
  REQUIRE_OK(flexq_model_options_set(m, "cpu.kernels", "auto"));
  REQUIRE_OK(flexq_model_options_set(m, "max_decoded_bytes", "1000"));
  CHECK_ERROR(flexq_model_load(source, m, model.out()), "LIMIT_EXCEEDED", "1000");
  REQUIRE_OK(flexq_model_options_set(m, "max_decoded_bytes", "10000000"));
  const auto load_on = [&](const char* device) {
    const flexq_status status = flexq_model_options_set_device(m, device);
    return status == FLEXQ_OK ? flexq_model_load(source, m, model.out()) : status;
  };
  CHECK_ERROR(load_on("cpu,cpu"), "UNSUPPORTED_VALUE", "cpu");
  CHECK_ERROR(load_on("cuda:0"), "NO_DEVICE", "cuda:0");
  CHECK(load_on("tpu") != FLEXQ_OK);
  CHECK(load_on("") != FLEXQ_OK);
  CHECK(load_on("cpu") == FLEXQ_OK);
  CHECK(load_on("auto") == FLEXQ_OK);

  ContextOptions c;
  REQUIRE_OK(flexq_context_options_create(c.out()));
  CHECK_INVALID(flexq_context_options_set(c, nullptr, "on"), "key");
  CHECK_INVALID(flexq_context_options_set(c, "poison", nullptr), "value");
  CHECK_ERROR(flexq_context_options_set(c, "kv_typ", "f16"), "UNKNOWN_OPTION", "kv_typ");
  CHECK_ERROR(flexq_context_options_set(c, "kv_type", "f8"), "UNSUPPORTED_VALUE", "f8");
  CHECK_ERROR(flexq_context_options_set(c, "poison", "yes"), "UNSUPPORTED_VALUE", "yes");
  for (const char* value : {"auto", "f16", "f32"})
    CHECK(flexq_context_options_set(c, "kv_type", value) == FLEXQ_OK);
  for (const char* value : {"on", "off"})
    CHECK(flexq_context_options_set(c, "poison", value) == FLEXQ_OK);
}
