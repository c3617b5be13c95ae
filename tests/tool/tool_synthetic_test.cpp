// Models of random weights, 8-bit matrices, KV types and the benchmarks that use them.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "support/test_data.h"
#include "tool/tool_process.h"

using namespace flexq::test;
using Json = nlohmann::json;

namespace {

const std::string kStories = source_path("samples/data/stories260k");

}  // namespace

TEST_CASE("options of synthetic models that do not fit together are wrong usage") {
  struct Case {
    std::vector<std::string> arguments;
    const char* part;
  };
  const Case cases[] = {
      {{"quantize", "-o", "x"}, "--shape"},
      {{"quantize", "m", "--shape", "tinyllama-1.1b", "-o", "x"}, "--shape"},
      {{"quantize", "--shape", "llama-9", "-o", "x"}, "llama-2-7b"},
      {{"quantize", "m", "-o", "x", "--embedding-bits", "4"}, "embedding_bits"},
      {{"quantize", "m", "-o", "x", "--lm-head-bits", ""}, "lm_head_bits"},
      {{"bench", "e2e"}, "--shape"},
      {{"bench", "e2e", "m", "--policy", "w8a8"}, "--shape"},
      {{"bench", "e2e", "m", "--lm-head-bits", "8"}, "--shape"},
      {{"bench", "e2e", "--shape", "tinyllama-1.1b,llama-9"}, "llama-9"},
      {{"bench", "e2e", "--shape", "tinyllama-1.1b", "--policy", "flexq,w5a5"}, "w5a5"},
      {{"bench", "e2e", "--shape", "tinyllama-1.1b", "--lm-head-bits", "6"}, "lm_head_bits"},
      {{"bench", "e2e", "--shape", "tinyllama-1.1b", "--kv-type", "f8"}, "kv_type"},
      {{"bench", "e2e", "--shape", "tinyllama-1.1b", "--kernels", "avx9"}, "avx9"},
      {{"bench", "kernels"}, "--shape"},
      {{"bench", "kernels", "--matrix", "4096"}, "4096"},
      {{"bench", "kernels", "--matrix", "64x64,0x64"}, "0x64"},
      {{"bench", "kernels", "--matrix", "64x64", "--policy", "w5a5"}, "w5a5"},
      {{"bench", "kernels", "--matrix", "64x64", "--baselines", "fp16,fp4"}, "fp4"},
      {{"bench", "kernels", "--shape", "llama-9"}, "llama-9"},
      {{"bench", "kernels", "--shape", "tinyllama-1.1b", "--policy", "w5a5"}, "w5a5"},
      {{"bench", "kernels", "--shape", "tinyllama-1.1b", "--kernels", "avx9"}, "avx9"},
      {{"bench", "kernels", "--shape", "tinyllama-1.1b", "--tokens", "1,0"}, "--tokens"},
      {{"bench", "kernels", "--shape", "tinyllama-1.1b", "--tokens", "16385"}, "--tokens"},
      {{"bench", "kernels", "--shape", "tinyllama-1.1b", "--repeat", "0"}, "--repeat"},
      {{"bench", "kernels", "--shape", "tinyllama-1.1b", "--working-set", "0"}, "--working-set"},
      {{"bench", "kernels", "--shape", "tinyllama-1.1b", "--cuda-kernels", "int9"}, "int9"},
      {{"run", kStories, "-p", "a", "--kv-type", "i4"}, "kv_type"},
      {{"eval", "perplexity", kStories, "--text", kStories + "/greedy.txt", "--kv-type", "F16"},
       "kv_type"},
  };
  for (const Case& one : cases) {
    std::string words;
    for (const std::string& word : one.arguments)
      words += word + " ";
    CAPTURE(words);
    check_failure(run_tool(one.arguments), 2, {one.part});
  }
}

TEST_CASE("quantize --shape leaves nothing behind where the output cannot be written") {
  const TemporaryDirectory directory;
  check_failure(run_tool({"quantize", "--shape", "tinyllama-1.1b", "-o", directory.path()}), 1,
                {"folder"});
  check_failure(
      run_tool({"quantize", "--shape", "tinyllama-1.1b", "-o", directory.file("absent/x.flexq")}),
      1, {"absent"});
  CHECK(std::filesystem::is_empty(directory.path()));
}

