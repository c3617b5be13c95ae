// The AVX-512 form of expf16 for exp_test.cpp, which itself must run anywhere.
#include <cstdint>

#include "kernels/cpu/vector_math.h"

namespace flexq::test {

// n: a multiple of 16.
void exp_avx512(const float* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 16)
    _mm512_storeu_ps(out + i, expf16(_mm512_loadu_ps(x + i)));
}

}  // namespace flexq::test
