#!/bin/bash
# Writes the manual pages of the tool and of all its commands: what they print with --help, as roff.
#   man_pages.sh FLEXQ_TOOL OUT_DIR      flexq.1, flexq-run.1, flexq-eval-choice.1, ...
set -euo pipefail
tool=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
version=$("$tool" --version | sed -n '1s/^flexq //p')

commands_of() { "$tool" "$@" --help | awk '/^Subcommands:/ { on = 1; next } /^[^ ]/ { on = 0 } on && NF { print $1 }'; }

# page COMMAND...: the page of a command and, below it, of its own commands.
page() {
  local name=flexq command
  for command in "$@"; do name+=-$command; done
  "$tool" "$@" --help | awk -v name="$name" -v version="$version" -f "$here/man_page.awk" >"$out/$name.1"
  for command in $(commands_of "$@"); do page "$@" "$command"; done
}

rm -rf "$out"
mkdir -p "$out"
page
