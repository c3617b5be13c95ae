#!/bin/bash
# The sources of a language have lines of at most 100 characters, no tabs and no space at the end of a
# line, and none that matches a PATTERN (grep -E).
#   source_format.sh SOURCE_DIR EXTENSION FOLDERS... -- [WHAT-IS-EXPECTED PATTERN]...
set -uo pipefail
export LC_ALL=C.UTF-8
cd "$1" || exit 1
extension=$2
shift 2
folders=()
while [ "$1" != -- ]; do
  folders+=("$1")
  shift
done
shift
failed=0
look() {  # look WHAT-IS-EXPECTED PATTERN
  grep -rnE "$2" --include="*.$extension" "${folders[@]}" && { echo "expected $1"; failed=1; }
}
look 'at most 100 characters' '^.{101,}'
look 'no tabs' $'\t'
look 'no space at the end' ' $'
while [ $# -ge 2 ]; do
  look "$1" "$2"
  shift 2
done
exit "$failed"
