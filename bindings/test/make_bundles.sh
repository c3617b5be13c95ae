#!/bin/bash
# The bundles that the tests of every language binding use:
#   make_bundles.sh FLEXQ_TOOL OUT_DIR
# Into OUT_DIR: the checkpoint scripted/, and <checkpoint>-<policy>.flexq for each pair in prompts.tsv.
# The program scripted_checkpoint lies beside the tool.
set -euo pipefail
tool=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
stories=$here/../../samples/data/stories260k

mkdir -p "$out"
"$(dirname "$tool")/scripted_checkpoint" "$out/scripted" \
  "$stories/tokenizer.model" "$here/scripted.txt"

grep -v '^#' "$here/prompts.tsv" | cut -f 2,3 | sort -u | while read -r checkpoint policy; do
  case $checkpoint in
    stories260k) folder=$stories ;;
    *) folder=$out/$checkpoint ;;
  esac
  "$tool" quantize "$folder" -o "$out/$checkpoint-$policy.flexq" --policy "$policy"
done
