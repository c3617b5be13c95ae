#!/bin/bash
# Fetches the libraries of others that an arm64 build links, into a folder of the build:
#   tools/arm64-libraries.sh FOLDER
# Debian's packages of headers and static archives, unpacked. The system is not touched: apt gets
# lists of its own, since adding an architecture to dpkg would bind the versions of its packages.
set -euo pipefail
folder=$1
packages=(libpcre2-dev libssl-dev libzstd-dev)

[ -e "$folder/complete" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64
  -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o Dir::State::status=/dev/null
  -o APT::Sandbox::User=)
cd "$work"
apt-get "${options[@]}" update
apt-get "${options[@]}" download "${packages[@]}"
rm -rf "$folder"
for package in ./*.deb; do
  dpkg-deb -x "$package" "$folder"
done
touch "$folder/complete"
