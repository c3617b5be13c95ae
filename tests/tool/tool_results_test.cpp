// What the commands print, against checkpoints whose results are known.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "support/test_data.h"
#include "tool/tool_process.h"

using namespace flexq::test;
using Json = nlohmann::json;

namespace {

const std::string kStories = source_path("samples/data/stories260k");
const std::string kWikiTiny = source_path("tests/data/wiki-tiny-1m");

// The keys of an object, sorted.
std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& member : object.items())
    keys.push_back(member.key());
  return keys;
}

std::string quantized_stories(const TemporaryDirectory& directory) {
  const std::string bundle = directory.file("stories260k.flexq");
  run_json({"quantize", kStories, "-o", bundle});
  return bundle;
}

Json read_json(const std::string& path) {
  return Json::parse(read_whole_file(path));
}

}  // namespace

TEST_CASE("T27_tool_greedy_text run writes the known story") {
  // The file ends with the line break of the program that wrote it.
  std::string story = read_whole_file(kStories + "/greedy.txt");
  REQUIRE(story.ends_with('\n'));
  const ToolResult plain = run_tool({"run", kStories, "-p", "", "-n", "256"});
  CHECK(plain.exit_code == 0);
  CHECK(plain.err == "");
  CHECK(plain.out == story);

  story.pop_back();
  const Json json = run_json({"run", kStories, "-p", "", "-n", "256"});
  CHECK(keys_of(json) == std::vector<std::string>{"decode_tokens_per_second", "finish_reason",
                                                  "prefill_tokens_per_second", "prompt_tokens",
                                                  "text", "tokens"});
  CHECK(json["text"] == story);
  CHECK(json["prompt_tokens"] == Json{1});
  CHECK(json["tokens"].size() == 256);
  CHECK(json["finish_reason"] == "length");
  CHECK(json["prefill_tokens_per_second"] > 0.0);
  CHECK(json["decode_tokens_per_second"] > 0.0);
}

TEST_CASE("T27_tool_perplexity the first 48 windows of wiki.test") {
  const std::string text = reference_path("text/wiki.test.raw");
  if (text.empty()) return;
  const Json golden =
      read_json(source_path("tests/data/wiki-tiny-1m-golden/windows.json"))["windows"]["fp32"];
  const Json json = run_json(
      {"eval", "perplexity", kWikiTiny, "--text", text, "--windows", "48", "--per-window"});
  CHECK(keys_of(json) == std::vector<std::string>{"mean_nll", "perplexity", "tokens", "window",
                                                  "window_nll", "windows"});
  CHECK(json["tokens"] == 482886);
  CHECK(json["window"] == 512);
  CHECK(json["windows"] == 48);
  REQUIRE(json["window_nll"].size() == 48);
  double golden_sum = 0;
  for (size_t i = 0; i < 48; ++i) {
    CAPTURE(i);
    golden_sum += golden[i].get<double>();
    CHECK(std::abs(json["window_nll"][i].get<double>() - golden[i].get<double>()) < 2e-4);
  }
  const double golden_perplexity = std::exp(golden_sum / 48);
  CHECK(std::abs(json["perplexity"].get<double>() / golden_perplexity - 1) < 2e-4);
  CHECK(std::abs(std::exp(json["mean_nll"].get<double>()) / json["perplexity"].get<double>() - 1) <
        1e-9);
}

TEST_CASE("eval perplexity of a short text") {
  const std::string text = kStories + "/greedy.txt";
  const Json all = run_json({"eval", "perplexity", kStories, "--text", text, "--window", "64"});
  CHECK(keys_of(all) ==
        std::vector<std::string>{"mean_nll", "perplexity", "tokens", "window", "windows"});
  CHECK(all["windows"] == all["tokens"].get<int>() / 64);
  const ToolResult plain = run_tool({"eval", "perplexity", kStories, "--text", "-", "--window",
                                     "64", "--windows", "1", "--per-window"},
                                    {.stdin_text = read_whole_file(text)});
  CHECK(plain.exit_code == 0);
  CHECK(plain.out.starts_with("perplexity "));
  CHECK(plain.out.find("1 windows of 64") != std::string::npos);
}

