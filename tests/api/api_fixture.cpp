#include "api/api_fixture.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>

#include "support/synthetic_checkpoint.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

// Lives until the process ends.
const TemporaryDirectory& bundle_directory() {
  static const TemporaryDirectory directory;
  return directory;
}

std::string quantized(const std::string& checkpoint, const std::string& name) {
  const std::string path = bundle_directory().file(name);
  REQUIRE_OK(flexq_quantize(checkpoint.c_str(), path.c_str(), nullptr));
  return path;
}

}  // namespace

std::string stories_checkpoint() {
  return source_path("samples/data/stories260k");
}

const std::string& stories_bundle() {
  static const std::string path = quantized(stories_checkpoint(), "stories260k.flexq");
  return path;
}

const std::string& wiki_tiny_bundle() {
  static const std::string path =
      quantized(source_path("tests/data/wiki-tiny-1m"), "wiki-tiny-1m.flexq");
  return path;
}

const std::string& tiny_bundle() {
  static const std::string path = [] {
    const TemporaryDirectory checkpoint;
    write_synthetic_checkpoint(checkpoint.path(), SyntheticOptions());
    return quantized(checkpoint.path(), "tiny.flexq");
  }();
  return path;
}

std::string file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Source open_source(const std::string& path) {
  Source source;
  REQUIRE_OK(flexq_source_open(path.c_str(), source.out()));
  return source;
}

Model load_model(const std::string& path) {
  const Source source = open_source(path);
  ModelOptions options;
  REQUIRE_OK(flexq_model_options_create(options.out()));
  REQUIRE_OK(flexq_model_options_set_threads(options, 2));
  Model model;
  REQUIRE_OK(flexq_model_load(source, options, model.out()));
  return model;
}

Context make_context(const flexq_model* model,
                     const std::function<void(flexq_context_options*)>& configure) {
  ContextOptions options;
  REQUIRE_OK(flexq_context_options_create(options.out()));
  if (configure) configure(options);
  Context context;
  REQUIRE_OK(flexq_context_create(model, options, context.out()));
  return context;
}

Generator make_generator(flexq_context* context,
                         const std::function<void(flexq_generator_options*)>& configure) {
  GeneratorOptions options;
  REQUIRE_OK(flexq_generator_options_create(options.out()));
  if (configure) configure(options);
  Generator generator;
  REQUIRE_OK(flexq_generator_create(context, options, generator.out()));
  return generator;
}

void set_sampling(flexq_generator_options* options,
                  const std::function<void(flexq_sampling*)>& configure) {
  Sampling sampling;
  REQUIRE_OK(flexq_sampling_create(sampling.out()));
  configure(sampling);
  REQUIRE_OK(flexq_generator_options_set_sampling(options, sampling));
}

std::vector<int32_t> encode(const flexq_model* model, const std::string& text) {
  Tokenizer tokenizer;
  REQUIRE_OK(flexq_model_tokenizer(model, tokenizer.out()));
  std::vector<int32_t> tokens(text.size() + 8);
  int32_t n_tokens = 0;
  REQUIRE_OK(flexq_tokenizer_encode(tokenizer, text.data(), static_cast<int64_t>(text.size()),
                                    FLEXQ_ENCODE_DEFAULT, tokens.data(),
                                    static_cast<int32_t>(tokens.size()), &n_tokens));
  tokens.resize(static_cast<size_t>(n_tokens));
  return tokens;
}

std::string decode(const flexq_model* model, const std::vector<int32_t>& tokens) {
  Tokenizer tokenizer;
  REQUIRE_OK(flexq_model_tokenizer(model, tokenizer.out()));
  const auto n_tokens = static_cast<int32_t>(tokens.size());
  int64_t n_bytes = 0;
  flexq_tokenizer_decode(tokenizer, tokens.data(), n_tokens, nullptr, 0, &n_bytes);
  std::string text(static_cast<size_t>(n_bytes), '\0');
  REQUIRE_OK(
      flexq_tokenizer_decode(tokenizer, tokens.data(), n_tokens, text.data(), n_bytes, &n_bytes));
  return text;
}

flexq_status start(flexq_generator* generator, const std::string& prompt) {
  return flexq_generator_start(generator, prompt.data(), static_cast<int64_t>(prompt.size()),
                               FLEXQ_ENCODE_DEFAULT);
}

std::string text_of(const flexq_generator* generator) {
  int64_t n_bytes = 0;
  flexq_generator_text(generator, nullptr, 0, &n_bytes);
  std::string text(static_cast<size_t>(n_bytes), '\0');
  REQUIRE_OK(flexq_generator_text(generator, text.data(), n_bytes, &n_bytes));
  return text;
}

std::vector<int32_t> tokens_of(const flexq_generator* generator) {
  int32_t n_tokens = 0;
  flexq_generator_tokens(generator, nullptr, 0, &n_tokens);
  std::vector<int32_t> tokens(static_cast<size_t>(n_tokens));
  REQUIRE_OK(flexq_generator_tokens(generator, tokens.data(), n_tokens, &n_tokens));
  return tokens;
}

flexq_generator_stats stats_of(const flexq_generator* generator) {
  flexq_generator_stats stats = {};
  stats.struct_size = sizeof stats;
  REQUIRE_OK(flexq_generator_get_stats(generator, &stats));
  return stats;
}

std::vector<float> last_logits(flexq_context* context, int32_t sequence,
                               const std::vector<int32_t>& tokens) {
  Batch batch;
  REQUIRE_OK(flexq_batch_create(batch.out()));
  REQUIRE_OK(flexq_batch_add(batch, sequence, tokens.data(), static_cast<int32_t>(tokens.size()),
                             FLEXQ_OUTPUT_LAST));
  REQUIRE_OK(flexq_context_decode(context, batch));
  const float* logits = nullptr;
  int32_t n_vocab = 0;
  REQUIRE_OK(flexq_context_logits(context, 0, &logits, &n_vocab));
  return {logits, logits + n_vocab};
}

double log_softmax(const float* logits, int32_t n_vocab, int32_t token) {
  const double largest = *std::max_element(logits, logits + n_vocab);
  double sum = 0;
  for (int32_t i = 0; i < n_vocab; ++i)
    sum += std::exp(logits[i] - largest);
  return logits[token] - largest - std::log(sum);
}

RecordedEvent recorded(const flexq_token_event& event) {
  RecordedEvent result;
  result.finish_reason = event.finish_reason;
  result.token = event.token;
  result.position = event.position;
  result.text.assign(event.text, static_cast<size_t>(event.text_bytes));
  result.log_prob = event.log_prob;
  const int32_t n = event.n_alternatives;
  if (n > 0) {
    result.alternative_tokens.assign(event.alternative_tokens, event.alternative_tokens + n);
    result.alternative_log_probs.assign(event.alternative_log_probs,
                                        event.alternative_log_probs + n);
  }
  return result;
}

int32_t record_event(const flexq_token_event* event, void* user_data) {
  static_cast<std::vector<RecordedEvent>*>(user_data)->push_back(recorded(*event));
  return 0;
}

}  // namespace flexq::test
