#!/bin/bash
# Long runs of the fuzz targets, and a table of what came out:
#   tests/long.sh [--seconds N] [--jobs N] [--seed N] [DIRECTORY_EXECUTIONS [OTHER_EXECUTIONS]]
# Executions: of bundle_directory (default 10^8) and of each other target (10^7), unless so many
# seconds are over first. --jobs: targets at once (default: processors). Inputs that cover something
# new stay in build/asan/fuzz/TARGET and begin the next run; ones that fail lie beside that folder.
set -uo pipefail
cd "$(dirname "$0")/fuzz" || exit 1
source ./fuzz_run.sh

seconds=0
jobs=$(nproc)
seed=$RANDOM
while [[ ${1:-} == --* ]]; do
  case $1 in
    --seconds) seconds=$2 ;;
    --jobs) jobs=$2 ;;
    --seed) seed=$2 ;;
    *) echo "unknown option $1" && exit 2 ;;
  esac
  shift 2
done
directory_executions=${1:-100000000}
other_executions=${2:-10000000}

root=$(cd ../.. && pwd)
build=$root/build/asan
(cd "$root" && cmake --preset asan && cmake --build --preset asan --target fuzz_programs) || exit 1
require_libfuzzer "$build/bin/fuzz_bundle_directory"
TMPDIR=$(mktemp -d "$fuzz_temporary/flexq-fuzz-XXXXXX") || exit 1
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

run_target() {
  local target=$1 runs=$other_executions fail=0
  [ "$target" = bundle_directory ] && runs=$directory_executions
  local log=$build/fuzz/$target.log begin=$SECONDS
  mkdir -p "$build/fuzz/$target" "$TMPDIR/$target"
  TMPDIR=$TMPDIR/$target run_fuzzer "$build/bin/fuzz_$target" "$build/fuzz/$target-" "$seconds" \
    "$runs" "$seed" "$log" "$build/fuzz/$target" "corpus/$target" || fail=1
  awk -v target="$target" -v seconds=$((SECONDS - begin)) -v seed="$seed" -v fail="$fail" '
    / cov: / { for (i = 1; i < NF; ++i) if ($i == "cov:") cov = $(i + 1) }
    /number_of_executed_units/ { n += $2 }
    /slowest_unit_time_sec/ && $2 > slowest { slowest = $2 }
    /peak_rss_mb/ && $2 > rss { rss = $2 }
    END { printf "%-18s %12d %8d %6d %6d %8d %8d %5d\n", target, n, seconds, seed, cov, rss,
      slowest, fail }' "$log" >"$build/fuzz/$target.row"
}

running=0
for folder in corpus/*/; do
  if [ "$running" -ge "$jobs" ]; then
    wait -n
    running=$((running - 1))
  fi
  run_target "$(basename "$folder")" &
  running=$((running + 1))
done
wait

echo "commit $(git rev-parse --short HEAD), $(date -u +%F), seed $seed, logs in $build/fuzz"
printf '%-18s %12s %8s %6s %6s %8s %8s %5s\n' target executions seconds seed edges "RSS MiB" \
  slowest fails
failed=0
for folder in corpus/*/; do
  row=$(cat "$build/fuzz/$(basename "$folder").row")
  echo "$row"
  [ "${row##* }" = 0 ] || failed=1
done
exit "$failed"