TEST_CASE("eval choice gives accuracies, and scores on request") {
  const std::string data = source_path("tests/data/choice/arc.jsonl");
  const std::vector<std::string> base = {"eval", "choice", kStories, "--task",
                                         "arc",  "--data", data};
  const Json plain = run_json(base);
  CHECK(keys_of(plain) == std::vector<std::string>{"acc", "acc_norm", "n", "task"});
  CHECK(plain["task"] == "arc");
  CHECK(plain["n"] == 4);
  std::vector<std::string> arguments = base;
  arguments.insert(arguments.end(), {"--scores", "--batch", "3"});
  const Json scored = run_json(arguments);
  CHECK(keys_of(scored) == std::vector<std::string>{"acc", "acc_norm", "n", "scores", "task"});
  CHECK(scored["acc"] == plain["acc"]);
  CHECK(scored["acc_norm"] == plain["acc_norm"]);
  REQUIRE(scored["scores"].size() == 4);
  const int answers[] = {0, 1, 3, 2};
  const size_t n_choices[] = {4, 3, 4, 4};
  int n_correct = 0;
  for (size_t i = 0; i < 4; ++i) {
    CAPTURE(i);
    const auto scores = scored["scores"][i].get<std::vector<double>>();
    CHECK(scores.size() == n_choices[i]);
    const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
    if (best == answers[i]) ++n_correct;
    for (const double score : scores)
      CHECK(score < 0);
  }
  CHECK(scored["acc"] == n_correct / 4.0);

  arguments.insert(arguments.end(), {"--limit", "2"});
  const Json limited = run_json(arguments);
  CHECK(limited["n"] == 2);
  CHECK(limited["scores"][1] == scored["scores"][1]);
  const ToolResult text = run_tool(arguments);
  CHECK(text.exit_code == 0);
  CHECK(text.err == "");
  CHECK(text.out.starts_with("arc: accuracy "));
  CHECK(text.out.find("of 2 questions") != std::string::npos);
}

