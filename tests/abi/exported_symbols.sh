#!/bin/bash
# The dynamic symbols of libflexq.so are what its version script names, and that is what the headers
# declare: under each version of src/api/flexq.map exactly the functions of one header.
#   exported_symbols.sh LIBRARY
set -euo pipefail
library=$1
root=$(dirname "$0")/../..
failed=0

# name@@VERSION, without type A: the versions themselves.
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort -u)

# Names of the functions that a header declares: the first word followed by "(" behind FLEXQ_API.
declared_in() {
  grep -v '^ *#' "$1" | tr '\n' ' ' | grep -oE 'FLEXQ_API[^;]*;' |
    grep -oE 'flexq_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u
}

compare() {  # compare VERSION HEADER
  local declared found
  declared=$(declared_in "$root/$2")
  found=$(sed -n "s/@@$1\$//p" <<<"$exported" | sort -u)
  echo "$1: $(wc -w <<<"$found") exported, $(wc -w <<<"$declared") declared in $2"
  if [ -z "$declared" ] || [ "$found" != "$declared" ]; then
    diff <(echo "$declared") <(echo "$found") |
      sed -n "s/^</  declared, but not exported as $1:/p; s/^>/  exported as $1, but not declared:/p"
    failed=1
  fi
}
compare FLEXQ_0 include/flexq.h
compare FLEXQ_PRIVATE src/api/flexq_private.h

# Nothing without one of the two versions, and no version in the script besides.
foreign=$(grep -vE '@@(FLEXQ_0|FLEXQ_PRIVATE)$' <<<"$exported" || true)
if [ -n "$foreign" ]; then
  printf 'exported under no version of a header:\n%s\n' "$foreign"
  failed=1
fi
versions=$(grep -oE '^[A-Z0-9_]+ \{' "$root/src/api/flexq.map" | tr -d ' {' | tr '\n' ' ')
if [ "$versions" != "FLEXQ_0 FLEXQ_PRIVATE " ]; then
  echo "versions in src/api/flexq.map: $versions; expected FLEXQ_0 FLEXQ_PRIVATE"
  failed=1
fi
exit "$failed"
