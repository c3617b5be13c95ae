#include "fuzz/bundle_use.h"

#include <algorithm>

#include "base/checked.h"
#include "base/ed25519_keys.h"
#include "bundle/bundle_format.h"
#include "bundle/bundle_header.h"
#include "bundle/bundle_signature.h"
#include "support/c_handles.h"
#include "support/test_keys.h"

namespace flexq::test {
namespace {

constexpr int32_t kContextTokens = 32;

ModelOptionsHandle make_model_options(const char* max_decoded_bytes) {
  ModelOptionsHandle options;
  FUZZ_REQUIRE(create(options, flexq_model_options_create) == FLEXQ_OK, flexq_last_error());
  flexq_model_options_set_device(options.get(), "cpu");
  flexq_model_options_set_threads(options.get(), 1);
  FUZZ_REQUIRE(
      flexq_model_options_set(options.get(), "max_decoded_bytes", max_decoded_bytes) == FLEXQ_OK,
      flexq_last_error());
  return options;
}

// What bundles may decode to while they are loaded, far below the memory that a target may take.
const flexq_model_options* limited_options() {
  static const ModelOptionsHandle options = make_model_options("67108864");
  return options.get();
}

// The default of that limit: nothing is loaded.
const flexq_model_options* unlimited_options() {
  static const ModelOptionsHandle options = make_model_options("1099511627776");
  return options.get();
}

// The first token of the prompt that `start` sets, and a second one.
template <typename Start>
bool generate_two(flexq_context* context, Start start) {
  GeneratorHandle generator;
  FUZZ_REQUIRE(create(generator, flexq_generator_create, context, nullptr) == FLEXQ_OK,
               flexq_last_error());
  flexq_status status = start(generator.get());
  // A model trained for a few tokens has no room for the prompt.
  if (status == FLEXQ_ERROR_CONTEXT_FULL) return true;
  flexq_token_event event = {};
  event.struct_size = sizeof event;
  for (int i = 0; i < 2 && status == FLEXQ_OK && event.finish_reason == FLEXQ_FINISH_NONE; ++i)
    status = flexq_generator_next(generator.get(), &event);
  const bool ok = accepted(status);
  generator.reset();
  FUZZ_REQUIRE(flexq_context_rewind(context, 0, 0) == FLEXQ_OK, flexq_last_error());
  return ok;
}

}  // namespace

bool accepted(flexq_status status) {
  if (status == FLEXQ_OK) return true;
  FUZZ_REQUIRE(is_refusal(static_cast<StatusCode>(status)), flexq_last_error());
  FUZZ_REQUIRE(flexq_last_error()[0] != '\0', "no message");
  return false;
}

std::vector<uint8_t> sealed_front(std::span<const uint8_t> directory, int64_t file_bytes) {
  BundleHeader header;
  header.directory_bytes = std::ssize(directory);
  header.segment_base = segment_base_for(header.directory_bytes);
  header.file_bytes = file_bytes;
  const HeaderBytes front = encode_header(header, directory);
  std::vector<uint8_t> bytes(static_cast<size_t>(header.segment_base));
  std::copy(front.begin(), front.end(), bytes.begin());
  std::copy(directory.begin(), directory.end(), bytes.begin() + kBundleHeaderBytes);
  return bytes;
}

void sign_front(std::vector<uint8_t>& front) {
  static const Ed25519SecretKey key = [] {
    auto parsed = parse_secret_key(kTestSecretKey);
    FUZZ_REQUIRE(parsed.ok(), parsed.status().message());
    return std::move(parsed).value();
  }();
  Sha256Digest sha256;
  std::copy_n(front.begin() + 64, sha256.size(), sha256.begin());
  place_signature(front, key.sign(signed_message(sha256)), key.public_key());
}

void require_test_key(flexq_source* source) {
  FUZZ_REQUIRE(flexq_source_require_key(source, kTestPublicKey.data(),
                                        std::ssize(kTestPublicKey)) == FLEXQ_OK,
               flexq_last_error());
}

std::vector<ChunkEntry*> chunks_of(BundleDirectory& directory) {
  std::vector<ChunkEntry*> chunks;
  for (TensorEntry& tensor : directory.tensors)
    for (ChunkEntry& chunk : tensor.chunks)
      chunks.push_back(&chunk);
  for (SectionEntry& section : directory.sections)
    for (ChunkEntry& chunk : section.chunks)
      chunks.push_back(&chunk);
  return chunks;
}

int64_t segment_bytes(const BundleDirectory& directory) {
  int64_t end = 0;
  const auto see = [&](const std::vector<ChunkEntry>& chunks) {
    for (const ChunkEntry& chunk : chunks) {
      CheckedSize size(chunk.offset);
      size.add(chunk.stored_bytes).align_up(kSegmentAlignment);
      end = end < 0 || !size.valid() ? -1 : std::max(end, size.value());
    }
  };
  for (const TensorEntry& tensor : directory.tensors)
    see(tensor.chunks);
  for (const SectionEntry& section : directory.sections)
    see(section.chunks);
  return end;
}

bool plan_bundle(flexq_source* source) {
  flexq_plan plan = {};
  plan.struct_size = sizeof plan;
  if (!accepted(flexq_model_plan(source, unlimited_options(), nullptr, 0, &plan))) return false;
  FUZZ_REQUIRE(plan.weight_bytes > 0 && plan.total_bytes >= plan.weight_bytes, "plan");
  return true;
}

bool inspect_bundle(flexq_source* source) {
  BundleHandle bundle;
  if (!accepted(create(bundle, flexq_bundle_open, source))) return false;
  int64_t text_bytes = 0;
  FUZZ_REQUIRE(flexq_bundle_json(bundle.get(), nullptr, 0, &text_bytes) != FLEXQ_OK, "no room");
  std::string text(static_cast<size_t>(text_bytes) + 1, '\0');
  FUZZ_REQUIRE(
      flexq_bundle_json(bundle.get(), text.data(), std::ssize(text), &text_bytes) == FLEXQ_OK,
      flexq_last_error());
  return true;
}

bool load_bundle_and_generate(flexq_source* source) {
  ModelHandle model;
  if (!accepted(create(model, flexq_model_load, source, limited_options()))) return false;
  BundleHandle bundle;
  // What loading does not need may still be damaged: other sections, the record of the source.
  if (accepted(create(bundle, flexq_bundle_open, source)))
    accepted(flexq_bundle_verify(bundle.get(), 1, nullptr, nullptr));

  flexq_model_info info = {};
  info.struct_size = sizeof info;
  FUZZ_REQUIRE(flexq_model_get_info(model.get(), &info) == FLEXQ_OK, flexq_last_error());
  for (int32_t i = 0; i < flexq_model_tensor_count(model.get()); ++i) {
    flexq_tensor_info tensor = {};
    tensor.struct_size = sizeof tensor;
    FUZZ_REQUIRE(flexq_model_get_tensor_info(model.get(), i, &tensor) == FLEXQ_OK,
                 flexq_last_error());
  }

  ContextOptionsHandle options;
  FUZZ_REQUIRE(create(options, flexq_context_options_create) == FLEXQ_OK, flexq_last_error());
  flexq_context_options_set_context_tokens(options.get(),
                                           std::min(kContextTokens, info.context_tokens));
  ContextHandle context;
  if (!accepted(create(context, flexq_context_create, model.get(), options.get()))) return false;
  const int32_t prompt[] = {0, info.n_vocab - 1, info.n_vocab / 2};
  bool ok = generate_two(context.get(), [&](flexq_generator* generator) {
    return flexq_generator_start_tokens(generator, prompt, 3);
  });
  TokenizerHandle tokenizer;
  if (create(tokenizer, flexq_model_tokenizer, model.get()) == FLEXQ_OK) {
    const std::string text = "ate \xF0\x9F\xA6\x99 \xFF";
    ok = generate_two(context.get(),
                      [&](flexq_generator* generator) {
                        return flexq_generator_start(generator, text.data(), std::ssize(text), 0);
                      }) &&
         ok;
  }
  return ok;
}

}  // namespace flexq::test
