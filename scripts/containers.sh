#!/bin/sh
# What tests of containers need: an OCI runtime, a builder, a shell to make images of, a registry to pull them from. Debian's
# packages, installed where they are missing and we may install them; elsewhere those tests are skipped and say why.
set -eu
missing=
for pair in runc:runc buildah:buildah busybox:busybox-static docker-registry:docker-registry; do
    PATH=$PATH:/usr/sbin command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
if [ -z "$missing" ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "containers: missing$missing, and only root on Debian can install it here: tests of containers are skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086  # one word a package
if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
    echo "containers:$missing could not be installed; $log has why: tests of containers are skipped" >&2
fi
