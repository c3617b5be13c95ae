// The conventions of flexq.h for what comes back: buffers, info structs, status names, the last
// error of a thread, and the log.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <regex>
#include <thread>

#include "api/api_fixture.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

using namespace flexq::test;

namespace {

// fill(buffer, capacity, &length) for one function with a (buffer, capacity, length) triple.
template <typename T, typename Length, typename Fill>
void check_buffer(const char* what, Fill fill) {
  CAPTURE(what);
  Length n = -1;
  CHECK_ERROR(fill(nullptr, Length{0}, &n), "BUFFER_TOO_SMALL", "expected room for");
  REQUIRE(n > 1);
  const auto needed = static_cast<size_t>(n);
  constexpr int kUntouched = 0x5a;
  std::vector<T> small(needed, T{kUntouched});
  Length reported = -1;
  CHECK_ERROR(fill(small.data(), n - 1, &reported), "BUFFER_TOO_SMALL", "expected room for");
  CHECK(reported == n);
  CHECK(std::all_of(small.begin(), small.end(), [](T v) { return v == T{kUntouched}; }));

  std::vector<T> exact(needed + 1, T{kUntouched});
  reported = -1;
  CHECK(fill(exact.data(), n, &reported) == FLEXQ_OK);
  CHECK(reported == n);
  CHECK(exact.back() == T{kUntouched});  // no terminating zero
  CHECK(std::any_of(exact.begin(), exact.end() - 1, [](T v) { return v != T{kUntouched}; }));

  CHECK_ERROR(fill(exact.data(), Length{-1}, &reported), "INVALID_ARGUMENT", "capacity");
  CHECK_ERROR(fill(nullptr, n, &reported), "INVALID_ARGUMENT", "buffer");
  CHECK_ERROR(fill(exact.data(), n, nullptr), "INVALID_ARGUMENT", "length");
}

// fill(&info) for one function that fills an info struct T.
template <typename T, typename Fill>
void check_struct(const char* what, Fill fill) {
  CAPTURE(what);
  constexpr size_t kExtra = 64;
  constexpr unsigned char kUntouched = 0xa5;
  struct alignas(T) Room {
    unsigned char bytes[sizeof(T) + kExtra];
  };
  const auto filled_with_size = [&](uint32_t struct_size, flexq_status expected) {
    Room room;
    std::memset(room.bytes, kUntouched, sizeof room.bytes);
    std::memcpy(room.bytes, &struct_size, sizeof struct_size);
    CHECK(fill(reinterpret_cast<T*>(room.bytes)) == expected);
    uint32_t size_after = 0;
    std::memcpy(&size_after, room.bytes, sizeof size_after);
    CHECK(size_after == struct_size);
    return room;
  };
  const auto untouched_from = [&](const Room& room, size_t begin) {
    return std::all_of(room.bytes + begin, room.bytes + sizeof room.bytes,
                       [](unsigned char byte) { return byte == kUntouched; });
  };
  for (const uint32_t size : {0u, 4u, 7u}) {
    CHECK(untouched_from(filled_with_size(size, FLEXQ_ERROR_INVALID_ARGUMENT), 4));
    CHECK(std::string(flexq_last_error()).find("struct_size") != std::string::npos);
  }
  const Room whole = filled_with_size(sizeof(T), FLEXQ_OK);
  CHECK(untouched_from(whole, sizeof(T)));
  CHECK_FALSE(untouched_from(whole, 4));
  const Room small = filled_with_size(8, FLEXQ_OK);
  CHECK(std::memcmp(small.bytes + 4, whole.bytes + 4, 4) == 0);
  CHECK(untouched_from(small, 8));
  const Room large = filled_with_size(sizeof(T) + kExtra, FLEXQ_OK);
  CHECK(untouched_from(large, sizeof(T)));
  CHECK(std::memcmp(large.bytes + 4, whole.bytes + 4, 4) == 0);
  CHECK_ERROR(fill(nullptr), "INVALID_ARGUMENT", "found NULL");
}

Generator finished_generator(flexq_context* context) {
  REQUIRE_OK(flexq_context_rewind(context, 0, 0));
  Generator generator = make_generator(
      context, [](flexq_generator_options* o) { flexq_generator_options_set_max_tokens(o, 8); });
  REQUIRE_OK(start(generator, "Once upon a time"));
  REQUIRE_OK(flexq_generator_run(generator, nullptr, nullptr));
  return generator;
}

}  // namespace

