#!/bin/bash
# Runs a program of the cross build for aarch64 under qemu-user: run_aarch64.sh NAME ARGUMENTS...
# --available: whether this machine has what that build needs; else says what is missing.
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
missing=
for program in aarch64-linux-gnu-g++ qemu-aarch64-static; do
  command -v "$program" >/dev/null || missing+=" $program"
done
[ -e "$root/build/arm64-libraries/complete" ] || missing+=" build/arm64-libraries"
if [ -n "$missing" ]; then
  echo "SKIPPED: NOTHING WAS TESTED FOR AARCH64: missing:$missing (tools/install-packages.sh --tests)"
  exit 77
fi
[ "$1" = --available ] && exit 0
program=$root/build/aarch64/bin/$1
shift
exec qemu-aarch64-static -L /usr/aarch64-linux-gnu "$program" "$@"
