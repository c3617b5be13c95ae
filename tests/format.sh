#!/bin/bash
# Fails when a C or C++ source differs from what clang-format makes of it, and says where.
#   tests/format.sh          check
#   tests/format.sh --fix    rewrite
set -euo pipefail
cd "$(dirname "$0")/.."

formatter=$(command -v clang-format-14 || command -v clang-format) || {
  echo "clang-format is not installed" >&2
  exit 1
}
mode=(--dry-run -Werror)
[ "${1:-}" = --fix ] && mode=(-i)
find include src kernels bindings tools samples tests \
  \( -name '*.h' -o -name '*.c' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  xargs -0 "$formatter" --style=file "${mode[@]}"
