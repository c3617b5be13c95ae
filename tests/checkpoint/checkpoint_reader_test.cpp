#include "checkpoint/checkpoint_reader.h"

#include <doctest/doctest.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/half.h"
#include "expect_error.h"
#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

using namespace flexq;
using namespace flexq::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::unique_ptr<Checkpoint> open_ok(const std::string& directory) {
  Result<std::unique_ptr<Checkpoint>> opened = Checkpoint::open(directory);
  REQUIRE_MESSAGE(opened.ok(), opened.status().message());
  return std::move(opened).value();
}

Status open_error(const std::string& directory) {
  Result<std::unique_ptr<Checkpoint>> opened = Checkpoint::open(directory);
  return opened.ok() ? Status() : std::move(opened).status();
}

// Reads everything; the first error ends it.
Status read_all(Checkpoint& checkpoint) {
  PieceBuffer buffer;
  for (int64_t tensor = 0; tensor < std::ssize(checkpoint.tensors()); ++tensor) {
    for (int64_t piece = 0; piece < checkpoint.n_pieces(tensor); ++piece) {
      WeightPiece out;
      FLEXQ_RETURN_IF_ERROR(checkpoint.read_piece(tensor, piece, buffer, &out));
    }
  }
  return Status();
}

float element(const uint8_t* values, int64_t index, WeightFormat format) {
  if (format == WeightFormat::kF32) {
    float value;
    std::memcpy(&value, values + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, values + index * 2, 2);
  return format == WeightFormat::kF16 ? half_to_float(bits) : bf16_to_float(bits);
}

}  // namespace

TEST_CASE("synthetic checkpoints of every format, sharding and dialect open and read back") {
  struct Variant {
    WeightFormat format;
    int32_t n_shards;
    RopeDialect dialect;
    double tolerance;  // relative rounding error of the format
  };
  const std::vector<Variant> variants = {
      {WeightFormat::kF32, 1, RopeDialect::kOld, 0.0},
      {WeightFormat::kF16, 3, RopeDialect::kNew, 0x1p-11},
      {WeightFormat::kBF16, 2, RopeDialect::kOld, 0x1p-8},
      {WeightFormat::kBF16, 1, RopeDialect::kNew, 0x1p-8},
  };
  for (const Variant& variant : variants) {
    SyntheticOptions options;
    options.format = variant.format;
    options.n_shards = variant.n_shards;
    options.rope_dialect = variant.dialect;
    options.config.rope = {RopeType::kLlama3, 500000.0, 8.0, 1.0, 4.0, 64};
    options.config.attention_bias = true;
    options.config.mlp_bias = variant.n_shards > 1;
    options.config.tied_embeddings = variant.n_shards == 2;
    TemporaryDirectory directory;
    write_synthetic_checkpoint(directory.path(), options);
    const std::unique_ptr<Checkpoint> checkpoint = open_ok(directory.path());
    CHECK(checkpoint->config() == options.config);
    CHECK(checkpoint->directory() == directory.path());
    CHECK(std::ssize(checkpoint->files()) == variant.n_shards);
    const std::vector<TensorSpec> specs = expected_tensors(options.config);
    REQUIRE(checkpoint->tensors().size() == specs.size());
    PieceBuffer buffer;
    for (size_t i = 0; i < specs.size(); ++i) {
      INFO(specs[i].name);
      const auto tensor = static_cast<int64_t>(i);
      CHECK(checkpoint->tensors()[i].spec.name == specs[i].name);
      CHECK(checkpoint->tensors()[i].format == variant.format);
      REQUIRE(checkpoint->n_pieces(tensor) == 1);
      WeightPiece piece;
      REQUIRE(checkpoint->read_piece(tensor, 0, buffer, &piece).ok());
      CHECK(piece.n_rows == specs[i].rows);
      CHECK(piece.scales == nullptr);
      const std::vector<float> expected = synthetic_tensor(specs[i], options.seed);
      int64_t n_wrong = 0;
      for (size_t e = 0; e < expected.size(); ++e) {
        const float found = element(piece.values, static_cast<int64_t>(e), variant.format);
        // Below the smallest normal half the error is absolute.
        if (std::fabs(found - expected[e]) > std::fabs(expected[e]) * variant.tolerance +
                                                 0x1p-25 * (variant.format == WeightFormat::kF16))
          ++n_wrong;
      }
      CHECK(n_wrong == 0);
    }
  }
}

