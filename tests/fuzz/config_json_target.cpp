// The small JSON files of a checkpoint. First byte of an input: which one.
//   0  config.json   1  generation_config.json   2  model.safetensors.index.json
//   3  tokenizer_config.json
#include <vector>

#include "checkpoint/config_json.h"
#include "checkpoint/shard_index.h"
#include "fuzz/fuzz_target.h"
#include "model/rope_table.h"
#include "support/synthetic_checkpoint.h"
#include "text/tokenizer_config.h"

namespace flexq::test {
namespace {

void use_config(const ModelConfig& config) {
  const Status valid = validate_config(config, "input");
  FUZZ_REQUIRE(valid.ok(), valid.message());
  for (const TensorSpec& tensor : expected_tensors(config))
    FUZZ_REQUIRE(tensor.rows >= 1 && tensor.cols >= 1, tensor.name);
  const RopeTable rope(config);
  std::vector<float> cos(static_cast<size_t>(config.head_dim / 2));
  std::vector<float> sin(cos.size());
  rope.angles(config.context_tokens - 1, cos.data(), sin.data());
}

}  // namespace

bool fuzz_config_json(FuzzInput input) {
  const int kind = take_byte(input) % 4;
  if (kind == 0) {
    const auto config = read_config_json(as_text(input), "input");
    if (!accepted(config.status())) return false;
    use_config(*config);
    return true;
  }
  if (kind == 1) {
    ModelConfig config = small_model_config();
    if (!accepted(merge_generation_config(as_text(input), "input", &config))) return false;
    use_config(config);
    return true;
  }
  if (kind == 2) {
    const auto index = read_shard_index(as_text(input), "input");
    if (!accepted(index.status())) return false;
    for (const auto& [tensor, file] : *index)
      FUZZ_REQUIRE(file.find('/') == std::string::npos && file.ends_with(".safetensors"), file);
    return true;
  }
  return accepted(parse_tokenizer_config(as_text(input), "input").status());
}

}  // namespace flexq::test
