// attention with AVX-512. Scores: lanes along head_dim (dot16), 16 positions at a time so that
// their trees end together. Values: lanes along head_dim, up to 128 accumulated in registers while
// the positions pass in ascending order.
#include <immintrin.h>

#include "kernels/cpu/avx512_lanes.h"
#include "kernels/cpu/avx512_table.h"
#include "kernels/cpu/vector_math.h"

namespace flexq::avx512 {
namespace {

// Keys or values of one call and one page.
template <typename Type>
struct PageRows {
  static constexpr bool kHasScales = sizeof(typename Type::Element) == 1;

  PageRows(const AttentionArgs& args, int64_t page, int64_t offset_bytes)
      : rows(reinterpret_cast<const typename Type::Element*>(args.pages[page] + offset_bytes)) {
    if constexpr (kHasScales)
      scales = reinterpret_cast<const uint16_t*>(rows + args.page_tokens * args.head_dim);
  }

  const typename Type::Element* rows;  // (page_tokens, head_dim)
  const uint16_t* scales = nullptr;    // (page_tokens), kI8 only
};

// lanes += q * key over head_dim, for kPositions keys of head_dim elements each, one after another.
template <typename Type, int kPositions>
inline void dot_keys(const float* q, const typename Type::Element* keys, int64_t head_dim,
                     __m512* lanes) {
  for (int p = 0; p < kPositions; ++p)
    lanes[p] = _mm512_setzero_ps();
  int64_t d = 0;
  for (; d + kLanes <= head_dim; d += kLanes) {
    const __m512 inputs = _mm512_loadu_ps(q + d);
    for (int p = 0; p < kPositions; ++p)
      lanes[p] = multiply_add(inputs, Type::load(keys + p * head_dim + d), lanes[p]);
  }
  if (d < head_dim) {
    const int64_t left = head_dim - d;
    const __m512 inputs = load_floats(q + d, left);
    for (int p = 0; p < kPositions; ++p)
      lanes[p] = multiply_add(inputs, Type::load_few(keys + p * head_dim + d, left), lanes[p]);
  }
}

// Dots of up to 16 positions to scores. scales: theirs (kI8), or null.
inline void store_scores(__m512 dots, const uint16_t* scales, int64_t n, float scale,
                         float* scores) {
  if (scales != nullptr) dots = _mm512_mul_ps(dots, F16::load_few(scales, n));
  store_floats(scores, n, _mm512_mul_ps(dots, _mm512_set1_ps(scale)));
}

// The scores of the n positions of one page.
template <typename Type>
void page_scores(const float* q, const PageRows<Type>& keys, int64_t n, int64_t head_dim,
                 float scale, float* scores) {
  int64_t p = 0;
  for (; p + kLanes <= n; p += kLanes) {
    __m512 lanes[kLanes];
    dot_keys<Type, kLanes>(q, keys.rows + p * head_dim, head_dim, lanes);
    store_scores(reduce_16(lanes), keys.kHasScales ? keys.scales + p : nullptr, kLanes, scale,
                 scores + p);
  }
  for (; p + 4 <= n; p += 4) {
    __m512 lanes[4];
    dot_keys<Type, 4>(q, keys.rows + p * head_dim, head_dim, lanes);
    store_scores(_mm512_castps128_ps512(reduce_4(lanes[0], lanes[1], lanes[2], lanes[3])),
                 keys.kHasScales ? keys.scales + p : nullptr, 4, scale, scores + p);
  }
  for (; p < n; ++p) {
    __m512 lanes;
    dot_keys<Type, 1>(q, keys.rows + p * head_dim, head_dim, &lanes);
    store_scores(_mm512_set1_ps(reduce_lanes(lanes)), keys.kHasScales ? keys.scales + p : nullptr,
                 1, scale, scores + p);
  }
}

// scores -> exp(scores - max); gives 1 / sum. scores: room for n rounded up to 16.
float exponentiate(float* scores, int64_t n) {
  // Padding of -inf becomes +0 (or NaN, when every real score is -inf or NaN too).
  for (int64_t p = n; p % kLanes != 0; ++p)
    scores[p] = -__builtin_inff();
  __m512 max = _mm512_set1_ps(-__builtin_inff());
  for (int64_t p = 0; p < n; p += kLanes)  // max gives its second operand when the first is NaN
    max = _mm512_max_ps(_mm512_loadu_ps(scores + p), max);
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(max), _mm512_extractf32x8_ps(max, 1));
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  four = _mm_max_ss(four, _mm_movehdup_ps(four));
  max = _mm512_broadcastss_ps(four);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t p = 0; p < n; p += kLanes) {
    const __m512 e = expf16(_mm512_sub_ps(_mm512_loadu_ps(scores + p), max));
    _mm512_storeu_ps(scores + p, e);
    sum = _mm512_add_ps(sum, e);
  }
  return 1.0f / reduce_lanes(sum);
}

