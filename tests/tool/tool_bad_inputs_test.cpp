// Files that are missing, damaged or not for us: one line that names the thing, exit code 1,
// nothing on standard output, no half-made bundle.
#include <doctest/doctest.h>

#include <filesystem>
#include <limits>

#include "support/synthetic_checkpoint.h"
#include "support/synthetic_tokenizer.h"
#include "support/test_data.h"
#include "tool/tool_process.h"

using namespace flexq::test;

namespace {

const std::string kStories = source_path("samples/data/stories260k");

// Both ways into a checkpoint refuse it and name it; no bundle appears.
void check_refused(const std::string& checkpoint, std::initializer_list<std::string_view> parts) {
  const TemporaryDirectory directory;
  const std::string output = directory.file("out.flexq");
  check_failure(run_tool({"quantize", checkpoint, "-o", output}), 1, parts);
  CHECK(std::filesystem::is_empty(directory.path()));
  check_failure(run_tool({"run", checkpoint, "-p", "a", "--json"}), 1, parts);
}

void check_refused(const SyntheticFiles& files, std::initializer_list<std::string_view> parts) {
  const TemporaryDirectory checkpoint;
  write_files(checkpoint.path(), files);
  check_refused(checkpoint.path(), parts);
}

void check_refused(const SyntheticOptions& options, std::initializer_list<std::string_view> parts) {
  check_refused(make_synthetic_checkpoint(options), parts);
}

// A small valid bundle.
std::string write_bundle(const TemporaryDirectory& directory) {
  const std::string bundle = directory.file("model.flexq");
  const ToolResult result = run_tool({"quantize", kStories, "-o", bundle});
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  return bundle;
}

}  // namespace

TEST_CASE("missing files and folders") {
  const TemporaryDirectory directory;
  const std::string absent = directory.file("absent");
  for (const char* command : {"inspect", "verify", "tokenize"}) {
    CAPTURE(command);
    check_failure(run_tool({command, absent}), 1, {"absent"});
  }
  check_failure(run_tool({"run", absent, "-p", "a"}), 1, {"absent"});
  check_failure(run_tool({"quantize", absent, "-o", directory.file("o.flexq")}), 1, {"absent"});
  check_failure(run_tool({"bench", "e2e", absent}), 1, {"absent"});
  check_failure(run_tool({"eval", "perplexity", kStories, "--text", absent}), 1, {"absent"});
  check_failure(run_tool({"eval", "choice", kStories, "--task", "piqa", "--data", absent}), 1,
                {"absent"});
  check_failure(run_tool({"eval", "compare", kStories, absent, "--text", kStories + "/greedy.txt"}),
                1, {"absent"});
  check_failure(run_tool({"eval", "compare", kStories, kStories, "--text", absent}), 1, {"absent"});
  check_failure(run_tool({"run", kStories, "--file", absent}), 1, {"absent"});
  check_failure(run_tool({"tokenize", directory.path(), "--text", "a"}), 1, {"tokenizer"});
  check_failure(run_tool({"verify", directory.path()}), 1, {directory.path()});
  check_refused(directory.path(), {"config.json"});
  // A name with a line break stays on one line.
  check_failure(run_tool({"inspect", directory.file("two\nlines")}), 1, {"two\\nlines"});
}

TEST_CASE("shards: an absent one, and an index that leaves the folder") {
  SyntheticOptions options;
  options.n_shards = 3;
  SyntheticFiles files = make_synthetic_checkpoint(options);
  const std::string shard = "model-00002-of-00003.safetensors";
  REQUIRE(files.contains(shard));
  SUBCASE("absent") {
    files.erase(shard);
    check_refused(files, {shard});
  }
  SUBCASE("outside") {
    std::string& index = files.at("model.safetensors.index.json");
    for (size_t at = 0; (at = index.find(shard, at)) != std::string::npos; at += shard.size() + 3) {
      index.insert(at, "../");
    }
    check_refused(files, {"../" + shard});
  }
}

TEST_CASE("checkpoints that are not a model FlexQ implements") {
  SyntheticOptions options;
  SUBCASE("architecture") {
    options.config_patch = R"({"architectures": ["GPTJForCausalLM"], "model_type": "gptj"})";
    check_refused(options, {"config.json", "gptj"});
  }
  SUBCASE("rope type") {
    options.config_patch = R"({"rope_scaling": {"type": "yarn", "factor": 4.0}})";
    check_refused(options, {"config.json", "yarn"});
  }
  SUBCASE("quantized by another method") {
    options.config_patch = R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})";
    check_refused(options, {"config.json", "gptq"});
  }
  SUBCASE("a wrong shape") {
    options.reshaped["model.layers.1.mlp.up_proj.weight"] = {160, 63};
    check_refused(options, {"model.layers.1.mlp.up_proj.weight", "63", "64"});
  }
  SUBCASE("a missing tensor") {
    options.dropped = {"model.layers.0.self_attn.k_proj.weight"};
    check_refused(options, {"model.layers.0.self_attn.k_proj.weight"});
  }
  SUBCASE("NaN among the weights") {
    options.planted.push_back(
        {"model.layers.1.self_attn.o_proj.weight", 3, 5, std::numeric_limits<float>::quiet_NaN()});
    check_refused(options, {"model.layers.1.self_attn.o_proj.weight"});
  }
}