TEST_CASE("eval compare: a text, a task, and both") {
  const TemporaryDirectory directory;
  const std::string bundle = directory.file("w6a6.flexq");
  run_json({"quantize", kStories, "-o", bundle, "--policy", "w6a6"});
  const std::string text = kStories + "/greedy.txt";
  const std::string data = source_path("tests/data/choice/arc.jsonl");
  const Json json = run_json({"eval", "compare", kStories, bundle, "--text", text, "--window", "64",
                              "--task", "arc", "--data", data});
  CHECK(keys_of(json) == std::vector<std::string>{"a", "b", "choice", "text"});
  CHECK(json["a"] == kStories);
  CHECK(json["b"] == bundle);
  CHECK(keys_of(json["text"]) ==
        std::vector<std::string>{"mean_kl", "mean_nll_a", "mean_nll_b", "perplexity_a",
                                 "perplexity_b", "positions", "tokens", "top1_agreement",
                                 "top1_flipped", "top1_gained", "top1_lost", "window", "windows"});
  CHECK(keys_of(json["choice"]) == std::vector<std::string>{"acc_a", "acc_b", "acc_norm_a",
                                                            "acc_norm_b", "flipped", "gained",
                                                            "lost", "n", "task"});
  const char* const keys[] = {"perplexity_a", "perplexity_b"};
  const char* const accuracies[] = {"acc_a", "acc_b"};
  std::vector<std::vector<double>> scores[2];
  for (size_t i = 0; i < 2; ++i) {
    const std::string model = i == 0 ? kStories : bundle;
    const double perplexity =
        run_json({"eval", "perplexity", model, "--text", text, "--window", "64"})["perplexity"];
    CHECK(json["text"][keys[i]].get<double>() == doctest::Approx(perplexity).epsilon(1e-6));
    const Json choice =
        run_json({"eval", "choice", model, "--task", "arc", "--data", data, "--scores"});
    CHECK(json["choice"][accuracies[i]] == choice["acc"]);
    scores[i] = choice["scores"].get<std::vector<std::vector<double>>>();
  }
  int n_flipped = 0;
  const auto best = [](const std::vector<double>& of) {
    return std::max_element(of.begin(), of.end()) - of.begin();
  };
  for (size_t i = 0; i < scores[0].size(); ++i)
    n_flipped += best(scores[0][i]) != best(scores[1][i]) ? 1 : 0;
  CHECK(json["choice"]["flipped"] == n_flipped);
  const double positions = json["text"]["positions"];
  CHECK(positions == json["text"]["windows"].get<double>() * 63);
  CHECK(json["text"]["mean_kl"] > 0.0);
  CHECK(json["text"]["top1_agreement"].get<double>() ==
        doctest::Approx(1 - json["text"]["top1_flipped"].get<double>() / positions));

  const Json same = run_json(
      {"eval", "compare", bundle, bundle, "--text", "-", "--window", "64", "--windows", "1"},
      {.stdin_text = read_whole_file(text)});
  CHECK(keys_of(same) == std::vector<std::string>{"a", "b", "text"});
  CHECK(same["text"]["mean_kl"] == 0.0);
  CHECK(same["text"]["top1_agreement"] == 1.0);
  const ToolResult table =
      run_tool({"eval", "compare", kStories, bundle, "--task", "arc", "--data", data});
  CHECK(table.exit_code == 0);
  CHECK(table.err == "");
  CHECK(table.out.find("arc accuracy") != std::string::npos);
  CHECK(table.out.find("of 4 answers flipped") != std::string::npos);
  CHECK(table.out.find("perplexity") == std::string::npos);
}

TEST_CASE("tokenize gives the reference tokenizer's ids") {
  const Json golden = read_json(source_path("tests/data/wiki-tiny-1m-golden/tokenizer.json"));
  REQUIRE(golden.size() > 5);
  const TemporaryDirectory directory;
  const std::string file = directory.file("text");
  for (const Json& entry : golden) {
    const std::string text = entry["text"];
    CAPTURE(text);
    write_whole_file(file, text);
    const Json json = run_json({"tokenize", kWikiTiny, "--file", file});
    CHECK(keys_of(json) == std::vector<std::string>{"ids", "text"});
    CHECK(json["ids"] == entry["ids"]);
    CHECK(json["text"] == entry["decoded"]);
    CHECK(run_json({"tokenize", kWikiTiny}, {.stdin_text = text}) == json);
  }
}

TEST_CASE("tokenize from a bundle and from a folder with a tokenizer alone") {
  const TemporaryDirectory directory;
  const std::string bundle = quantized_stories(directory);
  const std::string alone = directory.file("tokenizer");
  std::filesystem::create_directory(alone);
  std::filesystem::copy(kStories + "/tokenizer.model", alone + "/tokenizer.model");
  const std::vector<std::string> text = {"--text", "One day, [a] \"b\""};
  const Json expected = run_json({"tokenize", kStories, text[0], text[1]});
  CHECK(expected["ids"][0] == 1);
  CHECK(expected["text"] == text[1]);
  CHECK(run_json({"tokenize", bundle, text[0], text[1]}) == expected);
  CHECK(run_json({"tokenize", alone, text[0], text[1]}) == expected);

  Json without_bos = run_json({"tokenize", alone, text[0], text[1], "--no-bos"});
  without_bos["ids"].insert(without_bos["ids"].begin(), 1);
  CHECK(without_bos == expected);
  CHECK(run_json({"tokenize", alone, "--text", "</s>", "--no-bos", "--parse-special"})["ids"] ==
        Json{2});

  const ToolResult plain = run_tool({"tokenize", alone, text[0], text[1]});
  CHECK(plain.exit_code == 0);
  CHECK(std::count(plain.out.begin(), plain.out.end(), '\n') ==
        static_cast<std::ptrdiff_t>(expected["ids"].size()));
}