// e[p] -> e[p] * vs[p] for the n positions of one page.
void scale_weights(const uint16_t* scales, int64_t n, float* weights) {
  for (int64_t p = 0; p < n; p += kLanes) {
    const int64_t left = n - p;
    store_floats(weights + p, left,
                 _mm512_mul_ps(load_floats(weights + p, left), F16::load_few(scales + p, left)));
  }
}

// Elements [d, d + 16 * kRegisters) of the output of one head; the last register holds only the
// first `last` of its 16.
template <typename Type, int kRegisters, bool kRagged>
void add_values(const AttentionArgs& args, int64_t d, int64_t last, float inverse_sum, float* out) {
  __m512 acc[kRegisters];
  for (int i = 0; i < kRegisters; ++i)
    acc[i] = _mm512_setzero_ps();
  for (int64_t first = 0, page = 0; first < args.n_positions; first += args.page_tokens, ++page) {
    const int64_t positions = min_int(args.page_tokens, args.n_positions - first);
    const PageRows<Type> values(args, page, args.v_offset_bytes);
    for (int64_t p = 0; p < positions; ++p) {
      const __m512 weight = _mm512_set1_ps(args.scores[first + p]);
      const typename Type::Element* value = values.rows + p * args.head_dim + d;
      for (int i = 0; i < kRegisters; ++i) {
        const __m512 elements = kRagged && i == kRegisters - 1
                                    ? Type::load_few(value + i * kLanes, last)
                                    : Type::load(value + i * kLanes);
        acc[i] = multiply_add(weight, elements, acc[i]);
      }
    }
  }
  for (int i = 0; i < kRegisters; ++i)
    store_floats(out + d + i * kLanes, i == kRegisters - 1 ? last : kLanes,
                 _mm512_mul_ps(acc[i], _mm512_set1_ps(inverse_sum)));
}

template <typename Type>
void attention_typed(const AttentionArgs& args) {
  const int64_t head_dim = args.head_dim;
  const int64_t n = args.n_positions;
  for (int64_t head = 0; head < args.n_q; ++head) {
    const float* q = args.q + head * head_dim;
    float* out = args.out + head * head_dim;
    for (int64_t first = 0, page = 0; first < n; first += args.page_tokens, ++page)
      page_scores<Type>(q, PageRows<Type>(args, page, args.k_offset_bytes),
                        min_int(args.page_tokens, n - first), head_dim, args.scale,
                        args.scores + first);
    const float inverse_sum = exponentiate(args.scores, n);
    if constexpr (PageRows<Type>::kHasScales) {
      for (int64_t first = 0, page = 0; first < n; first += args.page_tokens, ++page)
        scale_weights(PageRows<Type>(args, page, args.v_offset_bytes).scales,
                      min_int(args.page_tokens, n - first), args.scores + first);
    }
    int64_t d = 0;
    for (; d + 128 <= head_dim; d += 128)
      add_values<Type, 8, false>(args, d, kLanes, inverse_sum, out);
    for (; d + 64 <= head_dim; d += 64)
      add_values<Type, 4, false>(args, d, kLanes, inverse_sum, out);
    for (; d < head_dim; d += kLanes)
      add_values<Type, 1, true>(args, d, min_int(kLanes, head_dim - d), inverse_sum, out);
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

}  // namespace flexq::avx512
