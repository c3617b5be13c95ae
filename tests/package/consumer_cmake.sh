#!/bin/bash
# A CMake project finds an installed FlexQ and uses it; the installed samples build by themselves and
# run with nothing but what is installed.
#   consumer_cmake.sh PREFIX
set -euo pipefail
prefix=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake -S "$here/consumer" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_BUILD_TYPE=Release
cmake --build "$work/consumer"
"$work/consumer/consumer"

cp -r "$prefix/share/flexq/samples" "$work/samples"
cmake -S "$work/samples" -B "$work/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release
cmake --build "$work/build" --parallel 2
ldd "$work/build/c/chat" | grep -F "$prefix/" || { echo "not linked to $prefix"; exit 1; }
for language in c cpp; do
  "$here/../../bindings/test/samples_test.sh" "$prefix/bin/flexq" \
    "$work/samples/data/stories260k" "$work/build/$language/{}"
done
