# How fuzz programs are run; sourced. An input may take 1 second and 512 MiB, leaks are errors, and
# the first error ends the run, with 1: libFuzzer's own code, 77, means "skipped" to ctest.
fuzz_timeout_code=70
fuzz_options=(-timeout=1 -rss_limit_mb=512 -malloc_limit_mb=512 -detect_leaks=1
  -error_exitcode=1 -timeout_exitcode=$fuzz_timeout_code -print_final_stats=1)
# Every input of a corpus has the same chance to be mutated: the bookkeeping of libFuzzer's own choice
# took up to a quarter of the time.
fuzz_options+=(-entropic=0)
# Bytes of an input, at most: half as much again as the largest valid file of the corpus needs, since
# time should go into what a file says rather than how long it is. Of texts as much as a few words of
# every kind need; T23_hostile_texts has the long ones.
declare -A fuzz_max_bytes=([bundle_directory]=8192 [bundle_load]=24576 [config_json]=8192
  [safetensors]=8192 [sentencepiece]=8192 [text]=256 [tiktoken]=4096 [tokenizer_json]=8192
  [tokenizer_section]=16384 [session_state]=8192)
export CUDA_VISIBLE_DEVICES='' UBSAN_OPTIONS=print_stacktrace=1
# A short quarantine, because freed memory counts against the limit; of each allocation the innermost
# frames only, because walking the whole stack for it costs more than most allocations.
export ASAN_OPTIONS=detect_stack_use_after_return=1:quarantine_size_mb=32:malloc_context_size=8

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

# run_fuzzer PROGRAM ARTIFACTS SECONDS RUNS SEED LOG FOLDERS...: so many seconds (0: no limit) or
# executions (-1: no limit). ARTIFACTS is the beginning of the paths of inputs that fail. A second
# of real time may pass because the machine is busy: an input that is quick when it is run alone
# does not count, and the run goes on with the next seed.
run_fuzzer() {
  local program=$1 artifacts=$2 seconds=$3 runs=$4 seed=$5 log=$6
  shift 6
  local target=${program##*/fuzz_}
  local options=("${fuzz_options[@]}" -max_len="${fuzz_max_bytes[$target]:-65536}")
  local begin=$SECONDS left=$seconds code slow n
  : >"$log"
  while true; do
    "$program" "${options[@]}" -seed="$seed" -runs="$runs" -max_total_time="$left" \
      -artifact_prefix="$artifacts" "$@" >>"$log" 2>&1
    code=$?
    [ "$code" = "$fuzz_timeout_code" ] || return "$code"
    slow=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
    "$program" "${options[@]}" "$slow" >>"$log" 2>&1 || return 1
    rm "$slow"
    echo "STALLED: that input takes less than a second alone" >>"$log"
    n=$(sed -n 's/stat::number_of_executed_units: *//p' "$log" | tail -1)
    [ "$runs" = -1 ] || runs=$((runs - n))
    left=$((begin + seconds - SECONDS))
    [ "$runs" != 0 ] && { [ "$seconds" = 0 ] || [ "$left" -gt 0 ]; } || return 0
    [ "$seconds" != 0 ] || left=0
    seed=$((seed + 1))
  done
}
