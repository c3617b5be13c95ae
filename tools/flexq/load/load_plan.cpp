#include "load/load_plan.h"

#include <charconv>
#include <random>
#include <string_view>

namespace flexq_tool {
namespace {

constexpr int32_t kMaxLength = 1 << 22;

bool parse_length(std::string_view text, int32_t& length) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), length);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && length >= 1 &&
         length <= kMaxLength;
}

}  // namespace

bool parse_length_range(const std::string& text, LengthRange& range) {
  const size_t dash = text.find('-');
  const std::string_view all = text;
  if (dash == std::string::npos) {
    if (!parse_length(all, range.min)) return false;
    range.max = range.min;
    return true;
  }
  return parse_length(all.substr(0, dash), range.min) &&
         parse_length(all.substr(dash + 1), range.max) && range.min <= range.max;
}

std::vector<LoadRequest> plan_load(const LoadShape& shape) {
  std::mt19937_64 random(shape.seed);
  // Not the first few: they are control tokens in most vocabularies.
  std::uniform_int_distribution<int32_t> token(shape.n_vocab > 16 ? 8 : 0, shape.n_vocab - 1);
  std::uniform_int_distribution<int32_t> n_prompt(shape.prompt.min, shape.prompt.max);
  std::uniform_int_distribution<int32_t> n_generate(shape.generate.min, shape.generate.max);
  std::exponential_distribution<double> gap(shape.rate > 0 ? shape.rate : 1);
  // The same for every seed: a warm-up with other prompts puts it into the cache.
  std::mt19937_64 shared_random(0);
  std::vector<int32_t> shared(static_cast<size_t>(shape.n_shared));
  for (int32_t& id : shared)
    id = token(shared_random);
  std::vector<LoadRequest> requests(static_cast<size_t>(shape.n_requests));
  double now = 0;
  for (LoadRequest& request : requests) {
    if (shape.rate > 0) request.arrival_seconds = now += gap(random);
    request.n_generate = n_generate(random);
    request.prompt.resize(static_cast<size_t>(n_prompt(random)));
    for (size_t i = 0; i < request.prompt.size(); ++i)
      request.prompt[i] = i < shared.size() ? shared[i] : token(random);
  }
  return requests;
}

}  // namespace flexq_tool
