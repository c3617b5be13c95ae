#!/bin/bash
# The Java packages as a user meets them: copied into an empty folder, and used from there alone.
#   package_java.sh PACKAGES VERSION SOURCE_DIR FLEXQ_TOOL
set -uo pipefail
packages=$1 version=$2 source=$3 tool=$4
failed=0
fail() { echo "FAILED: $*"; failed=1; }

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
jar=$place/flexq-$version.jar
natives=$place/flexq-$version-linux-x86_64.jar
cp "$packages"/* "$place" || exit 1
for file in "$jar" "$natives" "$place/flexq-$version-sources.jar" \
  "$place/flexq-$version-javadoc.jar" "$place/flexq-$version.pom"; do
  [ -s "$file" ] || fail "expected $file"
done
grep -q "<version>$version</version>" "$place/flexq-$version.pom" || fail "the version in the pom"

# expect_in JAR ENTRY...
expect_in() {
  local archive=$1 entries entry
  entries=$(jar --list --file "$archive")
  for entry in "${@:2}"; do
    grep -qxF "$entry" <<<"$entries" || fail "$archive: expected $entry"
  done
}
expect_in "$jar" module-info.class org/flexq/Model.class org/flexq/internal/FlexqNative.class \
  LICENSE NOTICE
expect_in "$natives" LICENSE NOTICE THIRD_PARTY.md copyright \
  org/flexq/natives/linux-x86_64/{libraries.txt,libflexq.so.0,libflexq_java.so}
expect_in "$place/flexq-$version-sources.jar" module-info.java org/flexq/Model.java \
  org/flexq/internal/FlexqNative.java
expect_in "$place/flexq-$version-javadoc.jar" index.html org.flexq/org/flexq/Model.html
jar --list --file "$jar" | grep '\.so' && fail "$jar: expected no native library"

# Nothing names the folder that it was built in.
mkdir "$place/unpacked" && (cd "$place/unpacked" && jar --extract --file "$natives")
strings "$place"/unpacked/org/flexq/natives/*/*.so* | grep -F "$source" && fail "a build path"
wrapper=("$place"/unpacked/org/flexq/natives/*/libflexq_java.so)
grep -qF '[$ORIGIN]' <<<"$(readelf --wide --dynamic "${wrapper[@]}")" || fail 'expected run path $ORIGIN'
exported=$(nm -D --defined-only "${wrapper[@]}" | awk '{ print $3 }' |
  grep -vE '^(JNI_OnLoad|Java_org_flexq_internal_.*)$')
[ -z "$exported" ] || fail "libflexq_java.so exports $exported"
rm -r "$place/unpacked"

cp -r "$source/samples/java" "$place/samples"
(cd "$place" && javac -Xlint:all -Werror -encoding UTF-8 -cp "$jar" -d classes samples/*.java) ||
  fail "the samples do not compile"
# Neither a library path nor anything else of the build's environment.
clean=(env -i "PATH=$PATH" LC_ALL=C.UTF-8 CUDA_VISIBLE_DEVICES=)
run() {
  (cd "$place" && "$source/bindings/test/samples_test.sh" "$tool" "$source/samples/data/stories260k" \
    "${clean[@]}" java "$@" {Name}) || fail "the samples: java $*"
}
run -cp "$jar:$natives:classes"
run --module-path "$jar" --add-modules org.flexq -cp "$natives:classes"
# Both as modules.
output=$(cd "$place" && "${clean[@]}" java --module-path "$jar:$natives" \
  --add-modules ALL-MODULE-PATH -cp classes Load absent.flexq 2>&1)
grep -q NOT_FOUND <<<"$output" || fail "natives as a module: $output"
exit "$failed"
