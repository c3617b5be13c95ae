#!/bin/bash
# What SWIG generated for C# passes no string: Mono marshals one as UTF-8 whatever the attributes
# say, so that no test under Mono would see a text that .NET breaks.
#   generated_code.sh FOLDER       checks every source in the folder
#   generated_code.sh --self-test  the check finds what it is made for
set -euo pipefail

check() {
  local folder=$1 failed=0
  [ -n "$(ls "$folder"/*.cs 2>/dev/null)" ] || { echo "no C# sources in $folder"; return 1; }
  # string and StringBuilder need MarshalAs(LPUTF8Str), char is UTF-16, CharSet is for both.
  if grep -nE '\b([Ss]tring|StringBuilder|char|CharSet|MarshalAs|SWIGTYPE_p_\w+)\b' "$folder"/*.cs; then
    echo "expected: text as byte[] or IntPtr alone; found: the lines above"
    failed=1
  fi
  grep -q extern "$folder/FlexqNativePINVOKE.cs" || { echo "no functions in FlexqNativePINVOKE.cs"; failed=1; }
  return "$failed"
}

if [ "$1" != --self-test ]; then
  check "$1"
  exit
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
native=$folder/FlexqNativePINVOKE.cs
expect() {
  echo "class FlexqNativePINVOKE { public static extern $2 }" >"$native"
  result=0
  check "$folder" >/dev/null || result=1
  [ "$result" = "$1" ] || { echo "expected $1, found $result for: $2"; exit 1; }
}
expect 0 'int flexq_model_options_set(global::System.IntPtr jarg1, byte[] jarg2);'
expect 1 'int flexq_model_options_set(global::System.IntPtr jarg1, string jarg2);'
expect 1 'string flexq_version();'
expect 1 'int f([MarshalAs(UnmanagedType.LPStr)] object text);'
expect 1 'int f(System.Text.StringBuilder text);'
expect 1 'int f(SWIGTYPE_p_float logits);'
rm "$native"
result=0
check "$folder" >/dev/null || result=1
[ "$result" = 1 ] || { echo "an empty folder passes"; exit 1; }
