#!/bin/bash
# Unpacks what a package build makes, each into an empty folder under OUT_DIR:
#   package_trees.sh PACKAGE_BUILD OUT_DIR
#     OUT_DIR/install       cmake --install, moved away from where it was installed
#     OUT_DIR/debian/usr    the Debian package
#     OUT_DIR/tar           the .tar.gz
# Uninstalling must leave nothing behind.
set -euo pipefail
build=$1 out=$2

rm -rf "$out"
mkdir -p "$out/tar"

cmake --install "$build" --prefix "$out/first" >/dev/null
cmake --build "$build" --target uninstall >/dev/null
left=$(cd "$out/first" && find . ! -type d -o -iname '*flexq*')
if [ -n "$left" ]; then
  echo "left behind by the target uninstall:"
  echo "$left"
  exit 1
fi

cmake --install "$build" --prefix "$out/second" >/dev/null
mv "$out/second" "$out/install"
dpkg-deb -x "$build"/packages/flexq_*.deb "$out/debian"
tar -xf "$build"/packages/flexq-*.tar.gz -C "$out/tar" --strip-components=1
