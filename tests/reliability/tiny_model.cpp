#include "reliability/tiny_model.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <sstream>

#include "quantize/precision_policy.h"
#include "support/test_data.h"
#include "support/test_keys.h"

namespace flexq::test {
namespace {

std::string quantize_tiny(const std::string& policy) {
  const TemporaryDirectory directory;
  const std::string checkpoint = write_tiny_checkpoint(directory.path());
  const std::string path = directory.file("tiny.flexq");
  QuantizeOptionsHandle options;
  REQUIRE_OK(create(options, flexq_quantize_options_create));
  REQUIRE_OK(flexq_quantize_options_set_policy(options.get(), policy.c_str()));
  REQUIRE_OK(flexq_quantize(checkpoint.c_str(), path.c_str(), options.get()));
  return read_file_bytes(path);
}

}  // namespace

ModelConfig tiny_model_config() {
  ModelConfig config = small_model_config();
  config.n_layers = 1;
  config.context_tokens = 256;
  return config;
}

void keep_temporaries_in_memory() {
  if (access("/dev/shm", W_OK | X_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
}

std::string write_tiny_checkpoint(const std::string& parent) {
  SyntheticOptions options;
  options.config = tiny_model_config();
  std::string directory = parent + "/tiny";
  options.generation_config = R"({"eos_token_id": [2, 5]})";
  SyntheticFiles files = make_synthetic_checkpoint(options);
  files["tokenizer_config.json"] = R"({"chat_template": "{{ messages }}"})";
  std::filesystem::create_directory(directory);
  write_files(directory, files);
  return directory;
}

const std::string& tiny_model_bytes(const std::string& policy) {
  static std::map<std::string, std::string> bundles;
  std::string& bytes = bundles[policy];
  if (bytes.empty()) bytes = quantize_tiny(policy);
  return bytes;
}

const std::string& signed_tiny_model_bytes() {
  static const std::string bytes = [] {
    const TemporaryDirectory directory;
    const std::string path = directory.file("tiny.flexq");
    std::ofstream(path, std::ios::binary) << tiny_model_bytes();
    REQUIRE_OK(flexq_bundle_sign(path.c_str(), kTestSecretKey.data(),
                                 static_cast<int64_t>(kTestSecretKey.size()), 1, nullptr, nullptr));
    return read_file_bytes(path);
  }();
  return bytes;
}

std::string read_file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

SourceHandle source_of(const std::string& bytes) {
  SourceHandle source;
  REQUIRE_OK(
      create(source, flexq_source_from_memory, bytes.data(), static_cast<int64_t>(bytes.size())));
  return source;
}

ModelOptionsHandle model_options(int32_t n_threads, const char* kernels) {
  ModelOptionsHandle options;
  REQUIRE_OK(create(options, flexq_model_options_create));
  REQUIRE_OK(flexq_model_options_set_threads(options.get(), n_threads));
  REQUIRE_OK(flexq_model_options_set(options.get(), "cpu.kernels", kernels));
  return options;
}

ModelHandle load_tiny_model(const std::string& policy, int32_t n_threads, const char* kernels) {
  const SourceHandle source = source_of(tiny_model_bytes(policy));
  const ModelOptionsHandle options = model_options(n_threads, kernels);
  ModelHandle model;
  REQUIRE_OK(create(model, flexq_model_load, source.get(), options.get()));
  return model;
}

std::vector<std::string> usable_kernels() {
  const std::string info = flexq_build_info();
  const std::string key = "cpu kernels usable here: ";
  const size_t begin = info.find(key);
  REQUIRE(begin != std::string::npos);
  std::istringstream line(
      info.substr(begin + key.size(), info.find('\n', begin) - begin - key.size()));
  return {std::istream_iterator<std::string>(line), {}};
}

std::vector<std::string> all_policies() {
  std::vector<std::string> names;
  for (const PrecisionPolicy& policy : precision_policies())
    names.push_back(std::string(policy.name));
  return names;
}

std::vector<int32_t> tiny_tokens(int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto n_vocab = static_cast<uint64_t>(tiny_model_config().n_vocab);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i)
    tokens.push_back(static_cast<int32_t>(random() % n_vocab));
  return tokens;
}

std::string output_bytes(const flexq_context* context) {
  std::string bytes;
  for (int32_t row = 0; row < flexq_context_output_count(context); ++row) {
    const float* values = nullptr;
    int32_t n = 0;
    REQUIRE_OK(flexq_context_logits(context, row, &values, &n));
    bytes.append(reinterpret_cast<const char*>(values), static_cast<size_t>(n) * sizeof(float));
    REQUIRE_OK(flexq_context_embedding(context, row, &values, &n));
    bytes.append(reinterpret_cast<const char*>(values), static_cast<size_t>(n) * sizeof(float));
  }
  return bytes;
}

}  // namespace flexq::test
