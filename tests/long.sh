#!/bin/bash
# Long runs of the fuzz targets, and a table of what came out:
#   tests/long.sh [--seconds N] [--jobs N] [--seed N] [--programs FOLDER] [--out FOLDER] [--anew]
#                 [DIRECTORY_EXECUTIONS [OTHER_EXECUTIONS]]
# Executions: of bundle_directory (default 10^8) and of each other target (10^7), unless so many
# seconds are over first. --jobs: processes at once (default: processors), spread over the targets by
# what is left of each (fuzz/fuzz_campaign.py). --programs: run what was built elsewhere; without
# it the preset fuzz is built first. --out (default build/fuzz/long): inputs that cover something new,
# ones that failed, summary.tsv and summary.json. The next run goes on with them; --anew: it takes the
# inputs and counts from 0.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
source "$root/tests/fuzz/fuzz_run.sh"

programs=
out=$root/build/fuzz/long
arguments=(--jobs "$(nproc)" --seed "$RANDOM")
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
  echo "commit $(git -C "$root" rev-parse --short HEAD), $(date -u +%F)"
fi
echo "${arguments[*]}; results in $out"
exec "$root/tests/fuzz/fuzz_campaign.py" --programs "$programs" --out "$out" "${arguments[@]}" "$@"