TEST_CASE("the same options give the same files, another seed gives others") {
  SyntheticOptions options;
  const SyntheticFiles files = make_synthetic_checkpoint(options);
  CHECK(files == make_synthetic_checkpoint(options));
  options.seed = 2;
  CHECK(files.at("model.safetensors") !=
        make_synthetic_checkpoint(options).at("model.safetensors"));
  CHECK(files.at("config.json") == make_synthetic_checkpoint(options).at("config.json"));
  // Pinned, so that a test that was tuned on one machine holds on every other.
  uint64_t hash = 14695981039346656037u;
  for (const char c : files.at("model.safetensors"))
    hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  CHECK(hash == 14830637185640967234u);
}

TEST_CASE("a checkpoint that is not exactly what its config.json says is refused by name") {
  constexpr StatusCode kCorrupt = StatusCode::kCorrupt;
  constexpr StatusCode kModel = StatusCode::kUnsupportedModel;
  const std::string q = "model.layers.1.self_attn.q_proj.weight";
  struct Refusal {
    const char* what;
    std::function<void(SyntheticOptions&)> change;
    StatusCode code;
    std::vector<std::string> parts;
  };
  const std::vector<Refusal> refusals = {
      {"missing", [&](auto& o) { o.dropped = {q}; }, kCorrupt, {"tensor " + q, "is missing"}},
      {"several missing",
       [&](auto& o) {
         o.dropped = {q, "lm_head.weight", "model.norm.weight"};
       },
       kCorrupt,
       {"tensor " + q + " (and 2 more)", "is missing"}},
      {"untied without lm_head",
       [](auto& o) { o.dropped = {"lm_head.weight"}; },
       kCorrupt,
       {"tensor lm_head.weight", "is missing"}},
      {"renamed",
       [&](auto& o) { o.renamed[q] = "model.layers.1.self_attn.query.weight"; },
       kCorrupt,
       {"tensor " + q, "is missing"}},
      {"extra",
       [](auto& o) {
         o.extra = {{"model.layers.0.mlp.experts.weight", {4, 4}}};
       },
       kModel,
       {"tensor model.layers.0.mlp.experts.weight", "not part of"}},
      {"bias that config.json denies",
       [](auto& o) {
         o.extra = {{"model.layers.0.self_attn.q_proj.bias", {64}}};
       },
       kModel,
       {"tensor model.layers.0.self_attn.q_proj.bias", "not part of"}},
      {"layer beyond the last",
       [](auto& o) {
         o.extra = {{"model.layers.2.input_layernorm.weight", {64}}};
       },
       kModel,
       {"model.layers.2.input_layernorm.weight"}},
      {"wrong vector",
       [](auto& o) { o.reshaped["model.norm.weight"] = {128}; },
       kCorrupt,
       {"tensor model.norm.weight: shape [128], expected [64]"}},
      {"vector as a matrix",
       [](auto& o) {
         o.reshaped["model.norm.weight"] = {1, 64};
       },
       kCorrupt,
       {"tensor model.norm.weight: shape [1, 64], expected [64]"}},
      {"transposed",
       [](auto& o) {
         o.reshaped["model.layers.0.mlp.down_proj.weight"] = {160, 64};
       },
       kCorrupt,
       {"model.layers.0.mlp.down_proj.weight: shape [160, 64], expected [64, 160]"}},
      {"vocabulary of another size",
       [](auto& o) { o.config_patch = R"({"vocab_size": 321})"; },
       kCorrupt,
       {"model.embed_tokens.weight: shape [320, 64], expected [321, 64]"}},
      {"dtype",
       [](auto& o) {
         o.dropped = {"model.norm.weight"};
         o.extra = {{"model.norm.weight", {64}, "F64"}};
       },
       kModel,
       {"tensor model.norm.weight: dtype F64", "F32, F16 or BF16"}},
      {"config.json",
       [](auto& o) { o.config_patch = R"({"hidden_act": "gelu"})"; },
       kModel,
       {"config.json", "hidden_act", "gelu"}},
      {"generation_config.json",
       [](auto& o) { o.generation_config = R"({"eos_token_id": "x"})"; },
       kCorrupt,
       {"generation_config.json", "eos_token_id"}},
  };
  for (const Refusal& refusal : refusals) {
    for (const int32_t n_shards : {1, 3}) {
      INFO(refusal.what, ", shards: ", n_shards);
      SyntheticOptions options;
      options.n_shards = n_shards;
      refusal.change(options);
      SyntheticFiles files = make_synthetic_checkpoint(options);
      TemporaryDirectory directory;
      write_files(directory.path(), files);
      const Status status = open_error(directory.path());
      expect_error(status, refusal.code, refusal.parts);
      expect_error(status, refusal.code, {directory.path()});
    }
  }
}

