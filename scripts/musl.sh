#!/bin/sh
# The C library that the launcher starts soonest with: Debian's musl-tools, installed where they are missing and we may
# install them. Elsewhere the launcher is built with what there is.
set -eu
if command -v musl-gcc >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends musl-tools; } >"$log" 2>&1; then
    echo "setup: musl-tools could not be installed; $log has why: the launcher is built without them" >&2
fi
