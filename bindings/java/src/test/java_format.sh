#!/bin/bash
# Java sources have lines of at most 100 characters, no tabs, no space at the end of a line, and an
# indentation of an even number of spaces.
#   java_format.sh SOURCE_DIR
set -uo pipefail
export LC_ALL=C.UTF-8
cd "$1" || exit 1
failed=0
look() {  # look WHAT PATTERN
  grep -rnE "$2" --include='*.java' bindings/java samples/java && { echo "$1"; failed=1; }
}
look 'expected at most 100 characters' '^.{101,}'
look 'expected no tabs' $'\t'
look 'expected no space at the end' ' $'
look 'expected an even indentation' '^(  )* [^ *]'
exit "$failed"
