#!/bin/sh
# The browser that tests of pages drive: Debian's Chromium, installed where it is missing and we may install it.
# Elsewhere it says so and those tests are skipped; they say why.
set -eu
if command -v chromium >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "browser: no chromium found, and only root on Debian can install it here: tests of pages are skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium; } >"$log" 2>&1; then
    echo "browser: chromium could not be installed; $log has why: tests of pages are skipped" >&2
fi
