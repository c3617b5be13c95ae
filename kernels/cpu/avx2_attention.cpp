// attention with AVX2. Scores: lanes along head_dim (dot16), four positions at a time so that their
// trees end together. Values: lanes along head_dim, up to 64 accumulated in registers while the
// positions pass in ascending order.
#include <immintrin.h>

#include "kernels/cpu/avx2_lanes.h"
#include "kernels/cpu/avx2_table.h"
#include "kernels/cpu/vector_math.h"

namespace flexq::avx2 {
namespace {

inline float half_value(uint16_t bits) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

// lanes += q * key over head_dim, for kPositions keys of head_dim elements each, one after another.
template <typename Type, int kPositions>
inline void dot_keys(const float* q, const typename Type::Element* keys, int64_t head_dim,
                     __m256* low, __m256* high) {
  for (int p = 0; p < kPositions; ++p)
    low[p] = high[p] = _mm256_setzero_ps();
  int64_t d = 0;
  for (; d + kLanes <= head_dim; d += kLanes) {
    const __m256 q_low = _mm256_loadu_ps(q + d);
    const __m256 q_high = _mm256_loadu_ps(q + d + kFloats);
    for (int p = 0; p < kPositions; ++p) {
      const typename Type::Element* key = keys + p * head_dim + d;
      low[p] = _mm256_fmadd_ps(q_low, Type::load(key), low[p]);
      high[p] = _mm256_fmadd_ps(q_high, Type::load(key + kFloats), high[p]);
    }
  }
  if (d < head_dim) {
    const int64_t left = head_dim - d;
    const int64_t high_offset = d + min_int(left, kFloats);
    const __m256 q_low = load_floats(q + d, left);
    const __m256 q_high = load_floats(q + high_offset, left - kFloats);
    for (int p = 0; p < kPositions; ++p) {
      const typename Type::Element* key = keys + p * head_dim;
      low[p] = _mm256_fmadd_ps(q_low, Type::load_few(key + d, left), low[p]);
      high[p] = _mm256_fmadd_ps(q_high, Type::load_few(key + high_offset, left - kFloats), high[p]);
    }
  }
}

// The scores of the n positions of one page. key_scales: theirs (kI8), or null.
template <typename Type>
void page_scores(const float* q, const typename Type::Element* keys, const uint16_t* key_scales,
                 int64_t n, int64_t head_dim, float scale, float* scores) {
  __m256 low[4];
  __m256 high[4];
  int64_t p = 0;
  for (; p + 4 <= n; p += 4) {
    dot_keys<Type, 4>(q, keys + p * head_dim, head_dim, low, high);
    __m128 dots = reduce_4x4(fold_to_4(low[0], high[0]), fold_to_4(low[1], high[1]),
                             fold_to_4(low[2], high[2]), fold_to_4(low[3], high[3]));
    if (key_scales != nullptr) {
      const __m128i halves = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(key_scales + p));
      dots = _mm_mul_ps(dots, _mm_cvtph_ps(halves));
    }
    _mm_storeu_ps(scores + p, _mm_mul_ps(dots, _mm_set1_ps(scale)));
  }
  for (; p < n; ++p) {
    dot_keys<Type, 1>(q, keys + p * head_dim, head_dim, low, high);
    float dot = reduce_lanes(low[0], high[0]);
    if (key_scales != nullptr) dot = dot * half_value(key_scales[p]);
    scores[p] = dot * scale;
  }
}

// e[p] -> e[p] * vs[p] for the n positions of one page.
void scale_weights(const uint16_t* value_scales, int64_t n, float* weights) {
  int64_t p = 0;
  for (; p + kFloats <= n; p += kFloats)
    _mm256_storeu_ps(weights + p,
                     _mm256_mul_ps(_mm256_loadu_ps(weights + p), F16::load(value_scales + p)));
  for (; p < n; ++p)
    weights[p] = weights[p] * half_value(value_scales[p]);
}

// scores -> exp(scores - max); gives 1 / sum. scores: room for n rounded up to 16.
float exponentiate(float* scores, int64_t n) {
  const __m256 minus_infinity = _mm256_set1_ps(-__builtin_inff());
  // Padding of -inf becomes +0 (or NaN, when every real score is -inf or NaN too).
  for (int64_t p = n; p % kLanes != 0; ++p)
    scores[p] = -__builtin_inff();
  __m256 max = minus_infinity;
  for (int64_t p = 0; p < n; p += kFloats)  // max gives its second operand when the first is NaN
    max = _mm256_max_ps(_mm256_loadu_ps(scores + p), max);
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps(max, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  four = _mm_max_ss(four, _mm_movehdup_ps(four));
  max = _mm256_broadcastss_ps(four);
  __m256 low = _mm256_setzero_ps();
  __m256 high = _mm256_setzero_ps();
  for (int64_t p = 0; p < n; p += kLanes) {
    const __m256 e_low = expf16(_mm256_sub_ps(_mm256_loadu_ps(scores + p), max));
    const __m256 e_high = expf16(_mm256_sub_ps(_mm256_loadu_ps(scores + p + kFloats), max));
    _mm256_storeu_ps(scores + p, e_low);
    _mm256_storeu_ps(scores + p + kFloats, e_high);
    low = _mm256_add_ps(low, e_low);
    high = _mm256_add_ps(high, e_high);
  }
  return 1.0f / reduce_lanes(low, high);
}

template <typename Type>
const typename Type::Element* page_rows(const AttentionArgs& args, int64_t page, int64_t offset) {
  return reinterpret_cast<const typename Type::Element*>(args.pages[page] + offset);
}

// kI8: the scales behind the codes of a page. Null for other types.
template <typename Type>
const uint16_t* page_scales(const AttentionArgs& args, int64_t page, int64_t offset) {
  if constexpr (sizeof(typename Type::Element) != 1) return nullptr;
  return reinterpret_cast<const uint16_t*>(args.pages[page] + offset +
                                           args.page_tokens * args.head_dim);
}

// Elements [d, d + 8 * kRegisters) of the output of one head.
template <typename Type, int kRegisters>
void add_values(const AttentionArgs& args, int64_t d, float inverse_sum, float* out) {
  __m256 acc[kRegisters];
  for (int i = 0; i < kRegisters; ++i)
    acc[i] = _mm256_setzero_ps();
  for (int64_t first = 0, page = 0; first < args.n_positions; first += args.page_tokens, ++page) {
    const int64_t positions = min_int(args.page_tokens, args.n_positions - first);
    const typename Type::Element* value = page_rows<Type>(args, page, args.v_offset_bytes) + d;
    for (int64_t p = 0; p < positions; ++p, value += args.head_dim) {
      const __m256 e = _mm256_broadcast_ss(args.scores + first + p);
      for (int i = 0; i < kRegisters; ++i)
        acc[i] = _mm256_fmadd_ps(e, Type::load(value + i * kFloats), acc[i]);
    }
  }
  for (int i = 0; i < kRegisters; ++i)
    _mm256_storeu_ps(out + d + i * kFloats, _mm256_mul_ps(acc[i], _mm256_set1_ps(inverse_sum)));
}

// The last head_dim % 8 elements.
template <typename Type>
void add_values_tail(const AttentionArgs& args, int64_t d, float inverse_sum, float* out) {
  const int64_t left = args.head_dim - d;
  __m256 acc = _mm256_setzero_ps();
  for (int64_t p = 0; p < args.n_positions; ++p) {
    const typename Type::Element* value =
        page_rows<Type>(args, p / args.page_tokens, args.v_offset_bytes) +
        p % args.page_tokens * args.head_dim + d;
    acc = _mm256_fmadd_ps(_mm256_broadcast_ss(args.scores + p), Type::load_few(value, left), acc);
  }
  store_floats(out + d, left, _mm256_mul_ps(acc, _mm256_set1_ps(inverse_sum)));
}

template <typename Type>
void attention_typed(const AttentionArgs& args) {
  const int64_t head_dim = args.head_dim;
  const int64_t n = args.n_positions;
  for (int64_t head = 0; head < args.n_q; ++head) {
    const float* q = args.q + head * head_dim;
    float* out = args.out + head * head_dim;
    for (int64_t first = 0, page = 0; first < n; first += args.page_tokens, ++page)
      page_scores<Type>(q, page_rows<Type>(args, page, args.k_offset_bytes),
                        page_scales<Type>(args, page, args.k_offset_bytes),
                        min_int(args.page_tokens, n - first), head_dim, args.scale,
                        args.scores + first);
    const float inverse_sum = exponentiate(args.scores, n);
    if constexpr (sizeof(typename Type::Element) == 1) {
      for (int64_t first = 0, page = 0; first < n; first += args.page_tokens, ++page)
        scale_weights(page_scales<Type>(args, page, args.v_offset_bytes),
                      min_int(args.page_tokens, n - first), args.scores + first);
    }
    int64_t d = 0;
    for (; d + 64 <= head_dim; d += 64)
      add_values<Type, 8>(args, d, inverse_sum, out);
    for (; d + 32 <= head_dim; d += 32)
      add_values<Type, 4>(args, d, inverse_sum, out);
    for (; d + 8 <= head_dim; d += 8)
      add_values<Type, 1>(args, d, inverse_sum, out);
    if (d < head_dim) add_values_tail<Type>(args, d, inverse_sum, out);
  }
}

}  // namespace

void attention(const AttentionArgs& args) {
  switch (args.kv_type) {
    case KvElement::kF16:
      return attention_typed<F16>(args);
    case KvElement::kF32:
      return attention_typed<F32>(args);
    case KvElement::kI8:
      return attention_typed<I8>(args);
  }
}

}  // namespace flexq::avx2
