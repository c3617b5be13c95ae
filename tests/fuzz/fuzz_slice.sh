#!/bin/bash
# One process of a long run (fuzz_campaign.py): the arguments of run_fuzzer.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
source ./fuzz_run.sh
run_fuzzer "$@"
