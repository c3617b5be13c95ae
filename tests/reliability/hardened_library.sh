#!/bin/bash
# T39: the shared library is hardened.
#   hardened_library.sh LIBRARY
set -euo pipefail
library=$1
dynamic=$(readelf --wide --dynamic "$library")
segments=$(readelf --wide --segments "$library")
symbols=$(nm -D --undefined-only "$library" | awk '{ print $2 }')

failed=0
expect() {  # expect TEXT CONDITION...
  if "${@:2}"; then echo "yes: $1"; else echo "NO:  $1"; failed=1; fi
}
has() { grep -qE "$2" <<<"$1"; }
has_not() { ! has "$@"; }
expect "relocations are read-only after loading (RELRO)" has "$segments" 'GNU_RELRO'
expect "all symbols are bound at load (now)" has "$dynamic" 'BIND_NOW|FLAGS.*\bNOW\b'
expect "the stack is not executable (NX)" has "$segments" 'GNU_STACK .* RW '
expect "no segment is both writable and executable" has_not "$segments" 'LOAD .* RWE '
expect "no text relocations" has_not "$dynamic" 'TEXTREL'
expect "no search path inside" has_not "$dynamic" 'RPATH|RUNPATH'
expect "the stack protector is in use" has "$symbols" '^__stack_chk_fail'
expect "FORTIFY is in use" has "$symbols" '^__(mem|str|v?snprintf|read|pread)[a-z0-9]*_chk'
exit "$failed"
