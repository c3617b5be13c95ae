// Token events as flexq.h shows them, for generators and requests.
#include "api/handles.h"

namespace flexq::api {

void AlternativeArrays::reserve() {
  tokens.reserve(kMaxAlternatives);
  log_probs.reserve(kMaxAlternatives);
}

void AlternativeArrays::fill(std::span<const TokenLogProb> alternatives) {
  tokens.clear();
  log_probs.clear();
  for (const TokenLogProb& alternative : alternatives) {
    tokens.push_back(alternative.token);
    log_probs.push_back(alternative.log_prob);
  }
}

void show_event(const TokenEvent& event, AlternativeArrays& arrays, flexq_token_event* out) {
  arrays.fill(event.alternatives);
  out->finish_reason = static_cast<int32_t>(event.finish_reason);
  out->token = event.token;
  out->position = event.position;
  out->text = event.text.empty() ? "" : event.text.data();
  out->text_bytes = static_cast<int64_t>(event.text.size());
  out->log_prob = event.log_prob;
  out->n_alternatives = static_cast<int32_t>(event.alternatives.size());
  out->alternative_tokens = arrays.tokens.data();
  out->alternative_log_probs = arrays.log_probs.data();
}

}  // namespace flexq::api
