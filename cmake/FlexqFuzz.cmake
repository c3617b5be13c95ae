# The asan build carries libFuzzer's instrumentation, so that fuzz targets need no build of their own.
# FLEXQ_FUZZ: whether the compiler has libFuzzer; without it there are no fuzz programs (tests/fuzz).

set(FLEXQ_FUZZ OFF)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND FLEXQ_SANITIZE MATCHES "address")
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_FLAGS -fsanitize=fuzzer)
  check_cxx_source_compiles("
    #include <stddef.h>
    #include <stdint.h>
    extern \"C\" int LLVMFuzzerTestOneInput(const uint8_t*, size_t) { return 0; }"
    FLEXQ_HAS_LIBFUZZER)
  unset(CMAKE_REQUIRED_FLAGS)
  set(FLEXQ_FUZZ ${FLEXQ_HAS_LIBFUZZER})
endif()

# For the folders under src/ that read untrusted bytes. Kernels and devices see validated sizes only,
# and counting their loops would slow every sanitizer test.
function(flexq_instrument_for_fuzzing name)
  if(CMAKE_CURRENT_SOURCE_DIR MATCHES "/src/(base|bundle|checkpoint|model|runtime|serving|text)$")
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()
