# What every run of a fuzz program has in common; sourced. An input may take 1 second and 512 MiB,
# leaks are errors, and the first error ends the run, with 1: libFuzzer's own code, 77, means
# "skipped" to ctest.
fuzz_options=(-timeout=1 -rss_limit_mb=512 -malloc_limit_mb=512 -detect_leaks=1
  -error_exitcode=1 -timeout_exitcode=1 -print_final_stats=1 -max_len=65536)
export CUDA_VISIBLE_DEVICES='' UBSAN_OPTIONS=print_stacktrace=1
# A short quarantine, because freed memory counts against the limit.
export ASAN_OPTIONS=detect_stack_use_after_return=1:quarantine_size_mb=32

# For temporary files: in memory, where the machine offers that.
fuzz_temporary=${TMPDIR:-/tmp}
[ -w /dev/shm ] && fuzz_temporary=/dev/shm

# Exits with 77 (ctest: skipped) where clang++ has no libFuzzer, and so nothing was built.
require_libfuzzer() {
  [ -x "$1" ] && return
  local source='extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }'
  if clang++ -x c++ -fsanitize=fuzzer -o /dev/null - <<<"$source" 2>/dev/null; then
    echo "$1 was not built"
    exit 1
  fi
  echo "SKIPPED: NOTHING WAS FUZZED: clang++ has no libFuzzer (Debian: libclang-rt-14-dev)"
  exit 77
}
