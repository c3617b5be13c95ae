#!/bin/bash
# bindings_reference against what is known without it: the answers of the scripted checkpoint are the
# bytes of scripted.txt, over and over, cut bytes as U+FFFD; prompts have the bytes that they have here.
#   reference_test.sh BINDINGS_REFERENCE BUNDLE_DIR
set -euo pipefail
reference=$1 bundles=$2
here=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C

script=$(od -An -v -tx1 "$here/scripted.txt" | tr -d ' \n')
n_script=$((${#script} / 2))
failed=0
fail() { echo "$1: $2: expected $3, found $4"; failed=1; }

# expected_answer FIRST COUNT: COUNT bytes of the cycle from byte FIRST on, in hexadecimal.
expected_answer() {
  local text="" i
  for ((i = $1; i < $1 + $2; ++i)); do text+=${script:$((i % n_script * 2)):2}; done
  echo "$text"
}

n_lines=0
while IFS=$'\t' read -r id n_bytes prompt_ids answer_ids answer <&3 &&
  IFS= read -r line <&4; do
  n_lines=$((n_lines + 1))
  IFS=$'\t' read -r case_id checkpoint _ _ _ _ max_tokens prompt <<<"$line"
  [ "$id" = "$case_id" ] || fail "line $n_lines" id "$case_id" "$id"
  prompt=${line##*$'\t'}  # as it is: read would trim it
  [ "$n_bytes" = "${#prompt}" ] || fail "$id" "prompt bytes" "${#prompt}" "$n_bytes"
  [ "$checkpoint" = scripted ] || continue

  # The script's byte behind the prompt's last one, where that is a byte of the script.
  first=0
  last=$(printf '%02x' $((${prompt_ids##*,} - 3)))
  for ((i = 0; i < n_script; ++i)); do
    [ "${script:$((i * 2)):2}" = "$last" ] && first=$((i + 1))
  done
  ids=${answer_ids//[^,]/}
  [ "$((${#ids} + 1))" = "$max_tokens" ] || fail "$id" "answer tokens" "$max_tokens" "$((${#ids} + 1))"
  whole=$(expected_answer "$first" "$max_tokens")
  # A character that max_tokens cuts: its bytes become U+FFFD each.
  case $id in
    *_half_character) whole=${whole%f09f}efbfbdefbfbd ;;
  esac
  [ "$answer" = "$whole" ] || fail "$id" "answer bytes" "$whole" "$answer"
done 3< <("$reference" "$bundles" "$here/prompts.tsv") 4< <(grep -v '^#' "$here/prompts.tsv")

n_cases=$(grep -cv '^#' "$here/prompts.tsv")
[ "$n_lines" = "$n_cases" ] || fail all lines "$n_cases" "$n_lines"
exit "$failed"
