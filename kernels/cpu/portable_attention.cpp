// attention in plain C++.
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/cpu/portable_lanes.h"
#include "kernels/cpu/portable_table.h"
#include "kernels/cpu/vector_math.h"

namespace flexq::portable {
namespace {

// The keys or the values of one call, at `offset_bytes` in every page.
template <typename Element>
class CacheRows {
 public:
  static constexpr bool kHasScales = std::is_same_v<Element, int8_t>;

  CacheRows(const AttentionArgs& args, int64_t offset_bytes)
      : args_(args), offset_bytes_(offset_bytes) {}

  const Element* row(int64_t position) const {
    return page(position) + position % args_.page_tokens * args_.head_dim;
  }
  // kI8 only: the scales follow the codes of the page.
  float scale(int64_t position) const {
    const auto* scales =
        reinterpret_cast<const uint16_t*>(page(position) + args_.page_tokens * args_.head_dim);
    return half_to_float(scales[position % args_.page_tokens]);
  }

 private:
  const Element* page(int64_t position) const {
    const uint8_t* bytes = args_.pages[position / args_.page_tokens] + offset_bytes_;
    return reinterpret_cast<const Element*>(bytes);
  }

  const AttentionArgs& args_;
  const int64_t offset_bytes_;
};

template <typename Element, typename Load>
void attention_typed(const AttentionArgs& args, Load load) {
  const CacheRows<Element> keys(args, args.k_offset_bytes);
  const CacheRows<Element> values(args, args.v_offset_bytes);
  const int64_t positions = args.n_positions;
  const int64_t head_dim = args.head_dim;
  float* scores = args.scores;
  for (int64_t head = 0; head < args.n_q; ++head) {
    const float* q = args.q + head * head_dim;
    float* out = args.out + head * head_dim;
    float max_score = -std::numeric_limits<float>::infinity();
    for (int64_t p = 0; p < positions; ++p) {
      float dot = dot16(q, keys.row(p), head_dim, load);
      if constexpr (keys.kHasScales) dot = dot * keys.scale(p);
      scores[p] = dot * args.scale;
      max_score = std::max(max_score, scores[p]);  // a NaN stays in the scores, not here
    }
    for (int64_t p = 0; p < positions; ++p)
      scores[p] = expf16(scores[p] - max_score);
    const float inverse_sum = 1.0f / sum16(scores, positions);
    std::fill_n(out, head_dim, 0.0f);
    for (int64_t p = 0; p < positions; ++p) {
      const Element* value = values.row(p);
      float weight = scores[p];
      if constexpr (values.kHasScales) weight = weight * values.scale(p);
      for (int64_t d = 0; d < head_dim; ++d)
        out[d] = std::fma(weight, load(value + d), out[d]);
    }
    for (int64_t d = 0; d < head_dim; ++d)
      out[d] = out[d] * inverse_sum;
  }
}

}  // namespace

void attention(const AttentionArgs& args) {
  switch (args.kv_type) {
    case KvElement::kF16:
      return attention_typed<uint16_t>(args, load_f16);
    case KvElement::kF32:
      return attention_typed<float>(args, load_f32);
    case KvElement::kI8:
      return attention_typed<int8_t>(args, load_i8);
  }
}

}  // namespace flexq::portable
