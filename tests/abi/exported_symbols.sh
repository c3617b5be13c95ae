#!/bin/bash
# Every dynamic symbol of libflexq.so begins with flexq_, and every function that include/flexq.h
# declares is there.
#   exported_symbols.sh LIBRARY
set -euo pipefail
library=$1
header=$(dirname "$0")/../../include/flexq.h

# Type A: the names of the symbol versions themselves.
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u)
foreign=$(grep -v '^flexq_' <<<"$exported" || true)
# Declarations begin a line with FLEXQ_API; the name is the first word followed by "(".
declared=$(grep -v '^ *#' "$header" | tr '\n' ' ' | grep -oE 'FLEXQ_API[^;]*;' |
  grep -oE 'flexq_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u || true)
missing=$(comm -23 <(echo "$declared") <(echo "$exported"))

echo "$(wc -l <<<"$exported") exported, $(wc -w <<<"$declared") declared in flexq.h"
failed=0
if [ -n "$foreign" ]; then
  printf 'exported, but not flexq_...:\n%s\n' "$foreign"
  failed=1
fi
if [ -n "$missing" ]; then
  printf 'declared in flexq.h, but not exported:\n%s\n' "$missing"
  failed=1
fi
if [ -z "$declared" ]; then
  echo "no FLEXQ_API declaration found in flexq.h"
  failed=1
fi
exit "$failed"