TEST_CASE("quantize, inspect and verify") {
  const TemporaryDirectory directory;
  const std::string bundle = directory.file("a.flexq");
  const Json quantized = run_json({"quantize", kStories, "-o", bundle, "--policy", "w6a6"});
  CHECK(keys_of(quantized) ==
        std::vector<std::string>{"bits_per_weight", "output", "policy", "seconds", "size_bytes"});
  const auto size = static_cast<int64_t>(std::filesystem::file_size(bundle));
  CHECK(quantized["output"] == bundle);
  CHECK(quantized["policy"] == "w6a6");
  CHECK(quantized["size_bytes"] == size);
  CHECK(quantized["bits_per_weight"] > 5.0);
  CHECK(quantized["bits_per_weight"] < 9.0);

  const Json inspected = run_json({"inspect", bundle});
  for (const char* key : {"format_version", "signature", "architecture", "quantization",
                          "size_bytes", "bits_per_weight", "tokenizer", "provenance"}) {
    CAPTURE(key);
    CHECK(inspected.contains(key));
  }
  CHECK(inspected["size_bytes"] == size);
  CHECK(inspected["quantization"]["policy"] == "w6a6");
  const ToolResult summary = run_tool({"inspect", bundle});
  CHECK(summary.exit_code == 0);
  CHECK(summary.out.find("w6a6") != std::string::npos);
  CHECK(summary.out.find("layers.*.mlp.down_proj") != std::string::npos);
  const ToolResult layers = run_tool({"inspect", bundle, "--layers"});
  CHECK(layers.out.find("layers.4.mlp.down_proj") != std::string::npos);

  const Json verified = run_json({"verify", bundle, "--threads", "2"});
  CHECK(keys_of(verified) == std::vector<std::string>{"bytes", "key_id", "ok", "seconds"});
  CHECK(verified["key_id"].is_null());
  CHECK(verified["ok"] == true);
  CHECK(verified["bytes"] == size);
  CHECK(run_tool({"verify", bundle}).out.find(": ok, ") != std::string::npos);
}

