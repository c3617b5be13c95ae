#!/bin/bash
# T32: the ABI of include/flexq.h against the recorded one. Removed and changed functions, moved,
# changed and removed fields, renumbered and removed enumerators fail; new functions, types and
# enumerators, and fields appended to structs with a struct_size (all of them) do not. See ABI.md.
#   compare_abi.sh              compares with tests/abi/flexq.abi.xml
#   compare_abi.sh --record     makes the present ABI the recorded one
#   compare_abi.sh --self-test  shows that each kind of change is found, or let pass
set -euo pipefail
cd "$(dirname "$0")"
header=../../include/flexq.h
baseline=flexq.abi.xml
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The XML $2 without what the struct_size rule lets pass: the fields of structs that lie behind the
# size they have in the XML $1.
without_appended_fields() {
  awk -F "'" '
    /<class-decl / {
      name = size = ""
      for (i = 1; i < NF; ++i) {
        if ($i ~ / name=$/ || $i ~ /<class-decl name=$/) name = $(i + 1)
        if ($i ~ /size-in-bits=$/) size = $(i + 1)
      }
      if (FNR == NR) sizes[name] = size
      else if (name in sizes && size > sizes[name] + 0)
        sub("size-in-bits=." size ".", "size-in-bits=\047" sizes[name] "\047")
    }
    FNR == NR { next }
    /<data-member / {
      dropped = 0
      for (i = 1; i < NF; ++i)
        if ($i ~ /layout-offset-in-bits=$/) dropped = name in sizes && $(i + 1) + 0 >= sizes[name] + 0
    }
    !dropped { print }
    /<\/data-member>/ { dropped = 0 }' "$1" "$2"
}

# Whether the XML $2 keeps the promises of the XML $1; prints what it breaks.
is_compatible() {
  local result=0
  without_appended_fields "$1" "$2" >"$folder/comparable.xml"
  abidiff --no-added-syms --no-architecture "$1" "$folder/comparable.xml" || result=$?
  # Bit 2: a change. Anything else is a failure of abidiff's own.
  [ "$result" = 0 ] || [ $((result & ~12)) = 0 ] || {
    echo "abidiff failed: $result" >&2
    exit 2
  }
  [ "$result" = 0 ] || return 1
  # The rule that allows appended fields: every struct says its size in front.
  local sizes structs
  structs=$(grep -cE "<class-decl .*is-struct='yes'.*size-in-bits|<class-decl .*size-in-bits.*is-struct='yes'" "$2")
  sizes=$(grep -A1 "<data-member access='public' layout-offset-in-bits='0'>" "$2" |
    grep -c "<var-decl name='struct_size'")
  [ "$structs" = "$sizes" ] || {
    echo "$structs structs, but $sizes of them begin with struct_size"
    return 1
  }
}

