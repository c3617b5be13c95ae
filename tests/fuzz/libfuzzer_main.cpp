// One program for each target, which FLEXQ_FUZZ_TARGET names.
#include <cstddef>

#include "fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n_bytes) {
  flexq::test::FLEXQ_FUZZ_TARGET({data, n_bytes});
  return 0;
}