TEST_CASE("leftovers that change nothing are ignored") {
  SyntheticOptions options;
  options.extra = {{"model.layers.0.self_attn.rotary_emb.inv_freq", {8}},
                   {"model.rotary_emb.inv_freq", {8}, "F64"}};
  TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), options);
  CHECK(open_ok(directory.path())->tensors().size() == expected_tensors(options.config).size());

  // lm_head.weight beside tied embeddings, as some exporters write it.
  options.extra.clear();
  options.config_patch = R"({"tie_word_embeddings": true})";
  write_synthetic_checkpoint(directory.path(), options);
  const std::unique_ptr<Checkpoint> tied = open_ok(directory.path());
  CHECK(tied->config().tied_embeddings);
  CHECK(tied->tensors().back().spec.name == "model.norm.weight");
}

TEST_CASE("folders without a usable checkpoint") {
  const SyntheticFiles files = make_synthetic_checkpoint({});
  {
    TemporaryDirectory directory;
    expect_error(open_error(directory.file("absent")), StatusCode::kNotFound, {"absent"});
    expect_error(open_error(directory.path()), StatusCode::kNotFound, {"config.json"});
    write_files(directory.path(), {{"config.json", files.at("config.json")}});
    expect_error(open_error(directory.file("config.json")), StatusCode::kInvalidArgument,
                 {"config.json", "folder"});
    expect_error(open_error(directory.path()), StatusCode::kNotFound, {"model.safetensors"});
    write_files(directory.path(), {{"pytorch_model-00001-of-00002.bin", "PK"}});
    expect_error(open_error(directory.path()), StatusCode::kUnsupportedModel,
                 {"PyTorch", "pytorch_model-00001-of-00002.bin", "safetensors"});
    std::filesystem::create_directory(directory.file("model.safetensors"));
    expect_error(open_error(directory.path()), StatusCode::kUnsupportedModel, {"PyTorch"});
  }
  TemporaryDirectory directory;
  write_files(directory.path(), files);
  write_files(directory.path(), {{"config.json", std::string((1 << 20) + 1, ' ')}});
  expect_error(open_error(directory.path()), StatusCode::kLimitExceeded, {"config.json"});
}

