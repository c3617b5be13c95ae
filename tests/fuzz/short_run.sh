#!/bin/bash
# A short run of one fuzz target from the kept corpus: short_run.sh BUILD TARGET SECONDS. An input
# that fails is left in BUILD/fuzz, and its path printed.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
source ./fuzz_run.sh
program=$1/bin/fuzz_$2
require_libfuzzer "$program"

TMPDIR=$(mktemp -d "$fuzz_temporary/flexq-fuzz-XXXXXX") || exit 1
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
mkdir -p "$1/fuzz" "$TMPDIR/found"
run_fuzzer "$program" "$1/fuzz/$2-" "$3" -1 1 "$TMPDIR/log" "$TMPDIR/found" "corpus/$2"
code=$?
grep -vE '^#[0-9]+\s+(NEW|REDUCE|pulse)|NEW_FUNC|NEW_PC|^"|DE: ' "$TMPDIR/log"
exit "$code"
