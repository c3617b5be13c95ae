#!/bin/bash
# The ABI of a flexq.h as abidw's XML on standard output: functions, structs, callbacks, enumerators,
# and FLEXQ_ABI_VERSION. The header alone says all of it: src/api includes it, so that the compiler
# refuses a definition that differs, and exported_symbols.sh compares it with the library. So a
# small library that defines each declared function is described, compiled with debug information
# in a second, and release builds need none.
#   describe_abi.sh [HEADER]
set -euo pipefail
header=$(realpath "${1:-$(dirname "$0")/../../include/flexq.h}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$header" "$folder/flexq.h"
cd "$folder"

# Without comments and preprocessor lines, on one line.
g++ -w -fpreprocessed -dD -E -P flexq.h | grep -v '^ *#' | tr '\n' ' ' >text
{
  echo '#include "flexq.h"'
  echo '#pragma GCC visibility push(default)'
  echo 'extern "C" {'
  # FLEXQ_API flexq_status flexq_x(int32_t y);  becomes a definition.
  grep -oE 'FLEXQ_API[^;{]*\);' text | sed 's/^FLEXQ_API//; s/;$/ { __builtin_unreachable(); }/'
  # Enumerations have no names, and functions take their values as int32_t: a variable of each
  # brings it into the debug information, under the name of its first enumerator.
  grep -oE '\benum *\{ *[A-Z0-9_]+' text | grep -oE '[A-Z0-9_]+$' |
    sed 's/.*/decltype(&) flexq_enumeration_of_&;/'
  echo 'enum flexq_abi { flexq_abi_is = FLEXQ_ABI_VERSION } flexq_abi_version_value;'
  echo '}'
} >abi.cpp
g++ -std=c++17 -g -O0 -w -fPIC -shared -fvisibility=hidden -fdebug-prefix-map="$folder"=. \
  abi.cpp -o libflexq_abi.so
abidw --no-corpus-path --no-comp-dir-path --no-show-locs --type-id-style hash libflexq_abi.so
