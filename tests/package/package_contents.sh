#!/bin/bash
# All three kinds of installation hold the same files, those that are expected, none of which knows
# the folder that it was built in or installed to.
#   package_contents.sh PACKAGE_BUILD TREES SOURCE_DIR
set -uo pipefail
build=$1 trees=$2 source=$3
failed=0
fail() { echo "FAILED: $*"; failed=1; }

files() { (cd "$1" && find . ! -type d | LC_ALL=C sort); }
files "$trees/install" >"$trees/install.txt"
for tree in debian/usr tar; do
  diff "$trees/install.txt" <(files "$trees/$tree") || fail "$tree: other files than cmake --install"
done

multiarch=$(cd "$trees/install/lib" && ls)
lib=lib/$multiarch
version=$(sed -n 's/^Version: //p' "$trees/install/$lib/pkgconfig/flexq.pc")
for file in bin/flexq include/flexq.h "$lib/libflexq.so" "$lib/libflexq.so.0" \
  "$lib/libflexq.so.$version" "$lib/libflexq_http.so" "$lib/cmake/FlexQ/FlexQConfig.cmake" "$lib/pkgconfig/flexq.pc" \
  share/man/man1/flexq.1 share/man/man1/flexq-eval-choice.1 \
  share/doc/flexq/{LICENSE,NOTICE,THIRD_PARTY.md,copyright} \
  share/flexq/samples/{CMakeLists.txt,c/chat.c,cpp/chat.cpp,data/stories260k/model.safetensors}; do
  [ -e "$trees/install/$file" ] || fail "expected $file, found none"
done
# The licence texts of what is linked in.
for part in libflatbuffers-dev nlohmann-json3-dev libcli11-dev libcpp-httplib-dev libzstd-dev libpcre2-dev libssl-dev; do
  grep -q "^==== $part ====$" "$trees/install/share/doc/flexq/copyright" ||
    fail "copyright: expected the licence of $part"
done

for place in "$source" "$trees"; do
  grep -rlF -- "$place" "$trees/install" && fail "expected no file that names $place"
done

# The Debian package depends on the C and C++ run-time libraries, and on the one that libflexq_http.so
# needs; the tool itself does not need it.
for package in "$build"/packages/flexq_*.deb; do
  depends=$(dpkg-deb -f "$package" Depends | sed 's/ ([^)]*)//g')
  [ "$depends" = "libc6, libcpp-httplib0.11, libgcc-s1, libstdc++6" ] ||
    fail "Depends: expected libc6, libcpp-httplib0.11, libgcc-s1, libstdc++6, found $depends"
  [ "$(dpkg-deb -f "$package" Version)" = "$version" ] || fail "the Debian package's version"
done

objdump -p "$trees/install/bin/flexq" | grep httplib && fail "the tool needs an HTTP library"

for tree in install debian/usr tar; do
  [ "$("$trees/$tree/bin/flexq" --version | head -1)" = "flexq $version" ] || fail "$tree: the tool"
done
exit "$failed"
