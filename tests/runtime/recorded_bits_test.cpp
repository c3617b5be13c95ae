// T29: results have the bits that were recorded, whatever the processor and the compiler: what a
// bundle holds, what a model computes from it in every precision, and what is drawn. The hashes
// were recorded by the cross build for aarch64; x86-64 gives the same.
#include <doctest/doctest.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_source.h"
#include "base/sha256.h"
#include "bundle/bundle_reader.h"
#include "bundle/chunk_codec.h"
#include "runtime/generator.h"
#include "runtime/runtime_fixtures.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

const std::string kStories = "samples/data/stories260k";

// The first half of the SHA-256, which is enough to tell results apart.
std::string short_hash(Sha256& hash) {
  std::string text;
  const Sha256Digest digest = hash.finish();
  for (const uint8_t byte : std::span(digest).first(16)) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

template <typename T>
std::string hash_of(const std::vector<T>& values) {
  Sha256 hash;
  hash.update({reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)});
  return short_hash(hash);
}

// Every chunk of a bundle, decoded: the compressed bytes change with libzstd.
std::string hash_of_weights(const std::string& path) {
  const auto bundle = value_of(Bundle::open(value_of(open_file_source(path)), {}));
  Sha256 hash;
  PieceBuffer buffer;
  for (int64_t i = 0; i < std::ssize(bundle->tensors()); ++i) {
    const StoredTensor& tensor = bundle->tensors()[static_cast<size_t>(i)];
    for (int64_t p = 0; p < bundle->n_pieces(i); ++p) {
      WeightPiece piece;
      require_ok(bundle->read_piece(i, p, buffer, &piece));
      const int64_t n_bytes = chunk_layout(tensor.format, piece.n_rows, tensor.spec.cols).raw_bytes;
      hash.update({piece.values, static_cast<size_t>(n_bytes)});
    }
  }
  return short_hash(hash);
}

struct Recorded {
  const char* policy;
  int32_t matrix_bits;  // of embedding and lm_head
  KvType kv_type;
  const char* weights;
  const char* logits;
  const char* drawn;
};
constexpr Recorded kRecorded[] = {
    {"none", 16, KvType::kF16, "", "036c52b93ec1bb8938318461a0313278",
     "0625caeae1c09657367e2fbe20299d43"},
    {"fp16", 16, KvType::kF32, "496b723c7835923a20dea83a1157d6bb",
     "cabce9abb1ab4322bd1bdc41d6628910", "993cc844e6eeddbadd888162c9547c14"},
    {"flexq", 16, KvType::kF16, "907d7a9181d3fc0a5002a252ce59655a",
     "9a4553017609f26fcaeeddd9c8722d88", "18512ade6274686b5bc7c294f194f69d"},
    {"w6a6", 8, KvType::kI8, "3a41127b4ef8257659320cc71823610a", "11f64bbfa79103a8a4c1da860ae3b14e",
     "91b8b2a15ee4b2b0c48e1b821748f09f"},
    {"w6a16", 16, KvType::kF16, "907d7a9181d3fc0a5002a252ce59655a",
     "ad7c8a6987a46ca62615fa5c1bd3c3a9", "b3e86103ac8c6030d2c68060a7cff079"},
    {"w8a8", 8, KvType::kF16, "c59d470332707bc4fd406f9476efca6d",
     "049d2cb040f349eb22438a5d2ea5da37", "c49b737df5304cc77a49fe12d06f81ff"},
    {"w8a16", 16, KvType::kI8, "7a98e8c5625574224e7e82c90be3f111",
     "6e77e767efd90cf85de75672def5e387", "63bd2ad96babd6a958bdf82bba6d7b34"},
};

// Logits and embeddings of a prompt of 48 tokens, in one pass and token by token.
std::string hash_of_outputs(const std::shared_ptr<const LoadedModel>& model, KvType kv_type) {
  ContextOptions options;
  options.context_tokens = 64;
  options.n_outputs = 48;
  options.kv_type = kv_type;
  const auto context = value_of(Context::create(model, options));
  const auto tokens = random_tokens(48, model->llama->config().n_vocab, 20261128);
  OutputRowsCopy rows = decode_rows(*context, 0, tokens);
  for (const int32_t token : std::span(tokens).first(8))
    rows.append(decode_rows(*context, 0, {&token, 1}));
  rows.logits.insert(rows.logits.end(), rows.embeddings.begin(), rows.embeddings.end());
  return hash_of(rows.logits);
}

std::string hash_of_drawn_tokens(const std::shared_ptr<const LoadedModel>& model) {
  const auto context = value_of(Context::create(model, {}));
  std::vector<int32_t> drawn;
  for (const uint64_t seed : {1u, 2u, 3u}) {
    GeneratorOptions options;
    options.max_tokens = 48;
    options.ignore_end = true;
    options.sampling.temperature = 1.2f;
    options.sampling.top_k = 40;
    options.sampling.top_p = 0.95f;
    options.sampling.seed = seed;
    const auto generator = value_of(Generator::create(context, options));
    const auto prompt = value_of(model->tokenizer->encode("Once upon a time"));
    require_ok(generator->start_tokens(prompt));
    while (value_of(generator->next()).finish_reason == FinishReason::kNone) {
    }
    drawn.insert(drawn.end(), generator->tokens().begin(), generator->tokens().end());
    require_ok(context->rewind(0, 0));
  }
  return hash_of(drawn);
}

}  // namespace

TEST_CASE("T29_recorded_bits: weights, logits and drawn tokens of every precision") {
  const TemporaryDirectory folder;
  for (const Recorded& recorded : kRecorded) {
    CAPTURE(recorded.policy);
    const Precision precision{recorded.policy, recorded.matrix_bits, recorded.matrix_bits};
    const std::string path = quantized_copy(source_path(kStories), precision, folder.path());
    if (recorded.policy != std::string_view("none"))
      CHECK(hash_of_weights(path) == recorded.weights);
    for (const char* kernels : {"auto", "portable"}) {
      CAPTURE(kernels);
      const auto model = open_test_model(path, kernels, 2);
      CHECK(hash_of_outputs(model, recorded.kv_type) == recorded.logits);
      CHECK(hash_of_drawn_tokens(model) == recorded.drawn);
    }
  }
}

}  // namespace flexq::test
