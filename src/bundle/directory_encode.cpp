// encode_directory(): plain structures to FlatBuffer.
#include <string_view>

#include "base/checked.h"
#include "bundle/bundle_directory.h"
#include "bundle/bundle_format.h"
#include "bundle/directory_schema.h"

namespace flexq {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;
template <typename T>
using Vector = flatbuffers::Vector<T>;

// What the builder will need at most, before it is asked: it cannot report a size over 2 GiB.
Status check_encodable(const BundleDirectory& directory) {
  constexpr int64_t kTableBytes = 256;  // generous for any table of the schema with its vtable
  CheckedSize size(16 * kTableBytes);
  int64_t n_tables = 16;
  const auto text = [&size](const std::string& value) {
    size.add(static_cast<int64_t>(value.size())).add(16);
  };
  const auto chunks = [&](const std::vector<ChunkEntry>& list) {
    n_tables += static_cast<int64_t>(list.size()) + 1;
    size.add(static_cast<int64_t>(list.size()) * kTableBytes).add(kTableBytes);
  };
  for (const std::string& feature : directory.required_features)
    text(feature);
  for (const TensorEntry& entry : directory.tensors) {
    text(entry.tensor.spec.name);
    chunks(entry.chunks);
  }
  for (const SectionEntry& entry : directory.sections) {
    text(entry.kind);
    chunks(entry.chunks);
  }
  const BundleProvenance& provenance = directory.provenance;
  int64_t n_values = 0;
  for (const BundleEvidence& evidence : provenance.evidence) {
    text(evidence.tensor);
    text(evidence.metric);
    n_values += static_cast<int64_t>(evidence.values.size());
  }
  size.add(n_values * int64_t{sizeof(float)});
  int64_t n_measured = 0;
  if (provenance.calibration) {
    text(provenance.calibration->goal);
    for (const auto* list : {&provenance.calibration->policies, &provenance.calibration->front}) {
      n_measured += static_cast<int64_t>(list->size());
      for (const MeasuredPrecision& measured : *list)
        text(measured.name);
    }
  }
  for (const auto& [key, value] : provenance.key_values) {
    text(key);
    text(value);
  }
  const int64_t n_rows = static_cast<int64_t>(provenance.evidence.size()) +
                         static_cast<int64_t>(provenance.key_values.size()) + n_measured;
  n_tables += n_rows;
  size.add(n_rows * kTableBytes);
  text(directory.policy);
  text(provenance.tool_version);
  text(provenance.source);
  text(provenance.source_config_json);
  if (directory.chat_template) text(*directory.chat_template);
  if (n_values > kMaxEvidenceValues)
    return Status::error(
        StatusCode::kLimitExceeded, "evidence of %lld figures, expected at most %lld",
        static_cast<long long>(n_values), static_cast<long long>(kMaxEvidenceValues));
  if (n_tables > kMaxDirectoryTables)
    return Status::error(StatusCode::kLimitExceeded,
                         "directory of %lld tables, expected at most %d",
                         static_cast<long long>(n_tables), kMaxDirectoryTables);
  if (!size.valid() || size.value() > 4 * kMaxDirectoryBytes)
    return Status::error(StatusCode::kLimitExceeded, "directory is far larger than %lld bytes",
                         static_cast<long long>(kMaxDirectoryBytes));
  return {};
}

Offset<Vector<Offset<fb::Chunk>>> encode_chunks(FlatBufferBuilder& builder,
                                                const std::vector<ChunkEntry>& chunks) {
  std::vector<Offset<fb::Chunk>> list;
  list.reserve(chunks.size());
  for (const ChunkEntry& chunk : chunks) {
    const auto sha256 = builder.CreateVector(chunk.sha256.data(), chunk.sha256.size());
    list.push_back(fb::CreateChunk(builder, chunk.offset, chunk.stored_bytes, chunk.raw_bytes,
                                   static_cast<fb::Codec>(chunk.codec), chunk.row_begin,
                                   chunk.n_rows, sha256));
  }
  return builder.CreateVector(list);
}

Offset<fb::Tensor> encode_tensor(FlatBufferBuilder& builder, const TensorEntry& entry) {
  const TensorSpec& spec = entry.tensor.spec;
  const auto name = builder.CreateString(spec.name);
  const auto chunks = encode_chunks(builder, entry.chunks);
  return fb::CreateTensor(
      builder, name, static_cast<fb::TensorRole>(spec.role), spec.layer, entry.rank, spec.rows,
      spec.cols, static_cast<fb::WeightFormat>(entry.tensor.format), entry.bits, entry.group_size,
      entry.symmetric, static_cast<fb::ScaleType>(entry.scale_type), entry.tensor.scale_multiplier,
      entry.tensor.activation_bits, static_cast<fb::Layout>(entry.layout), chunks);
}

Offset<fb::ModelConfig> encode_config(FlatBufferBuilder& builder, const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  const auto rope_offset =
      fb::CreateRope(builder, static_cast<fb::RopeType>(rope.type), rope.theta, rope.factor,
                     rope.low_freq_factor, rope.high_freq_factor, rope.original_context_tokens);
  return fb::CreateModelConfig(builder, config.n_layers, config.n_embd, config.n_heads,
                               config.n_kv_heads, config.head_dim, config.n_ff, config.n_vocab,
                               config.context_tokens, config.rms_norm_eps, rope_offset,
                               config.tied_embeddings, config.attention_bias, config.mlp_bias);
}

Offset<flatbuffers::Vector<Offset<fb::MeasuredPrecision>>> encode_measured(
    FlatBufferBuilder& builder, const std::vector<MeasuredPrecision>& list) {
  std::vector<Offset<fb::MeasuredPrecision>> offsets;
  offsets.reserve(list.size());
  for (const MeasuredPrecision& entry : list) {
    const auto name = builder.CreateString(entry.name);
    offsets.push_back(fb::CreateMeasuredPrecision(builder, name, entry.a8_share, entry.perplexity,
                                                  entry.kl_divergence, entry.expected_rise));
  }
  return builder.CreateVector(offsets);
}

Offset<fb::Calibration> encode_calibration(FlatBufferBuilder& builder,
                                           const BundleCalibration& calibration) {
  const auto sha256 =
      builder.CreateVector(calibration.text_sha256.data(), calibration.text_sha256.size());
  const auto goal = builder.CreateString(calibration.goal);
  const auto policies = encode_measured(builder, calibration.policies);
  const auto front = encode_measured(builder, calibration.front);
  return fb::CreateCalibration(builder, sha256, calibration.window_tokens, calibration.n_windows,
                               goal, calibration.goal_value, calibration.goal_met, policies, front);
}

Offset<fb::Provenance> encode_provenance(FlatBufferBuilder& builder,
                                         const BundleProvenance& provenance) {
  std::vector<Offset<fb::Evidence>> evidence;
  evidence.reserve(provenance.evidence.size());
  for (const BundleEvidence& entry : provenance.evidence) {
    const auto tensor = builder.CreateString(entry.tensor);
    const auto metric = builder.CreateString(entry.metric);
    Offset<flatbuffers::Vector<float>> values;
    if (!entry.values.empty()) values = builder.CreateVector(entry.values);
    evidence.push_back(fb::CreateEvidence(builder, tensor, metric, entry.value, values));
  }
  std::vector<Offset<fb::KeyValue>> key_values;
  key_values.reserve(provenance.key_values.size());
  for (const auto& [key, value] : provenance.key_values) {
    const auto key_offset = builder.CreateString(key);
    const auto value_offset = builder.CreateString(value);
    key_values.push_back(fb::CreateKeyValue(builder, key_offset, value_offset));
  }
  const auto tool_version = builder.CreateString(provenance.tool_version);
  const auto source = builder.CreateString(provenance.source);
  const auto config_json = builder.CreateString(provenance.source_config_json);
  const auto evidence_offset = builder.CreateVector(evidence);
  const auto key_values_offset = builder.CreateVector(key_values);
  Offset<fb::Calibration> calibration;
  if (provenance.calibration) calibration = encode_calibration(builder, *provenance.calibration);
  return fb::CreateProvenance(builder, tool_version, source, config_json, evidence_offset,
                              key_values_offset, calibration);
}

}  // namespace

