#include "fuzz/safetensors_fixture.h"
#include "fuzz/seeds.h"

namespace flexq::test {
namespace {

std::string one_tensor(const std::string& shape, const std::string& offsets,
                       const std::string& type = "BF16") {
  return "\x01{\"model.embed_tokens.weight\":{\"dtype\":\"" + type + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}}";
}

void add_safetensors_seeds(Seeds& seeds) {
  const std::string file = fuzz_checkpoint_files().at("model.safetensors");
  const size_t data = file.find("}}") + 2;
  const size_t header_end = file.find_first_not_of(' ', data);
  seeds["safetensors/valid_file"] = std::string(1, '\0') + file;
  seeds["safetensors/valid_parts"] =
      "\x01" + file.substr(8, data - 8) + std::string(1, '\0') + file.substr(header_end);
  const auto refused = [&](const std::string& name, const std::string& bytes) {
    seeds["safetensors/refused_" + name] = bytes;
  };
  const std::string zero(1, '\0');
  refused("length_huge", zero + std::string(8, '\xff') + file.substr(8));
  refused("length_signed", zero + std::string(7, '\0') + "\x80" + file.substr(8));
  refused("length_beyond_file", zero + std::string("\0\0\1\0\0\0\0\0", 8) + "{}");
  refused("product_wraps", one_tensor("[4294967296,4294967296]", "[0,0]"));
  refused("product_wraps_again", one_tensor("[4611686018427387904,4]", "[0,0]"));
  refused("dimension_negative", one_tensor("[-1,8]", "[0,128]"));
  refused("dimension_real", one_tensor("[8.5,8]", "[0,128]"));
  refused("dimension_1e300", one_tensor("[1e300,8]", "[0,128]"));
  refused("dimension_zero", one_tensor("[0,8]", "[0,0]"));
  refused("rank_5", one_tensor("[1,1,1,8,8]", "[0,128]"));
  refused("offsets_swapped", one_tensor("[8,8]", "[128,0]"));
  refused("offsets_wrap", one_tensor("[8,8]", "[18446744073709551488,18446744073709551615]"));
  refused("offsets_beyond_file", one_tensor("[8,8]", "[0,128]"));
  refused("sub_byte_type", one_tensor("[8,8]", "[0,32]", "F4"));
  refused("nested", "\x01" + std::string(3000, '['));
  refused("same_name_twice",
          "\x01{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
          "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
}

void add_json_seeds(Seeds& seeds) {
  SyntheticOptions options;
  options.n_shards = 2;
  options.with_tokenizer = false;
  const SyntheticFiles old_rope = make_synthetic_checkpoint(options);
  options.config.rope = {RopeType::kLlama3, 500000.0, 8.0, 1.0, 4.0, 64};
  options.rope_dialect = RopeDialect::kNew;
  options.config.eos_token_ids = {2, 3};
  const std::string config = make_synthetic_checkpoint(options).at("config.json");
  const auto add = [&](char kind, const std::string& name, const std::string& text) {
    seeds["config_json/" + name] = std::string(1, kind) + text;
  };
  add(0, "valid_config", old_rope.at("config.json"));
  add(0, "valid_config_llama3", config);
  add(1, "valid_generation", R"({"eos_token_id": [2, 5], "bos_token_id": 1})");
  add(2, "valid_index", old_rope.at("model.safetensors.index.json"));
  add(3, "valid_tokenizer_config",
      R"({"add_bos_token": true, "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>",
"added_tokens_decoder": {"0": {"content": "<unk>", "special": true}}, "chat_template": "{{ messages }}"})");

  const auto with = [&](const std::string& key, const std::string& value) {
    SyntheticOptions patched;
    patched.with_tokenizer = false;
    patched.config_patch = "{\"" + key + "\": " + value + "}";
    return make_synthetic_checkpoint(patched).at("config.json");
  };
  add(0, "refused_zero_heads", with("num_attention_heads", "0"));
  add(0, "refused_negative_layers", with("num_hidden_layers", "-1"));
  add(0, "refused_huge_vocabulary", with("vocab_size", "9223372036854775807"));
  add(0, "refused_unsigned_context", with("max_position_embeddings", "18446744073709551615"));
  add(0, "refused_real_width", with("hidden_size", "64.5"));
  add(0, "refused_end_token", with("eos_token_id", "[2, 4294967298]"));
  add(0, "refused_rope_factor", with("rope_scaling", R"({"type": "linear", "factor": 0})"));
  add(0, "refused_nested", std::string(5000, '{'));
  add(1, "refused_end_token_generation", R"({"eos_token_id": [-2147483649]})");
  add(2, "refused_path_index", R"({"weight_map": {"a": "../model.safetensors"}})");
  add(2, "refused_nested_index", R"({"weight_map": )" + std::string(2000, '['));
  add(3, "refused_id", R"({"added_tokens_decoder": {"99999999999": {"content": "x"}}})");
  add(3, "refused_utf8", "{\"chat_template\": \"\xed\xa0\x80\"}");
}

}  // namespace

void add_checkpoint_seeds(Seeds& seeds) {
  add_safetensors_seeds(seeds);
  add_json_seeds(seeds);
}

}  // namespace flexq::test
