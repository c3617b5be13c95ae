#!/bin/bash
# C# sources have lines of at most 100 characters, no tabs, no space at the end of a line, braces on
# lines of their own, and an indentation of a multiple of four spaces.
#   csharp_format.sh SOURCE_DIR
set -uo pipefail
export LC_ALL=C.UTF-8
cd "$1" || exit 1
failed=0
look() {  # look WHAT PATTERN
  grep -rnE "$2" --include='*.cs' bindings/csharp samples/csharp && { echo "$1"; failed=1; }
}
look 'expected at most 100 characters' '^.{101,}'
look 'expected no tabs' $'\t'
look 'expected no space at the end' ' $'
look 'expected an indentation by four' '^(    )* {1,3}[^ ]'
look 'expected the brace on the next line' '\) *\{$'
exit "$failed"
