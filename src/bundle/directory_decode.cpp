// decode_directory(): FlatBuffer to plain structures, within the limits that bound memory.
#include <algorithm>
#include <string_view>
#include <utility>

#include "bundle/bundle_directory.h"
#include "bundle/bundle_format.h"
#include "bundle/directory_schema.h"
#include "text/utf8.h"

namespace flexq {
namespace {

// Features that this reader knows. Format 1 has none.
bool is_known_feature(std::string_view) {
  return false;
}

// Copies fields out of a verified buffer and remembers the first violation; after one, it copies
// nothing more. One table may stand in a list many times, so every list and text is bounded here.
class Decoder {
 public:
  explicit Decoder(const std::string& source) : source_(source) {}

  bool ok() const { return status_.ok(); }
  Status take() { return std::move(status_); }

  std::string text(const flatbuffers::String* value, int64_t max_bytes, const char* what) {
    if (!status_.ok()) return {};
    const std::string_view view(value->c_str(), value->size());
    if (static_cast<int64_t>(view.size()) > max_bytes) {
      fail(StatusCode::kLimitExceeded, what, "bytes", view.size(), max_bytes);
      return {};
    }
    if (!is_valid_utf8(view)) {
      status_ =
          Status::error(StatusCode::kCorrupt, "%s: %s is not valid UTF-8", source_.c_str(), what);
      return {};
    }
    return std::string(view);
  }
  std::string name(const flatbuffers::String* value, const char* what) {
    return text(value, kMaxNameBytes, what);
  }

  // Whether a list of `count` may be copied.
  bool list(size_t count, int64_t max_count, const char* what) {
    if (status_.ok() && static_cast<int64_t>(count) > max_count)
      fail(StatusCode::kLimitExceeded, what, "entries", count, max_count);
    return status_.ok();
  }

  template <typename ChunkVector>
  std::vector<ChunkEntry> chunks(const ChunkVector* list_in) {
    std::vector<ChunkEntry> out;
    if (!status_.ok()) return out;
    out.reserve(list_in->size());  // each is a verified table, so the count is within its limit
    for (const fb::Chunk* chunk : *list_in) {
      ChunkEntry& entry = out.emplace_back();
      entry.offset = chunk->offset();
      entry.stored_bytes = chunk->stored_bytes();
      entry.raw_bytes = chunk->raw_bytes();
      entry.codec = static_cast<ChunkCodec>(chunk->codec());
      entry.row_begin = chunk->row_begin();
      entry.n_rows = chunk->n_rows();
      if (!hash(*chunk->sha256(), "chunk hash", entry.sha256)) return {};
    }
    return out;
  }

  bool hash(const flatbuffers::Vector<uint8_t>& bytes, const char* what, Sha256Digest& out) {
    if (!status_.ok()) return false;
    if (bytes.size() != out.size()) {
      status_ = Status::error(StatusCode::kCorrupt, "%s: %s of %u bytes, expected %zu",
                              source_.c_str(), what, bytes.size(), out.size());
      return false;
    }
    std::copy_n(bytes.data(), out.size(), out.begin());
    return true;
  }

  void refuse_feature(const std::string& feature) {
    if (!status_.ok()) return;
    status_ = Status::error(StatusCode::kUnsupportedVersion,
                            "%s: requires feature '%s', which this reader does not know",
                            source_.c_str(), feature.c_str());
  }

 private:
  void fail(StatusCode code, const char* what, const char* unit, size_t found, int64_t limit) {
    status_ = Status::error(code, "%s: %s of %zu %s, expected at most %lld", source_.c_str(), what,
                            found, unit, static_cast<long long>(limit));
  }

