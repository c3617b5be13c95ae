#!/bin/bash
# The NuGet package as a user meets it: unpacked into an empty folder, and used from there alone.
#   package_csharp.sh PACKAGES VERSION SOURCE_DIR FLEXQ_TOOL MCS MONO
set -uo pipefail
packages=$1 version=$2 source=$3 tool=$4 mcs=$5 mono=$6
failed=0
fail() { echo "FAILED: $*"; failed=1; }

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
package=$packages/FlexQ.$version.nupkg
unpacked=$place/unpacked
mkdir "$unpacked" && (cd "$unpacked" && cmake -E tar xf "$package") || exit 1
natives=$unpacked/runtimes/linux-x64/native

# Every file has a type, and both of OPC's own relations lead to a file.
while IFS= read -r file; do
  name=$(basename "$file")
  if [ "$name" = "${name##*.}" ]; then
    grep -qF "PartName=\"/$file\"" "$unpacked/[Content_Types].xml" || fail "no type of $file"
  else
    grep -qF "Extension=\"${name##*.}\"" "$unpacked/[Content_Types].xml" || fail "no type of $file"
  fi
done < <(cd "$unpacked" && find . -type f ! -path './\[Content_Types\].xml' | sed 's,^\./,,')
while IFS= read -r target; do
  [ -f "$unpacked$target" ] || fail "_rels/.rels: expected $target"
done < <(sed -n 's/.*Target="\([^"]*\)".*/\1/p' "$unpacked/_rels/.rels")

grep -q "<version>$version</version>" "$unpacked/FlexQ.nuspec" || fail "the version in the nuspec"
for file in lib/{net47,netstandard2.0}/FlexQ.{dll,xml} build/net47/FlexQ.targets README.md \
  LICENSE NOTICE THIRD_PARTY.md copyright src/FlexQ/Model.cs src/generated/FlexqNative.cs \
  src/FlexQ.csproj runtimes/linux-x64/native/{libflexq.so.0,libflexq_csharp.so}; do
  [ -s "$unpacked/$file" ] || fail "expected $file"
done

# Nothing names the folder that it was built in; the wrapper finds libflexq beside itself and exports
# what C# calls alone; neither needs more than the C and C++ run-time libraries.
strings "$natives"/* "$unpacked"/lib/*/FlexQ.dll | grep -F "$source" && fail "a build path"
wrapper=$natives/libflexq_csharp.so
grep -qF '[$ORIGIN]' <<<"$(readelf --wide --dynamic "$wrapper")" || fail 'expected run path $ORIGIN'
exported=$(nm -D --defined-only "$wrapper" | awk '{ print $3 }' | grep -v '^CSharp_FlexQfInternal_')
[ -z "$exported" ] || fail "libflexq_csharp.so exports $exported"
needed=$(readelf --wide --dynamic "$natives"/*.so* | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' |
  grep -vE '^(libflexq|libc|libm|libstdc\+\+|libgcc_s|ld-linux-x86-64)\.so')
[ -z "$needed" ] || fail "the native libraries need $needed"

# The samples with the assembly and, as build/net47/FlexQ.targets says, the native libraries beside
# them; then with the libraries where the package has them.
clean=(env -i "PATH=$PATH" LC_ALL=C.UTF-8 CUDA_VISIBLE_DEVICES=)
samples() {
  local folder=$1 name
  for name in Batch Chat Load Quantize; do
    "$mcs" -nologo -langversion:6 -warnaserror -r:"$2/FlexQ.dll" -out:"$folder/$name.exe" \
      "$source/samples/csharp/$name.cs" || fail "$name does not compile"
  done
  (cd "$folder" && "$source/bindings/test/samples_test.sh" "$tool" \
    "$source/samples/data/stories260k" "${clean[@]}" "${@:3}" "$mono" "$folder/{Name}.exe") ||
    fail "the samples in $folder"
}
mkdir "$place/beside" "$place/apart" "$place/readme"
cp "$unpacked/lib/net47/FlexQ.dll" "$natives"/* "$place/beside"
samples "$place/beside" "$place/beside"
samples "$place/apart" "$unpacked/lib/netstandard2.0" "MONO_PATH=$unpacked/lib/netstandard2.0"

# The program in the package's README.
cd "$place/readme" || exit 1
{
  printf 'using System;\nusing FlexQ;\ninternal static class Hello { private static void Main() {\n'
  sed -n '/^```csharp$/,/^```$/p' "$unpacked/README.md" | grep -v '^```'
  printf '} }\n'
} >Hello.cs
"$mcs" -nologo -langversion:6 -warnaserror -r:"$place/beside/FlexQ.dll" Hello.cs || fail "README"
"$tool" quantize "$source/samples/data/stories260k" -o model.flexq --policy flexq
expected=$("$tool" run model.flexq -p "Once upon a time" -n 256)
found=$("${clean[@]}" "MONO_PATH=$place/beside" "$mono" Hello.exe)
[ -n "$found" ] && [ "$found" = "$expected" ] || fail "README: expected $expected, found $found"
exit "$failed"
