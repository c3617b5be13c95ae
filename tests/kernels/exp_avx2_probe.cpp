// The AVX2 form of expf16 for exp_test.cpp, which itself must run anywhere.
#include <cstdint>

#include "kernels/cpu/vector_math.h"

namespace flexq::test {

// n: a multiple of 8.
void exp_avx2(const float* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 8)
    _mm256_storeu_ps(out + i, expf16(_mm256_loadu_ps(x + i)));
}

}  // namespace flexq::test