self_test() {
  local failed=0 n=0
  ./describe_abi.sh "$header" >"$folder/before.xml"
  try() {  # try compatible|breaking WHAT SED_SCRIPT: the header changed by the script
    n=$((n + 1))
    sed -E "$3" "$header" >"$folder/changed.h"
    local found=compatible
    if cmp -s "$header" "$folder/changed.h"; then
      found="not a change of flexq.h"
    elif ! ./describe_abi.sh "$folder/changed.h" >"$folder/after.xml"; then
      found="not a header that compiles"
    elif ! is_compatible "$folder/before.xml" "$folder/after.xml" >"$folder/log"; then
      found=breaking
    fi
    echo "$2: $found"
    [ "$found" = "$1" ] || {
      echo "  expected: $1"
      [ ! -s "$folder/log" ] || sed 's/^/  | /' "$folder/log"
      failed=1
    }
  }
  local append='/^\} flexq_device_info;/i\  int64_t new_field;'
  try breaking "function removed" '/int32_t flexq_device_count\(void\);/d'
  try breaking "function renamed" 's/flexq_device_count\(/flexq_n_devices(/'
  try breaking "parameter's type" 's/flexq_device_get_info\(int32_t index/flexq_device_get_info(int64_t index/'
  try breaking "parameter added" 's/flexq_device_count\(void\)/flexq_device_count(int32_t kind)/'
  try breaking "parameter removed" 's/flexq_device_get_info\(int32_t index, /flexq_device_get_info(/'
  try breaking "pointer for a value" \
    's/flexq_status_name\(flexq_status status\)/flexq_status_name(flexq_status* status)/'
  try breaking "result's type" 's/int32_t flexq_device_count/int64_t flexq_device_count/'
  try breaking "handle's type" 's/flexq_tokenizer_release\(flexq_tokenizer\*/flexq_tokenizer_release(flexq_model*/'
  try breaking "width of flexq_status" 's/^typedef int32_t flexq_status;/typedef int64_t flexq_status;/'
  try breaking "callback's parameter" \
    's/(flexq_progress_callback\)\()int64_t done/\1int32_t done/'
  try breaking "field in the middle" 's|^  int64_t free_memory_bytes;|  int64_t new_field;\n&|'
  try breaking "field in padding" 's|^  int32_t n_threads;      /\* of this model.*|&\n  int32_t new_field;|'
  try breaking "field removed" '/^  int64_t free_memory_bytes;/d'
  try breaking "last field removed" '/^  char kernels\[32\];/d'
  try breaking "field's type" 's/^  int64_t free_memory_bytes;/  double free_memory_bytes;/'
  try breaking "field's signedness" 's/^  int64_t free_memory_bytes;/  uint64_t free_memory_bytes;/'
  try breaking "fields swapped" \
    's/^  int64_t total_memory_bytes;/  int64_t other;/;
     s/^  int64_t free_memory_bytes;/  int64_t total_memory_bytes;/; s/^  int64_t other;/  int64_t free_memory_bytes;/'
  try breaking "array's length" 's/^  char name\[128\];/  char name[64];/'
  try breaking "last array longer" 's/^  char kernels\[32\];/  char kernels[64];/'
  try breaking "field appended, another one changed" \
    "$append"$'\n''s/^  int64_t free_memory_bytes;/  double free_memory_bytes;/'
  try breaking "field appended, another one inserted" \
    "$append"$'\n''s/^  int64_t free_memory_bytes;/  int64_t new_too;\n&/'
  try breaking "field appended, another one removed" "$append"$'\n''/^  int64_t free_memory_bytes;/d'
  try breaking "struct without struct_size" \
    's|^/\* Devices this process can use|typedef struct flexq_pair { int32_t a, b; } flexq_pair;\nFLEXQ_API void flexq_new(flexq_pair* pair);\n&|'
  try breaking "status renumbered" 's/FLEXQ_ERROR_IO = -101/FLEXQ_ERROR_IO = -110/'
  try breaking "enumerator renumbered" 's/FLEXQ_DEVICE_CUDA = 1/FLEXQ_DEVICE_CUDA = 2/'
  try breaking "enumerator removed" 's/, FLEXQ_LOG_DEBUG = 4//'
  try breaking "first enumerator removed" 's/FLEXQ_DEVICE_CPU = 0, //'
  try breaking "flags renumbered" 's/FLEXQ_ENCODE_DEFAULT = 1/FLEXQ_ENCODE_DEFAULT = 3/'
  try breaking "enumerator inserted, the next one renumbered" \
    's/FLEXQ_DEVICE_CUDA = 1/FLEXQ_DEVICE_NPU = 1, FLEXQ_DEVICE_CUDA = 2/'
  try breaking "FLEXQ_ABI_VERSION" 's/define FLEXQ_ABI_VERSION 1/define FLEXQ_ABI_VERSION 2/'

  try compatible "function added" 's/^(FLEXQ_API int32_t flexq_device_)count\(void\);/&\n\1new(void);/'
  try compatible "field appended" "$append"
  try compatible "two fields appended" "$append"$'\n''/^\} flexq_device_info;/i\  char more[32];'
  try compatible "field appended behind a pointer" '/^\} flexq_token_event;/i\  double new_field;'
  try compatible "enumerator added" 's/FLEXQ_DEVICE_CUDA = 1/&, FLEXQ_DEVICE_NPU = 2/'
  try compatible "status added" 's/^  FLEXQ_ERROR_IO = -101,/&\n  FLEXQ_ERROR_NEW = -199,/'
  try compatible "enumeration added" 's/^enum \{ FLEXQ_LOG_ERROR/enum { FLEXQ_NEW_A = 0, FLEXQ_NEW_B = 1 };\n&/'
  try compatible "struct and handle added" \
    's|^/\* Devices this process can use|typedef struct flexq_new { uint32_t struct_size; int32_t x; } flexq_new;\ntypedef struct flexq_thing flexq_thing;\nFLEXQ_API void flexq_new_get(const flexq_thing* thing, flexq_new* out);\n&|'
  try compatible "parameter's name" 's/flexq_device_get_info\(int32_t index/flexq_device_get_info(int32_t device/'
  try compatible "comment" 's|^/\* Devices this process can use|/* New words */\n&|'
  echo "$n changes"
  return "$failed"
}

case "${1:-}" in
--record)
  ./describe_abi.sh "$header" >"$folder/new.xml"
  cp "$folder/new.xml" "$baseline"
  ;;
--self-test)
  self_test
  ;;
*)
  ./describe_abi.sh "$header" >"$folder/now.xml"
  is_compatible "$baseline" "$folder/now.xml" || {
    echo "include/flexq.h breaks programs that were built with an earlier one (see ABI.md)."
    exit 1
  }
  echo "compatible: $(grep -c '<function-decl' "$folder/now.xml") functions," \
    "$(grep -c '<enumerator' "$folder/now.xml") enumerators"
  ;;
esac
