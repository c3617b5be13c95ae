#!/bin/bash
# The C code in README.md is what samples/c/hello.c says: each line, in the same order; "..." stands
# for lines left out.
set -euo pipefail
cd "$(dirname "$0")/.."

excerpt=$(sed -n '/^```c$/,/^```$/p' README.md | grep -vE '^(```c?|\.\.\.)$')
[ "$(wc -l <<<"$excerpt")" -gt 10 ] || {
  echo "README.md: expected an excerpt of more than 10 lines"
  exit 1
}
awk 'NR == FNR { want[n++] = $0; next }
  at < n && $0 == want[at] { ++at }
  END { if (at < n) { print "README.md: not in hello.c, or in another order: " want[at]; exit 1 } }' \
  <(printf '%s\n' "$excerpt") samples/c/hello.c
