#!/bin/bash
# Runs the samples of one language and compares what they write with what the tool writes:
#   samples_test.sh FLEXQ_TOOL CHECKPOINT_DIR COMMAND...
# CHECKPOINT_DIR: stories260k. COMMAND runs a sample; in it {} is the sample's name ("chat") and {Name}
# the same with a capital ("Chat"), so
#   samples_test.sh build/release/bin/flexq samples/data/stories260k build/release/samples/c/{}
set -uo pipefail
tool=$1 checkpoint=$2
shift 2
command=("$@")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$work/stories260k.flexq
"$tool" quantize "$checkpoint" -o "$model" --policy flexq || exit 1

failed=0
fail() {
  echo "FAILED: $*"
  sed 's/^/    /' "$work/out" "$work/err"
  failed=1
}

# sample NAME ARGUMENT...: output into $work/out and $work/err.
sample() {
  local name=$1
  shift
  local line=("${command[@]//\{\}/$name}")
  "${line[@]//\{Name\}/${name^}}" "$@" >"$work/out" 2>"$work/err"
}
expect_in() { grep -qF -- "$2" "$work/$1" || fail "$3: expected \"$2\" in its $1"; }

sample quantize "$checkpoint" "$work/sample.flexq" || fail "quantize: exit code $?"
cmp "$model" "$work/sample.flexq" || fail "quantize: expected the bytes that the tool writes"
expect_in out '"flexq"' quantize
expect_in err 100 quantize

sample load "$model" || fail "load: exit code $?"
# Parameters, policy, device, the last linear layer.
for text in 292800 flexq cpu model.layers.4.mlp.down_proj.weight; do
  expect_in out "$text" load
done
expect_in err 100 load

prompts=("Once upon a time" "The cat 😀 and 你好" "Lily")
sample batch "$model" "${prompts[@]}" || fail "batch: exit code $?"
for prompt in "${prompts[@]}"; do
  text=$("$tool" run "$model" -p "$prompt" -n 32 --echo | head -1)
  expect_in out "$text" batch
done

messages=$'Hello\nTell me a story 🐈\n'
sample chat "$model" vicuna <<<"$messages" || fail "chat: exit code $?"
answers=$("$tool" chat "$model" --template vicuna -n 64 <<<"$messages")
[ "$(grep -c . <<<"$answers")" -ge 2 ] || fail "the tool's chat: expected two answers"
while IFS= read -r text; do
  expect_in out "$text" chat
done <<<"$answers"

sample chat "$model" <<<"$messages" && fail "chat without a template: expected an error"
expect_in err NOT_FOUND "chat without a template"
sample load "$work/absent.flexq" && fail "load of a missing file: expected an error"
expect_in err "$work/absent.flexq" "load of a missing file"
exit "$failed"
