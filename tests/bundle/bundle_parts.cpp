#include "bundle/bundle_parts.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include "base/byte_source.h"
#include "base/checked.h"
#include "base/half.h"
#include "base/thread_pool.h"
#include "bundle/bundle_reader.h"
#include "bundle/chunk_codec.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

const Bytes& random_section() {
  static const Bytes bytes = [] {
    Bytes result(700);
    std::mt19937 random(7);
    for (uint8_t& byte : result)
      byte = static_cast<uint8_t>(random());
    return result;
  }();
  return bytes;
}

const Bytes& regular_section() {
  static const Bytes bytes(1500, uint8_t{'x'});
  return bytes;
}

WeightFormat tiny_format(const TensorSpec& spec) {
  switch (spec.role) {
    case TensorRole::kEmbedding:
      return WeightFormat::kBF16;
    case TensorRole::kLmHead:
      return WeightFormat::kInt8Row;
    case TensorRole::kLinear:
      return spec.linear_kind == LinearKind::kO   ? WeightFormat::kF16
             : spec.linear_kind == LinearKind::kV ? WeightFormat::kInt8Group
                                                  : WeightFormat::kInt6Group;
    default:
      return WeightFormat::kF32;
  }
}

}  // namespace

ModelConfig tiny_config() {
  ModelConfig config;
  config.n_layers = 1;
  config.n_embd = 64;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 16;
  config.n_ff = 64;
  config.n_vocab = 32;
  config.context_tokens = 128;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  return config;
}

BundleContents tiny_contents() {
  BundleContents contents;
  contents.config = tiny_config();
  contents.policy = "mixed";
  for (TensorSpec& spec : expected_tensors(contents.config)) {
    StoredTensor tensor;
    tensor.format = tiny_format(spec);
    if (is_grouped(tensor.format))
      tensor.activation_bits = spec.linear_kind == LinearKind::kDown ? 8 : 6;
    if (is_quantized(tensor.format)) tensor.scale_multiplier = 0.25f;
    tensor.spec = std::move(spec);
    contents.tensors.push_back(std::move(tensor));
  }
  contents.sections.push_back({kTokenizerSection, random_section()});
  contents.sections.push_back({"notes", regular_section()});
  contents.chat_template = "{{ messages }}";
  contents.provenance.tool_version = "test";
  contents.provenance.source = "tiny";
  contents.provenance.source_config_json = "{}";
  contents.provenance.key_values = {{"key", "value"}};
  return contents;
}

Status produce_random_rows(const BundleContents& contents, const ChunkRequest& request,
                           std::span<uint8_t> raw) {
  const StoredTensor& tensor = contents.tensors[static_cast<size_t>(request.tensor)];
  const int64_t n_cols = tensor.spec.cols;
  const ChunkLayout layout = chunk_layout(tensor.format, request.n_rows, n_cols);
  const int64_t n_scales = scales_per_row(tensor.format, n_cols);
  const auto max_code =
      static_cast<float>(is_quantized(tensor.format) ? max_weight_code(tensor.format) : 0);
  std::fill(raw.begin(), raw.end(), uint8_t{0});
  for (int64_t r = 0; r < request.n_rows; ++r) {
    std::minstd_rand random(
        static_cast<uint32_t>(1 + request.tensor * 1'000'003 + request.row_begin + r));
    // The sum of a few uniform values is near enough to a normal distribution.
    const auto normal = [&random] {
      float sum = 0;
      for (int i = 0; i < 4; ++i)
        sum += static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
      return sum;
    };
    for (int64_t c = 0; c < n_cols; ++c) {
      const float value = normal();
      const int64_t i = r * n_cols + c;
      const uint32_t bits = std::bit_cast<uint32_t>(value);
      const uint16_t half = float_to_half(value);
      const uint16_t bf16 = static_cast<uint16_t>(bits >> 16);
      const int8_t code =
          is_quantized(tensor.format)
              ? static_cast<int8_t>(std::clamp(value * max_code / 2.8f, -max_code - 1, max_code))
              : int8_t{0};
      switch (tensor.format) {
        case WeightFormat::kF32:
          std::memcpy(raw.data() + 4 * i, &bits, 4);
          break;
        case WeightFormat::kF16:
          std::memcpy(raw.data() + 2 * i, &half, 2);
          break;
        case WeightFormat::kBF16:
          std::memcpy(raw.data() + 2 * i, &bf16, 2);
          break;
        default:
          raw[static_cast<size_t>(i)] = static_cast<uint8_t>(code);
          break;
      }
    }
    for (int64_t g = 0; g < n_scales; ++g) {
      const uint16_t scale = float_to_half(0.5f + static_cast<float>(random() % 100) / 100.0f);
      std::memcpy(raw.data() + layout.scales_offset + 2 * (r * n_scales + g), &scale, 2);
    }
  }
  return {};
}

Status write_bundle_at(const std::string& path, const BundleContents& contents,
                       ChunkProducer producer, ThreadPool& pool, const ProgressSink& progress) {
  FLEXQ_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  return write_bundle(std::move(file), contents, producer, pool, progress);
}

