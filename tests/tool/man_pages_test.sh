#!/bin/bash
# There is one manual page for every command, groff reads it without a warning, and it says all that
# the command says with --help, in the same order of words within each line.
#   man_pages_test.sh FLEXQ_TOOL MAN_FOLDER
set -uo pipefail
tool=$1 man=$2
failed=0
fail() { echo "FAILED: $*"; failed=1; }
squeeze() { tr -s ' \n' '  '; }

expected=""
check_page() {
  local name=flexq command help page line
  for command in "$@"; do name+=-$command; done
  expected+="$name.1"$'\n'
  help=$("$tool" "$@" --help)
  page=$(groff -Tutf8 -man -ww -rLL=10000n -P-cbou "$man/$name.1" 2>&1 | squeeze)
  [[ $page == "${name^^}(1) "* ]] || fail "$name.1: $page"
  while IFS= read -r line; do
    # What became headings.
    line=$(sed -E 's/^(Usage|JSON): //; s/^(Subc|C)ommands:$/COMMANDS/; s/^([A-Z][A-Za-z ]*):$/\U\1/' \
      <<<"$line" | squeeze | sed 's/^ //; s/ $//; s/\.$//')
    # The first letter of the first line, which became the page's name line.
    [[ ${page,,} == *"${line,,}"* ]] || fail "$name.1: expected \"$line\""
  done <<<"$help"
  for command in $(sed -n '/^Subcommands:/,/^$/s/^  \([a-z0-9]*\) .*/\1/p' <<<"$help"); do
    check_page "$@" "$command"
  done
}

check_page
diff <(printf %s "$expected" | LC_ALL=C sort) <(cd "$man" && ls | LC_ALL=C sort) ||
  fail "expected a page for every command and no other"
[ "$(wc -l <<<"$expected")" -gt 10 ] || fail "expected more than 10 commands"
exit "$failed"
