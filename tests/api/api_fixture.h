// What the tests of the C interface share: small bundles made once per process, handles with
// options, and whole results as C++ values.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "api/api_handles.h"

namespace flexq::test {

// Paths of quantized checkpoints (policy "flexq"), made at the first call: stories260k of
// samples/data (vocabulary 512, context 512), wiki-tiny-1m of tests/data (2048, byte fallback), and
// a synthetic model of 2 layers with context 128.
const std::string& stories_bundle();
const std::string& wiki_tiny_bundle();
const std::string& tiny_bundle();
std::string stories_checkpoint();

std::string file_bytes(const std::string& path);

Source open_source(const std::string& path);
// With 2 threads, so that the pool takes part.
Model load_model(const std::string& path);

Context make_context(const flexq_model* model,
                     const std::function<void(flexq_context_options*)>& configure = {});
Generator make_generator(flexq_context* context,
                         const std::function<void(flexq_generator_options*)>& configure = {});
// The sampling parameters of one generator; configured in place.
void set_sampling(flexq_generator_options* options,
                  const std::function<void(flexq_sampling*)>& configure);

// With flags FLEXQ_ENCODE_DEFAULT.
std::vector<int32_t> encode(const flexq_model* model, const std::string& text);
std::string decode(const flexq_model* model, const std::vector<int32_t>& tokens);

flexq_status start(flexq_generator* generator, const std::string& prompt);
std::string text_of(const flexq_generator* generator);
std::vector<int32_t> tokens_of(const flexq_generator* generator);
flexq_generator_stats stats_of(const flexq_generator* generator);

// Decodes tokens into a sequence and copies the logits of the last: (n_vocab).
std::vector<float> last_logits(flexq_context* context, int32_t sequence,
                               const std::vector<int32_t>& tokens);
// ln softmax(logits)[token], in double.
double log_softmax(const float* logits, int32_t n_vocab, int32_t token);

// An event with everything it points to.
struct RecordedEvent {
  int32_t finish_reason = 0;
  int32_t token = 0;
  int32_t position = 0;
  std::string text;
  float log_prob = 0;
  std::vector<int32_t> alternative_tokens;
  std::vector<float> alternative_log_probs;
  bool operator==(const RecordedEvent&) const = default;
};
RecordedEvent recorded(const flexq_token_event& event);
// A flexq_token_callback; user_data is a std::vector<RecordedEvent>*.
int32_t record_event(const flexq_token_event* event, void* user_data);

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kThreadSanitized = __has_feature(thread_sanitizer);
#else
inline constexpr bool kThreadSanitized = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kSanitized = kThreadSanitized || __has_feature(address_sanitizer);
#else
inline constexpr bool kSanitized = kThreadSanitized;
#endif

}  // namespace flexq::test