Bytes write_to_bytes(const BundleContents& contents, int n_threads) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("bundle.flexq");
  ThreadPool pool(n_threads);
  const Status status = write_bundle_at(path, contents,
                                        [&](const ChunkRequest& request, std::span<uint8_t> raw) {
                                          return produce_random_rows(contents, request, raw);
                                        },
                                        pool, {});
  REQUIRE_MESSAGE(status.ok(), status.message());
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

const Bytes& tiny_bundle() {
  static const Bytes bytes = write_to_bytes(tiny_contents());
  return bytes;
}

Status load(std::span<const uint8_t> bytes, const BundleLimits& limits) {
  FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<Bundle> bundle,
                         Bundle::open(make_memory_source(bytes), limits));
  ThreadPool pool(1);
  return bundle->verify(pool, {});
}

std::vector<ChunkEntry*> BundleParts::chunks() {
  std::vector<ChunkEntry*> result;
  for (TensorEntry& tensor : directory.tensors)
    for (ChunkEntry& chunk : tensor.chunks)
      result.push_back(&chunk);
  for (SectionEntry& section : directory.sections)
    for (ChunkEntry& chunk : section.chunks)
      result.push_back(&chunk);
  return result;
}

void BundleParts::place_chunks() {
  int64_t cursor = 0;
  size_t next = 0;
  const auto place = [&](std::vector<ChunkEntry>& list) {
    cursor = align_up(cursor, kSegmentAlignment);
    for (ChunkEntry& chunk : list) {
      const Bytes& bytes = stored[next++];
      cursor = align_up(cursor, kChunkAlignment);
      chunk.offset = cursor;
      chunk.stored_bytes = static_cast<int64_t>(bytes.size());
      chunk.sha256 = sha256(bytes);
      cursor += chunk.stored_bytes;
    }
  };
  for (TensorEntry& tensor : directory.tensors)
    place(tensor.chunks);
  for (SectionEntry& section : directory.sections)
    place(section.chunks);
}

Bytes BundleParts::segments() {
  Bytes result;
  const std::vector<ChunkEntry*> list = chunks();
  for (size_t i = 0; i < list.size(); ++i) {
    const size_t offset = static_cast<size_t>(list[i]->offset);
    result.resize(std::max(result.size(), offset + stored[i].size()));
    std::copy(stored[i].begin(), stored[i].end(), result.begin() + static_cast<ptrdiff_t>(offset));
  }
  result.resize(
      static_cast<size_t>(align_up(static_cast<int64_t>(result.size()), kSegmentAlignment)));
  return result;
}

BundleParts take_apart(const Bytes& bundle) {
  BundleParts parts;
  const std::span<const uint8_t> bytes(bundle);
  auto header =
      parse_header(bytes.first(kBundleHeaderBytes), static_cast<int64_t>(bundle.size()), "tiny");
  REQUIRE(header.ok());
  parts.header = *header;
  auto directory = decode_directory(
      bytes.subspan(kBundleHeaderBytes, static_cast<size_t>(header->directory_bytes)), "tiny");
  REQUIRE(directory.ok());
  parts.directory = std::move(directory).value();
  for (const ChunkEntry* chunk : parts.chunks()) {
    const auto stored = bytes.subspan(static_cast<size_t>(header->segment_base + chunk->offset),
                                      static_cast<size_t>(chunk->stored_bytes));
    parts.stored.emplace_back(stored.begin(), stored.end());
  }
  return parts;
}

Bytes assemble(const BundleHeader& header, const Bytes& directory, const Bytes& segments) {
  BundleHeader sealed = header;
  sealed.directory_bytes = static_cast<int64_t>(directory.size());
  sealed.segment_base = segment_base_for(sealed.directory_bytes);
  sealed.file_bytes = sealed.segment_base + static_cast<int64_t>(segments.size());
  const HeaderBytes front = encode_header(sealed, directory);
  Bytes result(static_cast<size_t>(sealed.file_bytes), uint8_t{0});
  std::copy(front.begin(), front.end(), result.begin());
  std::copy(directory.begin(), directory.end(), result.begin() + kBundleHeaderBytes);
  std::copy(segments.begin(), segments.end(), result.begin() + sealed.segment_base);
  return result;
}

Bytes encode(const BundleDirectory& directory) {
  auto encoded = encode_directory(directory);
  REQUIRE_MESSAGE(encoded.ok(), encoded.status().message());
  return std::move(encoded).value();
}

Bytes assemble(BundleParts& parts) {
  return assemble(parts.header, encode(parts.directory), parts.segments());
}

void rehash(Bytes& bundle) {
  const std::span<const uint8_t> bytes(bundle);
  uint64_t directory_bytes = 0;
  std::memcpy(&directory_bytes, bundle.data() + 24, 8);
  const Sha256Digest digest =
      directory_hash(bytes, bytes.subspan(kBundleHeaderBytes, directory_bytes));
  std::copy(digest.begin(), digest.end(), bundle.begin() + 64);
}

}  // namespace flexq::test