TEST_CASE("bench e2e opens everything before it measures") {
  check_failure(run_tool({"bench", "e2e", kStories + "/absent", "--shape", "tinyllama-1.1b"}), 1,
                {"absent"});
}

TEST_CASE("8-bit weights and matrices: quantize, inspect, run") {
  const TemporaryDirectory directory;
  const auto size_with = [&](std::vector<std::string> options) {
    std::vector<std::string> arguments = {"quantize", kStories, "-o", directory.file("m.flexq")};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return run_json(arguments)["size_bytes"].get<int64_t>();
  };
  const auto story = [&](std::vector<std::string> options) {
    std::vector<std::string> arguments = {"run", directory.file("m.flexq"), "-p", "Once upon a"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return run_json(arguments)["text"].get<std::string>();
  };
  const std::vector<std::string> short_story = {"-n", "24"};
  const int64_t full = size_with({"--policy", "w8a8"});
  const std::string text = story(short_story);
  CHECK(text.find(' ') != std::string::npos);
  const Json inspected = run_json({"inspect", directory.file("m.flexq")});
  CHECK(inspected["quantization"]["policy"] == "w8a8");
  CHECK(inspected["bits_per_weight"] > 7.0);
  // The two matrices are one in this model: either option makes it 8 bits.
  const int64_t with_embedding = size_with({"--policy", "w8a8", "--embedding-bits", "8"});
  CHECK(with_embedding < full);
  const int64_t with_lm_head = size_with({"--policy", "w8a8", "--lm-head-bits", "8"});
  CHECK(with_lm_head == with_embedding);
  CHECK(story(short_story).find(' ') != std::string::npos);
  CHECK(size_with({"--policy", "w8a16"}) > 0);
  CHECK(story(short_story).find(' ') != std::string::npos);
}

TEST_CASE("--kv-type changes what the cache holds") {
  const std::string text = kStories + "/greedy.txt";
  const auto perplexity = [&](const char* kv_type) {
    return run_json({"eval", "perplexity", kStories, "--text", text, "--window", "128", "--kv-type",
                     kv_type})["perplexity"]
        .get<double>();
  };
  const double exact = perplexity("auto");
  CHECK(perplexity("f32") == exact);
  for (const char* kv_type : {"f16", "i8"}) {
    CAPTURE(kv_type);
    const double found = perplexity(kv_type);
    CHECK(found != exact);
    CHECK(std::abs(found / exact - 1) < 0.02);
  }

  const auto kv_bytes = [&](const char* kv_type) {
    const ToolResult result =
        run_tool({"run", kStories, "-p", "", "-n", "8", "--stats", "--kv-type", kv_type});
    CHECK(result.exit_code == 0);
    const size_t at = result.err.find("KV cache");
    REQUIRE(at != std::string::npos);
    return result.err.substr(at, result.err.find('\n', at) - at);
  };
  CHECK(kv_bytes("auto") == kv_bytes("f32"));
  CHECK(kv_bytes("i8") != kv_bytes("f16"));
  CHECK(run_json({"bench", "e2e", kStories, "--prompt", "8", "--generate", "2", "--repeat", "1",
                  "--kv-type", "i8", "--kernels", "portable"})["results"]
            .size() == 1);
}

TEST_CASE("bench kernels measures every matrix of a shape") {
  const Json json =
      run_json({"bench", "kernels", "--shape", "tinyllama-1.1b", "--policy", "w8a8", "--tokens",
                "1,2", "--threads", "2", "--repeat", "1", "--working-set", "1"});
  const Json& rows = json["results"];
  REQUIRE(rows.size() == 10);
  CHECK(json["device"] == "cpu");
  CHECK(json["threads"] == 2);
  CHECK(json["read_bandwidth_bytes_per_second"] > 0.0);
  CHECK(json["baselines"].is_null());
  CHECK(json["no_baselines"] == "cuBLASLt: expected a CUDA device");
  const char* layers[] = {"q_proj,o_proj", "k_proj,v_proj", "gate_proj,up_proj", "down_proj",
                          "lm_head"};
  for (size_t i = 0; i < rows.size(); ++i) {
    const Json& row = rows[i];
    CAPTURE(row.dump());
    std::vector<std::string> keys;
    for (const auto& member : row.items())
      keys.push_back(member.key());
    CHECK(keys == std::vector<std::string>{"activation_bits", "baselines", "bytes_per_second",
                                           "cols", "floor_microseconds", "floor_ratio", "format",
                                           "kernels", "layer", "microseconds",
                                           "operations_per_second", "policy", "read_microseconds",
                                           "rows", "shape", "tokens", "weight_bytes"});
    const bool is_head = i >= 8;
    CHECK(row["baselines"].empty());
    CHECK(row["read_microseconds"] > 0.0);
    CHECK(row["floor_microseconds"].get<double>() ==
          doctest::Approx(row["weight_bytes"].get<double>() /
                          json["read_bandwidth_bytes_per_second"].get<double>() * 1e6));
    CHECK(row["shape"] == "tinyllama-1.1b");
    CHECK(row["policy"] == "w8a8");
    CHECK(row["layer"] == layers[i / 2]);
    CHECK(row["format"] == (is_head ? "f16" : "int8"));
    CHECK(row["activation_bits"] == (is_head ? 16 : 8));
    CHECK(row["tokens"] == (i % 2 == 0 ? 1 : 2));
    const double rows_of = row["rows"];
    const double cols_of = row["cols"];
    const double us = row["microseconds"];
    CHECK(us > 0);
    CHECK(row["weight_bytes"].get<double>() >= rows_of * cols_of);
    CHECK(row["floor_ratio"].get<double>() ==
          doctest::Approx(us / row["floor_microseconds"].get<double>()));
    CHECK(row["bytes_per_second"].get<double>() ==
          doctest::Approx(row["weight_bytes"].get<double>() / us * 1e6));
    CHECK(row["operations_per_second"].get<double>() ==
          doctest::Approx(2 * rows_of * cols_of * row["tokens"].get<double>() / us * 1e6));
  }
}

TEST_CASE("bench kernels shows matrices of any size as tables") {
  const std::vector<std::string> arguments = {
      "bench", "kernels",   "--matrix", "96x256,64x128", "--policy", "w6a8",          "--tokens",
      "3",     "--threads", "1",        "--repeat",      "1",        "--working-set", "1"};
  const auto shown_with = [&](std::vector<std::string> options) {
    options.insert(options.begin(), arguments.begin(), arguments.end());
    const ToolResult result = run_tool(options);
    CHECK(result.exit_code == 0);
    CAPTURE(result.out);
    return result.out;
  };
  const auto has = [](const std::string& text, const std::string& part) {
    CAPTURE(text);
    CAPTURE(part);
    return text.find(part) != std::string::npos;
  };
  const std::string table = shown_with({});
  for (const char* part :
       {"policy w6a8\n", "96 x 256", "64 x 128", "int6 x int8", "floor us", "read-only us",
        "memory read at", "no baselines: cuBLASLt: expected a CUDA device"})
    CHECK(has(table, part));
  CHECK_FALSE(has(shown_with({"--baselines", "none"}), "baselines"));
  const std::string markdown = shown_with({"--markdown"});
  CHECK(has(markdown, "| layer | N x K | format | tokens | us | floor us | ratio |"));
  CHECK(has(markdown, "|---|---:|"));
  CHECK(has(markdown, "| matrix | 96 x 256 | int6 x int8 | 3 |"));
  // The CPU's kernels leave no choice.
  CHECK(has(shown_with({"--tune"}), "none of these kernels leaves a choice"));
  const Json tuning = run_json({"bench", "kernels", "--matrix", "64x128", "--tokens", "1",
                                "--threads", "1", "--repeat", "1", "--tune"});
  CHECK(tuning["tuning"].empty());
  CHECK(tuning["table"].empty());
}