TEST_CASE("run: options that shape the answer") {
  const TemporaryDirectory directory;
  const std::string bundle = quantized_stories(directory);
  const std::vector<std::string> base = {"run", bundle, "-p", "Once upon a time", "-n", "40"};
  const auto run_with = [&base](std::initializer_list<std::string> more) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), more);
    return run_json(arguments);
  };
  const Json plain = run_with({});
  const std::string text = plain["text"];
  REQUIRE(plain["tokens"].size() == 40);

  SUBCASE("text is decode(prompt and answer) minus decode(prompt), and streams the same") {
    std::vector<std::string> arguments = base;
    CHECK(run_tool(arguments).out == text + "\n");
    arguments.push_back("--echo");
    CHECK(run_tool(arguments).out == "Once upon a time" + text + "\n");
  }
  SUBCASE("a prompt file byte for byte, and standard input") {
    const std::string file = directory.file("prompt");
    write_whole_file(file, "Once upon a time");
    CHECK(run_json({"run", bundle, "--file", file, "-n", "40"})["tokens"] == plain["tokens"]);
    CHECK(run_json({"run", bundle, "--file", "-", "-n", "40"},
                   {.stdin_text = "Once upon a time"})["tokens"] == plain["tokens"]);
  }
  SUBCASE("a stop string ends the text before it") {
    const std::string stop = text.substr(20, 4);
    const Json stopped = run_with({"--stop", "[not, there]", "--stop", stop});
    CHECK(stopped["finish_reason"] == "stop");
    CHECK(stopped["text"] == text.substr(0, text.find(stop)));
  }
  SUBCASE("JSON is whole, however few tokens there are") {
    for (const char* n : {"2", "3", "10", "40"}) {
      const Json answer = run_json({"run", bundle, "-p", "As JSON:", "--format", "json", "-n", n});
      CHECK(answer["finish_reason"] == "stop");
      const std::string object = answer["text"];
      CAPTURE(object);
      CHECK(Json::parse(object, nullptr, false).is_object());
    }
    check_failure(run_tool({"run", bundle, "-p", "a", "--format", "json", "-n", "1"}), 1,
                  {"prompt", "format json", "at least 2"});
  }
  SUBCASE("a forbidden token does not appear") {
    const std::string token = plain["tokens"][0].dump();
    const Json biased = run_with({"--logit-bias", token + "=-inf"});
    for (const Json& found : biased["tokens"])
      CHECK(found != plain["tokens"][0]);
  }
  SUBCASE("the seed decides, the number of threads does not") {
    const Json one = run_with({"--temperature", "0.9", "--seed", "7", "--threads", "1"});
    const Json two = run_with({"--temperature", "0.9", "--seed", "7", "--threads", "2"});
    const Json other = run_with({"--temperature", "0.9", "--seed", "8"});
    CHECK(one["tokens"] == two["tokens"]);
    CHECK(one["tokens"] != other["tokens"]);
  }
  SUBCASE("log probabilities, best alternatives first") {
    const Json logged = run_with({"--log-probs", "3"});
    REQUIRE(logged["log_probs"].size() == 40);
    for (size_t i = 0; i < 40; ++i) {
      const Json& entry = logged["log_probs"][i];
      CHECK(entry["token"] == logged["tokens"][i]);
      REQUIRE(entry["alternatives"].size() == 3);
      CHECK(entry["alternatives"][0]["token"] == entry["token"]);  // greedy
      CHECK(entry["alternatives"][0]["log_prob"] == entry["log_prob"]);
      CHECK(entry["alternatives"][1]["log_prob"] <= entry["log_prob"]);
      CHECK(entry["log_prob"] <= 0.0);
    }
  }
  SUBCASE("0 tokens: until the context is full") {
    const Json full = run_json(
        {"run", bundle, "-p", "Once upon a time", "-n", "0", "--context", "64", "--ignore-eos"});
    CHECK(full["finish_reason"] == "length");
    CHECK(full["prompt_tokens"].size() + full["tokens"].size() >= 64);
  }
  SUBCASE("statistics go to standard error") {
    std::vector<std::string> arguments = base;
    arguments.push_back("--stats");
    const ToolResult result = run_tool(arguments);
    CHECK(result.exit_code == 0);
    CHECK(result.out == text + "\n");
    for (const char* part : {"prefill", "decode", "weights", "KV cache", "length"}) {
      CAPTURE(part);
      CHECK(result.err.find(part) != std::string::npos);
    }
  }
}

TEST_CASE("bench load shows where the time of loading goes") {
  const TemporaryDirectory directory;
  const std::string bundle = quantized_stories(directory);
  const Json json =
      run_json({"bench", "load", bundle, "--repeat", "2", "--threads", "2", "--cold"});
  CHECK(keys_of(json) ==
        std::vector<std::string>{
            "cold", "decode_stored_bytes_per_second", "device", "first_touch_bytes_per_second",
            "fresh_memory_bytes_per_second", "hash_bytes_per_second", "load", "load_warm",
            "read_bandwidth_bytes_per_second", "stored_bytes", "threads", "verify"});
  const double n_bytes = json["stored_bytes"];
  CHECK(n_bytes == static_cast<double>(std::filesystem::file_size(bundle)));
  CHECK(json["threads"] == 2);
  CHECK(json["cold"] == true);
  for (const char* work : {"verify", "load", "load_warm"}) {
    CAPTURE(work);
    const double seconds = json[work]["seconds"];
    CHECK(json[work]["stored_bytes_per_second"].get<double>() ==
          doctest::Approx(n_bytes / seconds));
    CHECK(json[work]["floor_ratio"].get<double>() ==
          doctest::Approx(seconds / json[work]["floor_seconds"].get<double>()));
  }
  for (const char* work : {"load", "load_warm"}) {
    double thread_seconds = 0;
    for (const char* stage : {"read", "hash", "decode", "check", "store"}) {
      CAPTURE(stage);
      const double seconds = json[work]["thread_seconds"][stage];
      CHECK(seconds > 0.0);
      thread_seconds += seconds;
    }
    CHECK(thread_seconds <= 2 * json[work]["seconds"].get<double>());
  }
  CHECK(json["hash_bytes_per_second"] > 0.0);

  const ToolResult result = run_tool({"bench", "load", bundle, "--repeat", "1"});
  CHECK(result.exit_code == 0);
  for (const char* part : {"verify", "load", "hash", "decode", "GB/s"}) {
    CAPTURE(part);
    CHECK(result.out.find(part) != std::string::npos);
  }
}

