#!/bin/bash
# Runs every GPU test and the GPU benchmarks of a build on a machine with a GPU, which needs neither
# compiler nor CMake nor CUDA toolkit: only the driver, this script with tests/data and samples/data
# beside it, and the build's programs.
#   tests/gpu.sh BUILD RESULTS [--tests-only | --benchmarks-only]
#     BUILD     a build folder (bin/ and lib/), or one folder that all of it was copied to
#     RESULTS   gets gpu.md, gpu.json and the logs
# FLEXQ_REFERENCE_DATA: the folder of reference data, where there is one. FLEXQ_CUBLASLT: the file or
# folder of libcublasLt.so, where the loader does not find it: what the kernels are compared with.
# Exit code 0 only when every test passed; tests that skipped for want of reference data are listed
# as such.
set -uo pipefail
source_folder=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
build=$(cd "$1" && pwd) || exit 2
mkdir -p "$2" && results=$(cd "$2" && pwd) || exit 2
mode=${3:-}
programs=$build/bin
[ -d "$programs" ] || programs=$build
export FLEXQ_TEST_SOURCE_DIR=$source_folder FLEXQ_REQUIRE_GPU=1

gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -1)
build_info=$("$programs/flexq" --version | tr '\n' ';')
{
  echo "# FlexQ on a GPU"
  echo
  echo "$(date -u +%Y-%m-%d), ${gpu:-no answer of nvidia-smi}"
  echo
  "$programs/flexq" --version | sed 's/^/    /'
} >"$results/gpu.md"

failed=0
tests_json=""
# run_test NAME COMMAND...
run_test() {
  local name=$1 begin seconds code result cases
  shift
  begin=$(date +%s.%N)
  "$@" >"$results/$name.log" 2>&1
  code=$?
  seconds=$(echo "$(date +%s.%N) $begin" | awk '{ printf "%.1f", $1 - $2 }')
  # Of the other programs, what they found out in the end.
  cases=$(sed -n 's/.*test cases: *//p; s/^growth //p' "$results/$name.log" | tail -1 |
    tr -s ' ' | tr '|' ',')
  case $code in
    0) result=passed ;;
    77) result=skipped ;;
    *) result="FAILED ($code)"; failed=1 ;;
  esac
  echo "| $name | $result | $cases | $seconds |" >>"$results/gpu.md"
  echo "$name: $result, $cases, $seconds s"
  grep -h "SKIPPED" "$results/$name.log" | sort -u
  [ "$code" = 0 ] || [ "$code" = 77 ] || tail -40 "$results/$name.log"
  tests_json+="${tests_json:+, }{\"name\": \"$name\", \"result\": \"$result\", \"seconds\": $seconds}"
}
run_tests() {
  printf '\n## Tests\n\n| program | result | cases | seconds |\n|---|---|---|---|\n' >>"$results/gpu.md"
  local program
  for program in "$programs"/*_gpu_test; do
    run_test "$(basename "$program")" "$program" --no-version
  done
  run_test open_close_cycles "$programs/open_close_cycles" \
    "$source_folder/tests/data/format-1/stories260k.flexq" --device cuda
}

benchmarks_json=""
# benchmark NAME ARGUMENTS...: the table into gpu.md, the JSON object into gpu.json.
benchmark() {
  local name=$1
  shift
  printf '\n### %s\n\n    flexq %s\n\n' "$name" "$*" >>"$results/gpu.md"
  if "$programs/flexq" "$@" --json >"$results/$name.json" 2>"$results/$name.err"; then
    "$programs/flexq" "$@" 2>/dev/null | sed 's/^/    /' >>"$results/gpu.md"
    benchmarks_json+="${benchmarks_json:+, }\"$name\": $(cat "$results/$name.json")"
    echo "$name: measured"
  else
    sed 's/^/    /' "$results/$name.err" >>"$results/gpu.md"
    echo "$name: FAILED"
    cat "$results/$name.err"
    failed=1
  fi
}
run_benchmarks() {
  printf '\n## Benchmarks\n' >>"$results/gpu.md"
  # Joint QKV and joint gate and up as decoding multiplies by them, and LLaMA-2-70B's largest.
  local matrices=57344x8192,8192x28672,12288x4096,4096x4096,22016x4096,4096x11008
  benchmark kernels bench kernels --device cuda --matrix $matrices --policy w6a6,w6a8,w8a8 \
    --tokens 1,4,8,16,32,64,256,1024,4096
  benchmark kernels-btc bench kernels --device cuda --cuda-kernels btc --matrix $matrices \
    --policy w6a6 --tokens 1,2,4,8 --baselines none
  benchmark kernels-tuning bench kernels --device cuda --matrix $matrices --policy w6a6 \
    --tokens 1,2,4,8,16,32,64,128,256,1024 --tune
  benchmark e2e-llama-2-7b bench e2e --device cuda --shape llama-2-7b --policy flexq,w8a8,fp16 \
    --prompt 2048 --generate 128 --batch 1,8,32
}

[ "$mode" = --benchmarks-only ] || run_tests
[ "$mode" = --tests-only ] || run_benchmarks
cat >"$results/gpu.json" <<JSON
{"gpu": "${gpu:-}", "build": "$build_info", "tests": [$tests_json], "benchmarks": {$benchmarks_json}}
JSON
echo "written: $results/gpu.md, $results/gpu.json"
exit "$failed"
