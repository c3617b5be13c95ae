#include <unistd.h>
#include <zstd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <vector>

#include "bundle/bundle_header.h"
#include "fuzz/bundle_use.h"
#include "fuzz/seeds.h"
#include "quantize/quantize_checkpoint.h"
#include "support/synthetic_checkpoint.h"
#include "support/synthetic_tokenizer.h"

namespace flexq::test {
namespace {

using Bytes = std::vector<uint8_t>;

std::string text_of(std::span<const uint8_t> bytes) {
  return {bytes.begin(), bytes.end()};
}

Bytes encode(const BundleDirectory& directory) {
  auto bytes = encode_directory(directory);
  if (!bytes.ok()) throw std::runtime_error(bytes.status().message());
  return std::move(bytes).value();
}

ModelConfig seed_config() {
  ModelConfig config = small_model_config();
  config.n_layers = 1;
  config.n_embd = 8;
  config.n_heads = 2;
  config.n_kv_heads = 1;
  config.head_dim = 4;
  config.n_ff = 8;
  config.n_vocab = kMinSyntheticVocab + 13;
  config.context_tokens = 64;
  return config;
}

Bytes quantized(const SyntheticOptions& checkpoint, const QuantizeOptions& options) {
  std::string folder = (std::filesystem::temp_directory_path() / "flexq-corpus-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) throw std::runtime_error("cannot create " + folder);
  write_synthetic_checkpoint(folder, checkpoint);
  const std::string path = folder + "/seed.flexq";
  const Status status = quantize_checkpoint(folder, path, options);
  std::ifstream file(path, std::ios::binary);
  Bytes bytes(std::istreambuf_iterator<char>(file), {});
  std::filesystem::remove_all(folder);
  if (!status.ok()) throw std::runtime_error(status.message());
  return bytes;
}

struct Parts {
  BundleDirectory directory;
  Bytes directory_bytes;
  std::string raw_chunks;
};

Parts take_apart(const Bytes& bundle) {
  const std::span<const uint8_t> bytes(bundle);
  const auto header = parse_header(bytes.first(kBundleHeaderBytes), std::ssize(bundle), "seed");
  if (!header.ok()) throw std::runtime_error(header.status().message());
  Parts parts;
  const auto directory =
      bytes.subspan(kBundleHeaderBytes, static_cast<size_t>(header->directory_bytes));
  parts.directory_bytes.assign(directory.begin(), directory.end());
  auto decoded = decode_directory(directory, "seed");
  if (!decoded.ok()) throw std::runtime_error(decoded.status().message());
  parts.directory = std::move(decoded).value();
  for (const ChunkEntry* chunk : chunks_of(parts.directory)) {
    const auto stored = bytes.subspan(static_cast<size_t>(header->segment_base + chunk->offset),
                                      static_cast<size_t>(chunk->stored_bytes));
    std::string raw(stored.begin(), stored.end());
    if (chunk->codec == ChunkCodec::kZstd) {
      raw.resize(static_cast<size_t>(chunk->raw_bytes));
      if (ZSTD_decompress(raw.data(), raw.size(), stored.data(), stored.size()) != raw.size())
        throw std::runtime_error("seed: a chunk does not decode");
    }
    parts.raw_chunks += raw;
  }
  return parts;
}

std::string length_of(const Bytes& bytes) {
  const auto n = static_cast<uint32_t>(bytes.size());
  return std::string(reinterpret_cast<const char*>(&n), sizeof n);
}

// The chunks decoded, or as they are stored.
std::string load_seed(const Bytes& bundle) {
  const Parts parts = take_apart(bundle);
  return "\x01" + length_of(parts.directory_bytes) + text_of(parts.directory_bytes) +
         parts.raw_chunks;
}

std::string stored_load_seed(const Bytes& bundle, bool is_signed = false) {
  Parts parts = take_apart(bundle);
  std::string seed = std::string(1, is_signed ? '\2' : '\0') + length_of(parts.directory_bytes) +
                     text_of(parts.directory_bytes);
  const size_t segment_base =
      static_cast<size_t>(segment_base_for(std::ssize(parts.directory_bytes)));
  for (const ChunkEntry* chunk : chunks_of(parts.directory))
    seed += text_of(std::span(bundle).subspan(segment_base + static_cast<size_t>(chunk->offset),
                                              static_cast<size_t>(chunk->stored_bytes)));
  return seed;
}

void add_directory_seeds(Seeds& seeds, const BundleDirectory& valid) {
  const std::string prefix = "bundle_directory/";
  const auto refused = [&](const std::string& name,
                           const std::function<void(BundleDirectory&)>& change) {
    BundleDirectory directory = valid;
    change(directory);
    seeds[prefix + "refused_" + name] = "\x01" + text_of(encode(directory));
  };
  refused("rank_5", [](auto& d) { d.tensors[0].rank = 5; });
  refused("rows_huge", [](auto& d) { d.tensors[0].tensor.spec.rows = INT64_MAX; });
  refused("product_wraps", [](auto& d) {
    d.tensors[0].tensor.spec.rows = d.tensors[0].tensor.spec.cols = int64_t{1} << 32;
  });
  refused("sum_wraps", [](auto& d) {
    for (ChunkEntry* chunk : chunks_of(d))
      chunk->stored_bytes = chunk->raw_bytes = INT64_MAX / 2;
  });
  refused("chunk_offset_wraps", [](auto& d) { d.tensors[1].chunks[0].offset = INT64_MAX; });
  refused("chunks_overlap", [](auto& d) { d.tensors[1].chunks[0].offset = 0; });
  refused("decodes_to_all", [](auto& d) {
    d.sections[0].chunks[0].raw_bytes = d.sections[0].chunks[0].n_rows = int64_t{256} << 20;
  });
  refused("no_chunks", [](auto& d) { d.tensors[0].chunks.clear(); });
  refused("no_tensors", [](auto& d) { d.tensors.clear(); });
  refused("unknown_format",
          [](auto& d) { d.tensors[0].tensor.format = static_cast<WeightFormat>(200); });
  refused("zero_dimension", [](auto& d) { d.config.n_heads = 0; });
  refused("zero_group", [](auto& d) { d.group_size = 0; });
  refused("zero_rope_factor", [](auto& d) {
    d.config.rope.type = RopeType::kLinear;
    d.config.rope.factor = 0;
  });
  refused("all_limits", [](auto& d) {
    d.config.n_layers = kMaxLayers;
    d.config.n_embd = kMaxEmbd;
    d.config.n_ff = kMaxFf;
    d.config.n_vocab = kMaxVocab;
    d.config.head_dim = kMaxHeadDim;
  });
  refused("end_token_outside", [](auto& d) { d.config.eos_token_ids = {INT32_MAX}; });
  refused("long_name", [](auto& d) { d.tensors[0].tensor.spec.name.assign(300, 'n'); });
  refused("feature", [](auto& d) { d.required_features = {"time_travel"}; });

  // A file as it is, a header whose numbers lie under a right hash, and a directory that is none.
  const Bytes directory = encode(valid);
  const Bytes front =
      sealed_front(directory, segment_base_for(std::ssize(directory)) + segment_bytes(valid));
  seeds[prefix + "refused_cut_file"] = std::string(1, '\0') + text_of(front);
  std::string fields = "\x02" + text_of(std::span(front).first(64)) + text_of(directory);
  seeds[prefix + "valid_header"] = fields;
  for (const size_t at : {size_t{24}, size_t{32}, size_t{40}}) {
    std::string changed = fields;
    changed.replace(1 + at, 8, 8, '\xff');
    seeds[prefix + "refused_header_" + std::to_string(at)] = changed;
  }
  seeds[prefix + "valid_signed"] = "\x03" + text_of(directory);
  Bytes signed_front = front;
  sign_front(signed_front);
  std::string signature = "\x04" + text_of(std::span(signed_front).subspan(96, 96));
  seeds[prefix + "valid_signature"] = signature + text_of(directory);
  signature.back() = static_cast<char>(signature.back() ^ 1);
  seeds[prefix + "refused_signature"] = signature + text_of(directory).substr(0, 64);
  std::string wild = "\x01" + text_of(directory);
  for (size_t i = 5; i + 4 < wild.size(); i += 64)
    wild.replace(i, 4, "\xff\xff\xff\x7f");
  seeds[prefix + "refused_wild_offsets"] = wild;
}

}  // namespace

void add_bundle_seeds(Seeds& seeds) {
  SyntheticOptions plain;
  plain.config = seed_config();
  SyntheticOptions biased = plain;
  biased.config.attention_bias = biased.config.mlp_bias = true;
  biased.config.tied_embeddings = true;
  biased.config.rope = {RopeType::kLlama3, 500000.0, 8.0, 1.0, 4.0, 64};
  QuantizeOptions flexq;
  flexq.n_threads = 1;
  QuantizeOptions narrow = flexq;
  narrow.policy = "w6a6";
  narrow.embedding_bits = narrow.lm_head_bits = 8;
  QuantizeOptions half = flexq;
  half.policy = "fp16";

  const Bytes small = quantized(plain, narrow);
  const Bytes complete = quantized(plain, flexq);
  const Bytes dense = quantized(biased, half);
  seeds["bundle_load/valid_w6a6"] = load_seed(small);
  seeds["bundle_load/valid_w6a6_as_stored"] = stored_load_seed(small);
  seeds["bundle_load/valid_signed"] = stored_load_seed(small, true);
  seeds["bundle_load/valid_flexq"] = load_seed(complete);
  seeds["bundle_load/valid_fp16_biases"] = load_seed(dense);
  std::string damaged = stored_load_seed(small);
  for (size_t i = damaged.size() / 2; i < damaged.size(); i += 97)
    damaged[i] = static_cast<char>(damaged[i] ^ 0x40);
  seeds["bundle_load/refused_frames"] = damaged;

  for (const auto& [name, bundle] :
       {std::pair("w6a6", &small), std::pair("flexq", &complete), std::pair("biases", &dense)})
    seeds[std::string("bundle_directory/valid_") + name] =
        "\x01" + text_of(take_apart(*bundle).directory_bytes);
  BundleDirectory directory = take_apart(complete).directory;
  directory.provenance.source_config_json = "{}";
  directory.sections.clear();
  seeds["bundle_directory/valid_no_tokenizer"] = "\x01" + text_of(encode(directory));
  directory = take_apart(complete).directory;
  directory.provenance.source_config_json = "{}";
  add_directory_seeds(seeds, directory);
}

}  // namespace flexq::test