TEST_CASE("buffers: length query, exact capacity, one less") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  Tokenizer tokenizer;
  REQUIRE_OK(flexq_model_tokenizer(model, tokenizer.out()));
  const std::string text = "Once upon a time";
  const std::vector<int32_t> tokens = encode(model, text);
  check_buffer<int32_t, int32_t>("encode", [&](int32_t* out, int32_t capacity, int32_t* n) {
    return flexq_tokenizer_encode(tokenizer, text.data(), static_cast<int64_t>(text.size()),
                                  FLEXQ_ENCODE_DEFAULT, out, capacity, n);
  });
  check_buffer<char, int64_t>("decode", [&](char* out, int64_t capacity, int64_t* n) {
    return flexq_tokenizer_decode(tokenizer, tokens.data(), static_cast<int32_t>(tokens.size()),
                                  out, capacity, n);
  });
  const auto longest = [&] {
    for (int32_t token = 0;; ++token) {
      int64_t n = 0;
      flexq_tokenizer_token_bytes(tokenizer, token, nullptr, 0, &n);
      if (n > 3) return token;
    }
  }();
  check_buffer<char, int64_t>("token bytes", [&](char* out, int64_t capacity, int64_t* n) {
    return flexq_tokenizer_token_bytes(tokenizer, longest, out, capacity, n);
  });
  const Generator generator = finished_generator(context);
  check_buffer<int32_t, int32_t>("prompt tokens", [&](int32_t* out, int32_t capacity, int32_t* n) {
    return flexq_generator_prompt_tokens(generator, out, capacity, n);
  });
  check_buffer<int32_t, int32_t>("tokens", [&](int32_t* out, int32_t capacity, int32_t* n) {
    return flexq_generator_tokens(generator, out, capacity, n);
  });
  check_buffer<char, int64_t>("text", [&](char* out, int64_t capacity, int64_t* n) {
    return flexq_generator_text(generator, out, capacity, n);
  });
  Bundle bundle;
  REQUIRE_OK(flexq_bundle_open(open_source(stories_bundle()), bundle.out()));
  check_buffer<char, int64_t>("json", [&](char* out, int64_t capacity, int64_t* n) {
    return flexq_bundle_json(bundle, out, capacity, n);
  });

  // An empty result fits no buffer at all.
  int64_t n_bytes = -1;
  CHECK(flexq_tokenizer_decode(tokenizer, nullptr, 0, nullptr, 0, &n_bytes) == FLEXQ_OK);
  CHECK(n_bytes == 0);
  int32_t n_tokens = -1;
  CHECK(flexq_tokenizer_encode(tokenizer, nullptr, 0, FLEXQ_ENCODE_PLAIN, nullptr, 0, &n_tokens) ==
        FLEXQ_OK);
  CHECK(n_tokens == 0);
}

