#!/bin/bash
# FlexQ.Coverage.exe finds what is missing: a function, a field and an enumerator that no binding has.
#   coverage_check.sh MONO FlexQ.Coverage.exe flexq.h FlexQ.dll
set -uo pipefail
mono=$1 program=$2 header=$3 assembly=$4
longer=$(mktemp)
trap 'rm -f "$longer"' EXIT

{
  cat "$header"
  echo 'FLEXQ_API flexq_status flexq_is_missing(int32_t x);'
  echo 'enum { FLEXQ_FINISH_MISSING = 9 };'
  printf 'typedef struct flexq_plan {\n  uint32_t struct_size;\n  int64_t missing_bytes; /* none */\n} x;\n'
} >"$longer"
output=$("$mono" "$program" "$longer" "$assembly") && { echo "a header with more passes"; exit 1; }
for name in flexq_is_missing flexq_plan.missing_bytes FLEXQ_FINISH_MISSING "; 3 not reached"; do
  grep -qF -- "$name" <<<"$output" || { echo "expected $name in: $output"; exit 1; }
done