Result<std::vector<uint8_t>> encode_directory(const BundleDirectory& directory) {
  FLEXQ_RETURN_IF_ERROR(check_encodable(directory));
  FlatBufferBuilder builder;
  builder.ForceDefaults(true);  // every number takes its room, whatever its value

  std::vector<Offset<flatbuffers::String>> features;
  for (const std::string& feature : directory.required_features)
    features.push_back(builder.CreateString(feature));
  const auto features_offset = builder.CreateVector(features);
  const auto config = encode_config(builder, directory.config);
  const auto policy = builder.CreateString(directory.policy);
  const auto quantization = fb::CreateQuantization(builder, policy, directory.group_size);

  std::vector<Offset<fb::Tensor>> tensors;
  tensors.reserve(directory.tensors.size());
  for (const TensorEntry& entry : directory.tensors)
    tensors.push_back(encode_tensor(builder, entry));
  const auto tensors_offset = builder.CreateVector(tensors);

  std::vector<Offset<fb::Section>> sections;
  sections.reserve(directory.sections.size());
  for (const SectionEntry& entry : directory.sections) {
    const auto kind = builder.CreateString(entry.kind);
    const auto chunks = encode_chunks(builder, entry.chunks);
    sections.push_back(fb::CreateSection(builder, kind, chunks));
  }
  const auto sections_offset = builder.CreateVector(sections);

  const auto eos = builder.CreateVector(directory.config.eos_token_ids);
  const auto generation = fb::CreateGeneration(builder, directory.config.bos_token_id, eos);
  Offset<flatbuffers::String> chat_template;
  if (directory.chat_template) chat_template = builder.CreateString(*directory.chat_template);
  const auto provenance = encode_provenance(builder, directory.provenance);
  fb::FinishBundleBuffer(
      builder, fb::CreateBundle(builder, features_offset, config, quantization, tensors_offset,
                                sections_offset, generation, chat_template, provenance));
  if (builder.GetSize() > static_cast<size_t>(kMaxDirectoryBytes))
    return Status::error(
        StatusCode::kLimitExceeded, "directory of %zu bytes, expected at most %lld",
        static_cast<size_t>(builder.GetSize()), static_cast<long long>(kMaxDirectoryBytes));
  return std::vector<uint8_t>(builder.GetBufferPointer(),
                              builder.GetBufferPointer() + builder.GetSize());
}

}  // namespace flexq
