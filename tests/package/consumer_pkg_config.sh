#!/bin/bash
# A compiler with pkg-config's flags builds the installed samples against an installed FlexQ, and they
# run with nothing but what is installed.
#   consumer_pkg_config.sh PREFIX
set -euo pipefail
prefix=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

folder=$(dirname "$(find "$prefix" -name flexq.pc)")
export PKG_CONFIG_PATH=$folder
libraries=$(pkg-config --variable=libdir flexq)
[ "$(readlink -f "$libraries")" = "$(readlink -f "$folder/..")" ] || {
  echo "libdir: expected $folder/.., found $libraries"
  exit 1
}
read -ra compile <<<"$(pkg-config --cflags flexq)"
read -ra link <<<"$(pkg-config --libs flexq)"

samples=$prefix/share/flexq/samples
mkdir "$work/c" "$work/cpp"
for name in chat batch load quantize; do
  cc -std=c99 -pedantic-errors -Wall -Werror "${compile[@]}" "$samples/c/$name.c" \
    -o "$work/c/$name" "${link[@]}" &
  c++ -std=c++17 -Wall -Werror "${compile[@]}" "$samples/cpp/$name.cpp" \
    -o "$work/cpp/$name" "${link[@]}"
  wait $!
done

export LD_LIBRARY_PATH=$libraries
for language in c cpp; do
  "$here/../../bindings/test/samples_test.sh" "$prefix/bin/flexq" \
    "$samples/data/stories260k" "$work/$language/{}"
done
