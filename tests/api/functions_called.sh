#!/bin/bash
# Every function that include/flexq.h declares is called somewhere in the tests of this folder, or of
# tests/reliability.
set -euo pipefail
cd "$(dirname "$0")"

declared=$(grep -v '^ *#' ../../include/flexq.h | tr '\n' ' ' | grep -oE 'FLEXQ_API[^;]*;' |
  grep -oE 'flexq_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u)
# A call, a function given to a helper, or a release function given to Owned<>.
called=$(cat ./*.c ./*.cpp ./*.h ../reliability/*.cpp | grep -oE 'flexq_[a-z0-9_]+ *[()>]' | tr -d ' ()>' | sort -u)
missing=$(comm -23 <(echo "$declared") <(echo "$called"))
echo "$(wc -w <<<"$declared") functions declared"
if [ -n "$missing" ]; then
  printf 'called by no test in tests/api or tests/reliability:\n%s\n' "$missing"
  exit 1
fi