TEST_CASE("info structs are filled up to struct_size and no further") {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  const Source source = open_source(stories_bundle());
  check_struct<flexq_device_info>(
      "device", [](flexq_device_info* info) { return flexq_device_get_info(0, info); });
  check_struct<flexq_model_info>(
      "model", [&](flexq_model_info* info) { return flexq_model_get_info(model, info); });
  check_struct<flexq_tensor_info>("tensor", [&](flexq_tensor_info* info) {
    return flexq_model_get_tensor_info(model, 0, info);
  });
  check_struct<flexq_plan>("model plan", [&](flexq_plan* plan) {
    return flexq_model_plan(source, nullptr, nullptr, 0, plan);
  });
  check_struct<flexq_plan>("context plan",
                           [&](flexq_plan* plan) { return flexq_context_get_plan(context, plan); });
  check_struct<flexq_context_counters>("counters", [&](flexq_context_counters* counters) {
    return flexq_context_get_counters(context, counters);
  });
  const Generator generator = finished_generator(context);
  check_struct<flexq_generator_stats>("stats", [&](flexq_generator_stats* stats) {
    return flexq_generator_get_stats(generator, stats);
  });
  const std::string text = file_bytes(source_path("samples/data/stories260k/greedy.txt"));
  check_struct<flexq_perplexity_result>("perplexity", [&](flexq_perplexity_result* result) {
    return flexq_evaluate_perplexity(model, nullptr, text.data(), static_cast<int64_t>(text.size()),
                                     32, 1, nullptr, nullptr, result);
  });
  Questions questions;
  REQUIRE_OK(flexq_questions_open("piqa", source_path("tests/data/choice/piqa.jsonl").c_str(),
                                  questions.out()));
  check_struct<flexq_choice_result>("choice", [&](flexq_choice_result* result) {
    return flexq_evaluate_choices(model, nullptr, questions, 0, 0, nullptr, nullptr, nullptr,
                                  result);
  });
  check_struct<flexq_comparison_result>("comparison", [&](flexq_comparison_result* result) {
    return flexq_evaluate_comparison(model, model, nullptr, text.data(),
                                     static_cast<int64_t>(text.size()), 32, 1, nullptr, nullptr,
                                     result);
  });
  check_struct<flexq_token_event>("event", [&](flexq_token_event* event) {
    REQUIRE_OK(flexq_context_rewind(context, 0, 0));
    const Generator fresh = make_generator(context);
    REQUIRE_OK(start(fresh, "Once upon a time"));
    return flexq_generator_next(fresh, event);
  });
}

TEST_CASE("a failed call leaves an info struct alone") {
  const Model model = load_model(tiny_bundle());
  const Context context = make_context(model);
  const Generator generator = make_generator(context);
  flexq_token_event event;
  std::memset(&event, 0xa5, sizeof event);
  event.struct_size = sizeof event;
  const flexq_token_event before = event;
  CHECK_ERROR(flexq_generator_next(generator, &event), "INVALID_STATE", "start");
  CHECK(std::memcmp(&event, &before, sizeof event) == 0);
}

TEST_CASE("status names are the header's constants") {
  const std::string header = file_bytes(source_path("include/flexq.h"));
  const std::regex constant("FLEXQ_(?:ERROR_)?([A-Z_]+) = (-[0-9]+|0)[, ]");
  int n_codes = 0;
  for (std::sregex_iterator it(header.begin(), header.end(), constant), end; it != end; ++it) {
    const std::string name = (*it)[1];
    const int32_t code = std::stoi((*it)[2]);
    if (code == 0 && name != "OK") continue;  // other enumerations
    CHECK(flexq_status_name(code) == name);
    ++n_codes;
  }
  CHECK(n_codes == 26);
  for (const flexq_status unknown : {1, -6, -99, -307, -901, INT32_MAX, INT32_MIN})
    CHECK(std::string(flexq_status_name(unknown)) == "UNKNOWN");
}

TEST_CASE("the last error belongs to a thread and survives success") {
  Source source;
  CHECK_ERROR(flexq_source_open("/nonexistent/a.flexq", source.out()), "NOT_FOUND",
              "/nonexistent/a.flexq");
  const std::string mine = flexq_last_error();
  std::string others_before;
  std::string others_after;
  std::thread([&] {
    others_before = flexq_last_error();
    flexq_sampling_set_top_k(nullptr, 1);
    others_after = flexq_last_error();
  }).join();
  CHECK(others_before.empty());
  CHECK(others_after.find("sampling") != std::string::npos);
  CHECK(flexq_last_error() == mine);
  Sampling sampling;
  CHECK(flexq_sampling_create(sampling.out()) == FLEXQ_OK);
  CHECK(flexq_last_error() == mine);

  // Long messages are cut, and stay one line of text.
  const std::string path(5000, 'x');
  CHECK(flexq_source_open(path.c_str(), source.out()) == FLEXQ_ERROR_NOT_FOUND);
  CHECK(std::strlen(flexq_last_error()) <= 1023);
}