TEST_CASE("the shard index is checked against the shards") {
  SyntheticOptions options;
  options.n_shards = 3;
  const SyntheticFiles files = make_synthetic_checkpoint(options);
  const std::string index_name = "model.safetensors.index.json";
  const std::string first = "model-00001-of-00003.safetensors";
  const std::string second = "model-00002-of-00003.safetensors";
  const std::string embedding = "model.embed_tokens.weight";
  const nlohmann::json index = nlohmann::json::parse(files.at(index_name));

  const auto check = [&](const std::function<void(nlohmann::json&)>& change, StatusCode code,
                         const std::vector<std::string>& parts) {
    nlohmann::json changed = index;
    change(changed);
    SyntheticFiles variant = files;
    variant[index_name] = changed.dump();
    TemporaryDirectory directory;
    write_files(directory.path(), variant);
    INFO(variant[index_name]);
    expect_error(open_error(directory.path()), code, parts);
  };
  for (const char* name : {"../model.safetensors", "/etc/model.safetensors", "sub/a.safetensors",
                           "..safetensors", "..", "", "a\\b.safetensors"}) {
    check([&](auto& json) { json["weight_map"][embedding] = name; }, StatusCode::kCorrupt,
          {index_name, "plain name of a file", name});
  }
  check([&](auto& json) { json["weight_map"][embedding] = std::string("a\0.safetensors", 14); },
        StatusCode::kCorrupt, {"plain name of a file"});
  check([&](auto& json) { json["weight_map"][embedding] = "config.json"; },
        StatusCode::kUnsupportedModel, {index_name, "config.json", ".safetensors"});
  check([&](auto& json) { json["weight_map"][embedding] = "pytorch_model.bin"; },
        StatusCode::kUnsupportedModel, {"pytorch_model.bin", ".safetensors"});
  check([&](auto& json) { json["weight_map"][embedding] = 1; }, StatusCode::kCorrupt,
        {embedding, "file name"});
  check([&](auto& json) { json["weight_map"][embedding] = "other.safetensors"; },
        StatusCode::kCorrupt, {embedding, first, "other.safetensors"});
  check([&](auto& json) { json["weight_map"]["a.weight"] = "absent.safetensors"; },
        StatusCode::kNotFound, {"absent.safetensors"});
  check([&](auto& json) { json["weight_map"]["a.weight"] = first; }, StatusCode::kCorrupt,
        {"tensor a.weight", "not in its shard", first});
  check([&](auto& json) { json["weight_map"].erase(embedding); }, StatusCode::kCorrupt,
        {embedding, first, "no such tensor"});
  check([&](auto& json) { json["weight_map"][embedding] = second; }, StatusCode::kCorrupt,
        {embedding, first, second});
  check([&](auto& json) { json.erase("weight_map"); }, StatusCode::kCorrupt,
        {"weight_map is missing"});
  check([&](auto& json) { json["weight_map"] = {1, 2}; }, StatusCode::kCorrupt, {"weight_map"});
  check([&](auto& json) { json["weight_map"] = nlohmann::json::object(); }, StatusCode::kCorrupt,
        {"weight_map", "none"});
  check([&](auto& json) { json = nlohmann::json::array(); }, StatusCode::kCorrupt, {index_name});
  check(
      [&](auto& json) {
        for (int i = 0; i < 1025; ++i)
          json["weight_map"]["t" + std::to_string(i)] = std::to_string(i) + ".safetensors";
      },
      StatusCode::kLimitExceeded, {"1024 shards"});

  // A listed shard that is not there, and one tensor in two shards.
  TemporaryDirectory directory;
  write_files(directory.path(), files);
  std::filesystem::remove(directory.file(second));
  expect_error(open_error(directory.path()), StatusCode::kNotFound, {second});
  SyntheticOptions twice = options;
  twice.extra = {{embedding, {320, 64}, "BF16"}};  // again in the last shard, and the index says so
  write_synthetic_checkpoint(directory.path(), twice);
  expect_error(open_error(directory.path()), StatusCode::kCorrupt, {embedding, first});
}

