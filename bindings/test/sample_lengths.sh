#!/bin/bash
# Every language has the same samples, each under 100 lines.
set -uo pipefail
cd "$(dirname "$0")/../../samples" || exit 1
failed=0
for folder in */; do
  [ "$folder" = data/ ] && continue
  for name in chat batch load quantize; do
    sample=$(find "$folder" -iname "$name.*")
    n_lines=$(wc -l <"$sample" 2>/dev/null) || n_lines=none
    [ "$n_lines" != none ] && [ "$n_lines" -gt 10 ] && [ "$n_lines" -lt 100 ] || {
      echo "samples/$folder: $name: expected 11 to 99 lines, found $n_lines"
      failed=1
    }
  done
done
exit "$failed"
