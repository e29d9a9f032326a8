#!/bin/sh
# Packet rules keep tasks from cloud metadata: Debian's nftables, installed where it is missing and we may install it.
# Elsewhere it says so and tests of such rules are skipped; they say why.
set -eu
if PATH="$PATH:/usr/sbin:/sbin" command -v nft >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "nftables: no nft found, and only root on Debian can install it here: tests of packet rules are skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends nftables; } >"$log" 2>&1; then
    echo "nftables: nft could not be installed; $log has why: tests of packet rules are skipped" >&2
fi