  const std::string& source_;
  Status status_;
};

void decode_config(const fb::Bundle& bundle, Decoder& decoder, ModelConfig& config) {
  const fb::ModelConfig& in = *bundle.config();
  config.n_layers = in.n_layers();
  config.n_embd = in.n_embd();
  config.n_heads = in.n_heads();
  config.n_kv_heads = in.n_kv_heads();
  config.head_dim = in.head_dim();
  config.n_ff = in.n_ff();
  config.n_vocab = in.n_vocab();
  config.context_tokens = in.context_tokens();
  config.rms_norm_eps = in.rms_norm_eps();
  const fb::Rope& rope = *in.rope();
  config.rope.type = static_cast<RopeType>(rope.type());
  config.rope.theta = rope.theta();
  config.rope.factor = rope.factor();
  config.rope.low_freq_factor = rope.low_freq_factor();
  config.rope.high_freq_factor = rope.high_freq_factor();
  config.rope.original_context_tokens = rope.original_context_tokens();
  config.tied_embeddings = in.tied_embeddings();
  config.attention_bias = in.attention_bias();
  config.mlp_bias = in.mlp_bias();
  config.bos_token_id = bundle.generation()->bos_token_id();
  const auto& eos = *bundle.generation()->eos_token_ids();
  if (decoder.list(eos.size(), kMaxEosTokens, "list of end-of-text tokens"))
    config.eos_token_ids.assign(eos.begin(), eos.end());
}

TensorEntry decode_tensor(const fb::Tensor& in, Decoder& decoder) {
  TensorEntry entry;
  entry.tensor.spec.name = decoder.name(in.name(), "tensor name");
  entry.tensor.spec.role = static_cast<TensorRole>(in.role());
  entry.tensor.spec.layer = in.layer();
  entry.tensor.spec.rows = in.rows();
  entry.tensor.spec.cols = in.cols();
  entry.tensor.format = static_cast<WeightFormat>(in.format());
  entry.tensor.activation_bits = in.activation_bits();
  entry.tensor.scale_multiplier = in.scale_multiplier();
  entry.rank = in.rank();
  entry.bits = in.bits();
  entry.group_size = in.group_size();
  entry.symmetric = in.symmetric();
  entry.scale_type = static_cast<ScaleType>(in.scale_type());
  entry.layout = static_cast<WeightLayout>(in.layout());
  entry.chunks = decoder.chunks(in.chunks());
  return entry;
}

using MeasuredList = flatbuffers::Vector<flatbuffers::Offset<fb::MeasuredPrecision>>;

void decode_measured(const MeasuredList& in, const char* what, Decoder& decoder,
                     std::vector<MeasuredPrecision>& out) {
  if (!decoder.list(in.size(), kMaxMeasuredPrecisions, what)) return;
  for (const fb::MeasuredPrecision* measured : in) {
    MeasuredPrecision& entry = out.emplace_back();
    entry.name = decoder.name(measured->name(), "name of a measured precision");
    entry.a8_share = measured->a8_share();
    entry.perplexity = measured->perplexity();
    entry.kl_divergence = measured->kl_divergence();
    entry.expected_rise = measured->expected_rise();
  }
}

void decode_calibration(const fb::Calibration& in, Decoder& decoder, BundleCalibration& out) {
  decoder.hash(*in.text_sha256(), "calibration text hash", out.text_sha256);
  out.window_tokens = in.window_tokens();
  out.n_windows = in.n_windows();
  out.goal = decoder.name(in.goal(), "calibration goal");
  out.goal_value = in.goal_value();
  out.goal_met = in.goal_met();
  decode_measured(*in.policies(), "list of measured policies", decoder, out.policies);
  decode_measured(*in.front(), "list of measured mixtures", decoder, out.front);
}

void decode_provenance(const fb::Provenance& in, Decoder& decoder, BundleProvenance& out) {
  out.tool_version = decoder.name(in.tool_version(), "tool version");
  out.source = decoder.name(in.source(), "source name");
  out.source_config_json =
      decoder.text(in.source_config_json(), kMaxDirectoryTextBytes, "source config.json");
  if (decoder.list(in.evidence()->size(), kMaxEvidence, "evidence")) {
    size_t n_values = 0;
    for (const fb::Evidence* evidence : *in.evidence()) {
      BundleEvidence& entry = out.evidence.emplace_back();
      entry.tensor = decoder.name(evidence->tensor(), "evidence tensor");
      entry.metric = decoder.name(evidence->metric(), "evidence metric");
      entry.value = evidence->value();
      if (evidence->values() == nullptr) continue;
      n_values += evidence->values()->size();
      if (!decoder.list(n_values, kMaxEvidenceValues, "figures of evidence")) break;
      entry.values.assign(evidence->values()->begin(), evidence->values()->end());
    }
  }
  if (decoder.list(in.key_values()->size(), kMaxKeyValues, "provenance")) {
    for (const fb::KeyValue* key_value : *in.key_values()) {
      std::string key = decoder.name(key_value->key(), "provenance key");
      std::string value = decoder.text(key_value->value(), kMaxValueBytes, "provenance value");
      out.key_values.emplace_back(std::move(key), std::move(value));
    }
  }
  if (in.calibration() != nullptr)
    decode_calibration(*in.calibration(), decoder, out.calibration.emplace());
}

}  // namespace

Status verify_directory(std::span<const uint8_t> bytes, int32_t max_depth, int32_t max_tables,
                        const std::string& source) {
  // The Verifier's constructor only asserts on its size.
  if (static_cast<int64_t>(bytes.size()) > kMaxDirectoryBytes)
    return Status::error(StatusCode::kLimitExceeded,
                         "%s: directory of %zu bytes, expected at most %lld", source.c_str(),
                         bytes.size(), static_cast<long long>(kMaxDirectoryBytes));
  flatbuffers::Verifier::Options options;
  options.max_depth = static_cast<flatbuffers::uoffset_t>(max_depth);
  options.max_tables = static_cast<flatbuffers::uoffset_t>(max_tables);
  flatbuffers::Verifier verifier(bytes.data(), bytes.size(), options);
  if (fb::VerifyBundleBuffer(verifier)) return {};
  return Status::error(StatusCode::kCorrupt,
                       "%s: the directory is not a valid FlatBuffer '%s' within %d levels and %d "
                       "tables",
                       source.c_str(), fb::BundleIdentifier(), max_depth, max_tables);
}

Result<BundleDirectory> decode_directory(std::span<const uint8_t> bytes,
                                         const std::string& source) {
  FLEXQ_RETURN_IF_ERROR(verify_directory(bytes, kMaxDirectoryDepth, kMaxDirectoryTables, source));
  const fb::Bundle& bundle = *fb::GetBundle(bytes.data());
  Decoder decoder(source);
  BundleDirectory directory;

  if (decoder.list(bundle.required_features()->size(), kMaxFeatures, "list of features")) {
    for (const flatbuffers::String* value : *bundle.required_features()) {
      std::string feature = decoder.name(value, "feature name");
      if (!is_known_feature(feature)) decoder.refuse_feature(feature);
      directory.required_features.push_back(std::move(feature));
    }
  }
  decode_config(bundle, decoder, directory.config);
  directory.policy = decoder.name(bundle.quantization()->policy(), "policy name");
  directory.group_size = bundle.quantization()->group_size();
  if (decoder.list(bundle.tensors()->size() + size_t{bundle.sections()->size()}, kMaxSegments,
                   "list of tensors and sections")) {
    directory.tensors.reserve(bundle.tensors()->size());
    for (const fb::Tensor* tensor : *bundle.tensors()) {
      directory.tensors.push_back(decode_tensor(*tensor, decoder));
      if (!decoder.ok()) break;
    }
    for (const fb::Section* section : *bundle.sections()) {
      SectionEntry& entry = directory.sections.emplace_back();
      entry.kind = decoder.name(section->kind(), "section kind");
      entry.chunks = decoder.chunks(section->chunks());
      if (!decoder.ok()) break;
    }
  }
  if (bundle.chat_template() != nullptr)
    directory.chat_template =
        decoder.text(bundle.chat_template(), kMaxDirectoryTextBytes, "chat template");
  decode_provenance(*bundle.provenance(), decoder, directory.provenance);
  if (!decoder.ok()) return decoder.take();
  return directory;
}

}  // namespace flexq
