#!/bin/sh
# What level sandbox needs: bubblewrap, Debian's package, installed where it is missing and we may install it. Elsewhere tests
# of sandboxes are skipped and say why, and all others run tasks at level process.
set -eu
if command -v bwrap >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "sandbox: no bwrap found, and only root on Debian can install it here: tests of sandboxes are skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends bubblewrap; } >"$log" 2>&1; then
    echo "sandbox: bubblewrap could not be installed; $log has why: tests of sandboxes are skipped" >&2
fi