TEST_CASE("version and build information") {
  CHECK(std::regex_match(flexq_version(), std::regex("[0-9]+\\.[0-9]+\\.[0-9]+")));
  CHECK(flexq_abi_version() == FLEXQ_ABI_VERSION);
  const std::string info = flexq_build_info();
  CHECK(info.back() == '\n');
  for (const char* key :
       {"version", "abi", "bundle format", "compiler", "build type", "cpu kernels usable here",
        "cpu kernels chosen", "cuda", "cuda sm list", "zstd", "libcrypto"}) {
    CAPTURE(key);
    CHECK(std::regex_search("\n" + info, std::regex("\n" + std::string(key) + ": [^\n]+\n")));
  }
  CHECK(info.find(std::string("version: ") + flexq_version() + "\n") == 0);
  flexq_device_info device = {};
  device.struct_size = sizeof device;
  REQUIRE(flexq_device_count() >= 1);
  REQUIRE_OK(flexq_device_get_info(0, &device));
  CHECK(device.kind == FLEXQ_DEVICE_CPU);
  CHECK(std::string(device.id) == "cpu");
  CHECK(device.n_threads >= 1);
  CHECK(device.total_memory_bytes >= device.free_memory_bytes);
  CHECK(info.find(std::string("cpu kernels chosen: ") + device.kernels + "\n") !=
        std::string::npos);
}

TEST_CASE("the log speaks only to who listens, up to the level asked for") {
  const TemporaryDirectory checkpoint;
  SyntheticOptions options;
  options.extra.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", {8}, "F32"});
  write_synthetic_checkpoint(checkpoint.path(), options);
  std::vector<std::string> messages;
  const flexq_log_callback listen = [](int32_t level, const char* text, int64_t n_bytes,
                                       void* user_data) {
    const std::string line(text, static_cast<size_t>(n_bytes));
    static_cast<std::vector<std::string>*>(user_data)->push_back(std::to_string(level) + line);
  };
  // On a named device: "auto" says why it takes the CPU.
  ModelOptions on_cpu;
  REQUIRE_OK(flexq_model_options_create(on_cpu.out()));
  REQUIRE_OK(flexq_model_options_set_device(on_cpu, "cpu"));
  const auto n_messages_of_a_load = [&] {
    messages.clear();
    Model model;
    REQUIRE_OK(flexq_model_load(open_source(checkpoint.path()), on_cpu, model.out()));
    return messages.size();
  };
  CHECK(n_messages_of_a_load() == 0);
  REQUIRE_OK(flexq_set_log_callback(listen, FLEXQ_LOG_WARNING, &messages));
  CHECK(n_messages_of_a_load() == 0);
  REQUIRE_OK(flexq_set_log_callback(listen, FLEXQ_LOG_INFO, &messages));
  REQUIRE(n_messages_of_a_load() == 1);
  CHECK(messages[0].rfind("3" + checkpoint.path() + ": 1 tensors ignored", 0) == 0);
  CHECK(messages[0].find('\n') == std::string::npos);
  CHECK_ERROR(flexq_set_log_callback(listen, 0, nullptr), "INVALID_ARGUMENT", "max_level");
  CHECK_ERROR(flexq_set_log_callback(listen, 5, nullptr), "INVALID_ARGUMENT", "max_level");
  REQUIRE_OK(flexq_set_log_callback(nullptr, 0, nullptr));
  CHECK(n_messages_of_a_load() == 0);
}