TEST_CASE("bench e2e measures every batch size of every model") {
  const TemporaryDirectory directory;
  const std::string bundle = quantized_stories(directory);
  const Json json = run_json({"bench", "e2e", bundle, kStories, "--prompt", "8", "--generate", "4",
                              "--batch", "1,3", "--repeat", "2", "--threads", "2"});
  CHECK(keys_of(json) == std::vector<std::string>{"results"});
  REQUIRE(json["results"].size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    CAPTURE(i);
    const Json& row = json["results"][i];
    CHECK(keys_of(row) ==
          std::vector<std::string>{
              "batch", "decode_floor_ratio", "decode_step_bytes", "decode_tokens_per_second",
              "device", "generated_tokens", "memory_bytes", "policy", "prefill_floor_ratio",
              "prefill_operations_per_second", "prefill_tokens_per_second", "prompt_tokens",
              "read_bandwidth_bytes_per_second", "shape", "threads", "weight_bytes"});
    CHECK(row["device"] == "cpu");
    CHECK(row["shape"] == "stories260k");
    CHECK(row["policy"] == (i < 2 ? "flexq" : "none"));
    CHECK(row["threads"] == 2);
    CHECK(row["batch"] == (i % 2 == 0 ? 1 : 3));
    CHECK(row["prompt_tokens"] == 8);
    CHECK(row["generated_tokens"] == 4);
    CHECK(row["weight_bytes"] > 100'000);
    CHECK(row["prefill_tokens_per_second"] > 0.0);
    const double steps_per_second =
        row["decode_tokens_per_second"].get<double>() / row["batch"].get<double>();
    const double bytes = row["decode_step_bytes"];
    CHECK(row["decode_floor_ratio"].get<double>() ==
          doctest::Approx(steps_per_second * bytes /
                          row["read_bandwidth_bytes_per_second"].get<double>()));
    // 5 layers, 4 KV heads of 8 values, keys and values; on the CPU fp32 where the weights are not
    // quantized. Half way through 4 tokens after 8 a step reads 10.5 positions.
    const double kv_bytes_per_token = 5 * 2 * 4 * 8 * (i < 2 ? 2 : 4);
    CHECK(bytes == row["weight_bytes"].get<double>() +
                       row["batch"].get<double>() * 10.5 * kv_bytes_per_token);
    // The tensor cores of a CPU are not known.
    CHECK(row["prefill_floor_ratio"].is_null());
    const double tokens_per_second = row["prefill_tokens_per_second"];
    // 2 operations per weight of a layer and token; per prompt lm_head once, and 36 pairs of
    // positions in attention.
    const double layer_weights = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 172;
    const double prompt = 8 * 2 * 5 * layer_weights + 2 * 512 * 64 + 2 * 2 * 5 * 8 * 8 * 36;
    CHECK(row["prefill_operations_per_second"].get<double>() ==
          doctest::Approx(tokens_per_second / 8 * prompt));
    CHECK(row["memory_bytes"]["weights"].get<double>() >= row["weight_bytes"].get<double>());
    CHECK(row["memory_bytes"]["kv"] > 0);
    CHECK(row["memory_bytes"]["workspace"] > 0);
  }
}
