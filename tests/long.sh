#!/bin/bash
# The tests that take minutes or hours, each with the figures that SECURITY.md records:
#   tests/long.sh                    all of the following
#   tests/long.sh golden             perplexity of whole test sets and all multiple-choice questions
#                                    against the references (needs FLEXQ_REFERENCE_DATA)
#   tests/long.sh cycles             1,000 times opening a model, answering and closing: memory
#   tests/long.sh fuzz [--seconds N] [--jobs N] [--seed N] [--programs FOLDER] [--out FOLDER] [--anew]
#                      [DIRECTORY_EXECUTIONS [OTHER_EXECUTIONS]]
#                                    fuzz targets, and a table of what came out
# Executions: of bundle_directory (default 10^8) and of each other target (10^7), unless so many
# seconds are over first. --jobs: processes at once (default: processors), spread over the targets by
# what is left of each (fuzz/fuzz_campaign.py). --programs: run what was built elsewhere; without
# it the preset fuzz is built first. --out (default build/fuzz/long): inputs that cover something new,
# ones that failed, summary.tsv and summary.json. The next run goes on with them; --anew: it takes the
# inputs and counts from 0.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
source "$root/tests/fuzz/fuzz_run.sh"

say_what_runs() {
  echo "$1: commit $(git -C "$root" rev-parse --short HEAD), $(date -u +%F)"
}

build_release() {
  (cd "$root" && cmake --preset release && cmake --build --preset release --target "$@") || exit 1
}

run_golden() {
  build_release eval_test
  say_what_runs golden
  FLEXQ_LONG_TESTS=1 "$root/build/release/bin/eval_test" -tc='T27_*'
}

run_cycles() {
  build_release open_close_cycles
  say_what_runs cycles
  "$root/build/release/bin/open_close_cycles" "$root/tests/data/format-1/stories260k.flexq" --cycles 1000
}

run_fuzz() {
  local programs='' out=$root/build/fuzz/long
  local arguments=(--jobs "$(nproc)" --seed "$RANDOM")
  while [[ ${1:-} == --* ]]; do
    case $1 in
      --anew) arguments+=("$1") && shift && continue ;;
      --programs) programs=$2 ;;
      --out) out=$2 ;;
      --seconds | --jobs | --seed) arguments+=("$1" "$2") ;;
      *) echo "unknown option $1" && exit 2 ;;
    esac
    shift 2
  done
  if [ -z "$programs" ]; then
    programs=$root/build/fuzz/bin
    (cd "$root" && cmake --preset fuzz && cmake --build --preset fuzz --target fuzz_programs) || exit 1
    require_libfuzzer "$programs/fuzz_bundle_directory"
    say_what_runs fuzz
  fi
  echo "${arguments[*]}; results in $out"
  "$root/tests/fuzz/fuzz_campaign.py" --programs "$programs" --out "$out" "${arguments[@]}" "$@"
}

case ${1:-} in
  golden | cycles) "run_$1" ;;
  fuzz) run_fuzz "${@:2}" ;;
  '')
    failed=0
    for part in golden cycles fuzz; do
      ("run_$part") || failed=1
    done
    exit $failed
    ;;
  *) echo "expected golden, cycles or fuzz, found $1" && exit 2 ;;
esac
