#!/bin/bash
# T33: include/flexq.h compiles alone, pedantically, as C99, C11 and C++17 with gcc and clang.
set -euo pipefail
cd "$(dirname "$0")/../.."

flags=(-pedantic -Wall -Wextra -Wconversion -Werror -fsyntax-only -I include)
failed=0
check() {  # check COMPILER LANGUAGE STANDARD
  echo "$1 -std=$3"
  printf '#include "flexq.h"\n#include "flexq.h"\n' |
    "$1" -x "$2" -std="$3" "${flags[@]}" - || failed=1
}
for standard in c99 c11; do
  check gcc c "$standard"
  check clang c "$standard"
done
check g++ c++ c++17
check clang++ c++ c++17
exit "$failed"
