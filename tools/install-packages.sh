#!/bin/bash
# Installs what FlexQ needs to build on Debian 12; does nothing when all of it is there.
#   tools/install-packages.sh [--tests]      --tests: also what the tests need
set -euo pipefail

build_packages=(
  cmake g++ ninja-build pkg-config
  flatbuffers-compiler libflatbuffers-dev
  libcli11-dev libpcre2-dev libssl-dev libzstd-dev nlohmann-json3-dev
)
test_packages=(
  abigail-tools binutils ccache clang clang-format-14 libclang-rt-14-dev
  doctest-dev libsentencepiece-dev
  dpkg-dev file groff-base openssl python3
  junit5 mono-mcs mono-runtime openjdk-17-jdk-headless swig
)

packages=("${build_packages[@]}")
[ "${1:-}" = --tests ] && packages+=("${test_packages[@]}")

if ! command -v dpkg-query >/dev/null; then
  echo "Not a Debian system: these Debian packages must be installed by their names here:"
  echo "  ${packages[*]}"
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
  [ "$state" = "install ok installed" ] || missing+=("$package")
done
[ "${#missing[@]}" = 0 ] && exit 0

echo "Installing: ${missing[*]}"
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || {
    echo "Run as root or install sudo: these packages are missing: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}"