TEST_CASE("damaged checkpoint files") {
  SyntheticFiles files = make_synthetic_checkpoint({});
  SUBCASE("truncated weights") {
    std::string& weights = files.at("model.safetensors");
    weights.resize(weights.size() - 100);
    check_refused(files, {"model.safetensors"});
  }
  SUBCASE("empty weights") {
    files.at("model.safetensors").clear();
    check_refused(files, {"model.safetensors"});
  }
  SUBCASE("config.json is not JSON") {
    files.at("config.json") = "{\"model_type\": ";
    check_refused(files, {"config.json"});
  }
  SUBCASE("a tokenizer with another vocabulary") {
    files.at("tokenizer.model") = synthetic_tokenizer_model(330);
    check_refused(files, {"tokenizer", "330", "320"});
  }
}

TEST_CASE("damaged bundles") {
  const TemporaryDirectory directory;
  const std::string bundle = write_bundle(directory);
  const std::string bytes = read_whole_file(bundle);
  const auto check_all_refuse = [&](std::string_view damaged,
                                    std::initializer_list<std::string_view> parts) {
    write_whole_file(bundle, damaged);
    check_failure(run_tool({"verify", bundle, "--json"}), 1, parts);
    check_failure(run_tool({"run", bundle, "-p", "a"}), 1, parts);
  };
  SUBCASE("a newer format") {
    // Format version and least reader version follow the 6 bytes of magic.
    std::string newer = bytes;
    newer.replace(6, 4, std::string("\x02\x00\x02\x00", 4));
    check_all_refuse(newer, {"model.flexq", "format 2"});
    check_failure(run_tool({"inspect", bundle}), 1, {"model.flexq", "format 2"});
  }
  SUBCASE("a flipped bit in the last chunk") {
    std::string flipped = bytes;
    for (size_t i = flipped.size(); i-- > 0;) {
      if (flipped[i] == 0) continue;
      flipped[i] = static_cast<char>(flipped[i] ^ 1);
      break;
    }
    check_all_refuse(flipped, {"model.flexq"});
  }
  SUBCASE("truncated") {
    check_all_refuse(std::string_view(bytes).substr(0, bytes.size() / 2), {"model.flexq"});
  }
  SUBCASE("something else") {
    check_all_refuse("hello\n", {"model.flexq"});
  }
  SUBCASE("empty") {
    check_all_refuse("", {"model.flexq"});
  }
}

TEST_CASE("requests that do not fit the model") {
  const TemporaryDirectory directory;
  const std::string bundle = write_bundle(directory);
  const std::string prompt = directory.file("prompt");
  write_whole_file(prompt, read_whole_file(kStories + "/greedy.txt"));
  check_failure(run_tool({"run", bundle, "--file", prompt, "--context", "64"}), 1,
                {"prompt", "64"});
  check_failure(run_tool({"run", bundle, "-p", "a", "--context", "100000"}), 1, {"100000", "512"});
  check_failure(run_tool({"run", bundle, "-p", "", "--no-bos"}), 1, {"prompt"});
  check_failure(run_tool({"run", bundle, "-p", "a", "--logit-bias", "512=1"}), 1, {"512"});
  for (const char* device : {"cuda:0", "abacus"}) {
    check_failure(run_tool({"run", bundle, "-p", "a", "--device", device}), 1, {device});
  }
  check_failure(run_tool({"bench", "e2e", bundle, "--prompt", "500", "--generate", "64"}), 1,
                {"564", "512"});
  write_whole_file(prompt, "short");
  check_failure(run_tool({"eval", "perplexity", bundle, "--text", prompt}), 1, {"512"});
  check_failure(run_tool({"eval", "perplexity", bundle, "--text", prompt, "--window", "1024"}), 1,
                {"1024", "512"});
}

TEST_CASE("malformed questions, and models that cannot be compared") {
  const TemporaryDirectory directory;
  const std::string data = directory.file("piqa.jsonl");
  write_whole_file(data, read_whole_file(source_path("tests/data/choice/piqa.jsonl")) +
                             R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 7})");
  const std::vector<std::string> task = {"--task", "piqa", "--data", data};
  check_failure(run_tool({"eval", "choice", kStories, task[0], task[1], task[2], task[3]}), 1,
                {"piqa.jsonl, line 5", "label", "0 or 1", "7"});
  check_failure(
      run_tool({"eval", "compare", kStories, kStories, task[0], task[1], task[2], task[3]}), 1,
      {"piqa.jsonl, line 5"});
  write_whole_file(data, "");
  check_failure(run_tool({"eval", "choice", kStories, task[0], task[1], task[2], task[3]}), 1,
                {"piqa.jsonl", "at least one question"});
  const std::string text = kStories + "/greedy.txt";
  const std::string other = source_path("tests/data/wiki-tiny-1m");
  check_failure(run_tool({"eval", "compare", kStories, other, "--text", text, "--window", "64"}), 1,
                {"512", "2048"});
  check_failure(
      run_tool({"eval", "compare", kStories, kStories, "--text", text, "--window", "700"}), 1,
      {"700", "512"});
}

TEST_CASE("an output path that is a folder, and one without a folder") {
  const TemporaryDirectory directory;
  check_failure(run_tool({"quantize", kStories, "-o", directory.path()}), 1, {directory.path()});
  CHECK(std::filesystem::is_empty(directory.path()));
  const std::string nowhere = directory.file("no/such/folder");
  check_failure(run_tool({"quantize", kStories, "-o", nowhere + "/out.flexq"}), 1, {nowhere});
}
