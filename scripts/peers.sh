#!/bin/sh
# What `make bench` compares with beyond Python's packages: Redis, and GNU parallel. Debian's packages, installed where they are
# missing and we may install them; elsewhere those rows say why they are empty.
set -eu
missing=
for pair in redis-server:redis-server parallel:parallel; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
if [ -z "$missing" ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "peers: missing$missing, and only root on Debian can install it here: what needs it is not measured" >&2
    exit 0
fi
# no service of the machine's own is started with it
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
log=$(mktemp)
# shellcheck disable=SC2086  # one word a package
if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
    echo "peers:$missing could not be installed; $log has why: what needs it is not measured" >&2
fi