TEST_CASE("NaN and infinity are found where they are, in every format") {
  SyntheticOptions options;
  options.config.n_layers = 1;
  options.config.n_vocab = 20000;  // three pieces of 8192 rows of F32, two of 16384 otherwise
  const std::string embedding = "model.embed_tokens.weight";
  const std::vector<PlantedValue> places = {
      {embedding, 0, 0, std::nanf("")},
      {embedding, 17001, 63, -kInfinity},
      {"model.layers.0.mlp.down_proj.weight", 63, 159, kInfinity},
      {"model.norm.weight", 0, 5, -std::nanf("")},
  };
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kBF16}) {
    options.format = format;
    for (const PlantedValue& place : places) {
      INFO(place.tensor, " format ", static_cast<int>(format));
      options.planted = {place};
      TemporaryDirectory directory;
      write_synthetic_checkpoint(directory.path(), options);
      const std::unique_ptr<Checkpoint> checkpoint = open_ok(directory.path());
      CHECK(checkpoint->n_pieces(0) == (format == WeightFormat::kF32 ? 3 : 2));
      expect_error(read_all(*checkpoint), StatusCode::kNonFinite,
                   {"tensor " + place.tensor, "row " + std::to_string(place.row) + ",",
                    "column " + std::to_string(place.col)});
    }
    // The largest finite value of the format is not one of them.
    const float largest = format == WeightFormat::kF32   ? std::numeric_limits<float>::max()
                          : format == WeightFormat::kF16 ? 65504.0f
                                                         : 0x1.fep127f;
    options.planted = {{embedding, 3, 3, largest}, {embedding, 3, 4, -largest}};
    TemporaryDirectory directory;
    write_synthetic_checkpoint(directory.path(), options);
    CHECK(read_all(*open_ok(directory.path())).ok());
  }
}

TEST_CASE("pieces: arguments, memory, and a file that shrinks after it was opened") {
  SyntheticOptions options;
  options.config.n_vocab = 20000;
  options.format = WeightFormat::kF32;
  TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), options);
  const std::unique_ptr<Checkpoint> checkpoint = open_ok(directory.path());
  PieceBuffer buffer;
  WeightPiece piece;
  const int64_t n_tensors = std::ssize(checkpoint->tensors());
  CHECK(checkpoint->n_pieces(-1) == 0);
  CHECK(checkpoint->n_pieces(n_tensors) == 0);
  for (const auto& [tensor, index] :
       std::vector<std::pair<int64_t, int64_t>>{{-1, 0}, {n_tensors, 0}, {0, -1}, {0, 3}}) {
    expect_error(checkpoint->read_piece(tensor, index, buffer, &piece),
                 StatusCode::kInvalidArgument, {"piece"});
  }

  // Nothing but one piece is ever in memory.
  const int64_t before = host_memory_counters().live_bytes;
  reset_host_memory_peak();
  CHECK(read_all(*checkpoint).ok());
  CHECK(host_memory_counters().peak_bytes - before <= kPieceTargetBytes);
  CHECK(host_memory_counters().live_bytes == before);

  set_allocation_gate([](int64_t, void*) { return false; }, nullptr);
  CHECK(checkpoint->read_piece(0, 0, buffer, &piece).code() == StatusCode::kOutOfMemory);
  set_allocation_gate(nullptr, nullptr);
  REQUIRE(checkpoint->read_piece(0, 2, buffer, &piece).ok());
  CHECK(piece.row_begin == 16384);
  CHECK(piece.n_rows == 20000 - 16384);

  std::filesystem::resize_file(directory.file("model.safetensors"), 100000);
  expect_error(read_all(*checkpoint), StatusCode::kCorrupt, {"model.safetensors"});
}

TEST_CASE("read_piece from several threads") {
  SyntheticOptions options;
  options.n_shards = 2;
  TemporaryDirectory directory;
  write_synthetic_checkpoint(directory.path(), options);
  const std::unique_ptr<Checkpoint> checkpoint = open_ok(directory.path());
  std::atomic<int> n_failed = 0;
  const auto work = [&] {
    for (int repeat = 0; repeat < 20; ++repeat)
      if (!read_all(*checkpoint).ok()) ++n_failed;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back(work);
  for (std::thread& thread : threads)
    thread.join();
  CHECK(n_failed == 0);
}
