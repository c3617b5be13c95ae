#!/bin/bash
# From a clean clone on a bare Debian 12 machine to a story: installs packages (as root or with
# sudo), builds the library and the tool, quantizes a tiny model to 6 bits and lets it write.
# Can be run from any folder and any number of times.
set -euo pipefail
cd "$(dirname "$0")/.."

checkpoint=samples/data/stories260k
bundle=build/quickstart/stories260k.flexq
flexq=build/release/bin/flexq

step() { printf '\n== %s\n' "$*" >&2; }

step "1 of 4: packages"
tools/install-packages.sh >&2

step "2 of 4: build (the library and the tool, into build/release)"
# A folder that is configured already keeps its options.
[ -f build/release/build.ninja ] || cmake --preset release -DFLEXQ_BUILD_TESTS=OFF >&2
cmake --build --preset release --target flexq flexq_tool >&2

step "3 of 4: quantize $checkpoint"
mkdir -p "$(dirname "$bundle")"
"$flexq" quantize "$checkpoint" -o "$bundle" --policy flexq >&2

step "4 of 4: write a story, from the empty prompt"
"$flexq" run "$bundle" -p "" -n 200
