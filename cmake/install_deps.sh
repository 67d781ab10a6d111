#!/bin/sh
# Installs the Debian packages that building and testing nemo needs, if any is missing.
set -eu

packages="g++ cmake ninja-build make pkg-config git
    libfmt-dev libcli11-dev rapidjson-dev libpcre2-dev libsentencepiece-dev libutf8proc-dev
    libzstd-dev libsqlite3-dev libedit-dev doctest-dev"

missing=""
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "Installing from Debian:$missing" >&2
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null; then
    as_root=sudo
else
    echo "Neither root nor sudo: please install these packages yourself." >&2
    exit 1
fi
$as_root apt-get update -q >&2
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2
