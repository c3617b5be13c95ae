#!/bin/bash
# Native libraries for packages of other languages need the C and C++ run-time libraries alone, have
# the soname as their name, and no symbols but dynamic ones.
#   package_natives.sh NATIVES_DIR
set -uo pipefail
failed=0
fail() { echo "FAILED: $*"; failed=1; }

[ -f "$1/libflexq.so.0" ] || fail "expected $1/libflexq.so.0"
for library in "$1"/*; do
  needed=$(objdump -p "$library" | awk '/NEEDED/ { print $2 }' |
    grep -vE '^(libc|libm|libstdc\+\+|libgcc_s|libdl|libpthread|librt|ld-linux-[a-z0-9-]+)\.so\.[0-9]+$')
  [ -z "$needed" ] || fail "$library needs $needed"
  soname=$(objdump -p "$library" | awk '/SONAME/ { print $2 }')
  [ "$soname" = "$(basename "$library")" ] || fail "$library has the soname $soname"
  objdump -h "$library" | grep -q '\.symtab' && fail "$library is not stripped"
done
exit "$failed"
