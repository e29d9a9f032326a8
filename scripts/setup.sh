#!/bin/sh
# Makes .venv: the locked dependencies, the project itself, and the launcher. Needs Python >= 3.11 with pip; no more.
set -eu
cd "$(dirname "$0")/.."

python=
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "setup: no Python >= 3.11 found; install one, or name it: make setup PYTHON=/path/to/python" >&2
    exit 1
fi

# uv's version is the lock's: pip brings it, the sync below confirms it
version=$(awk '/^name = "uv"$/ { getline; gsub(/version = |"/, ""); print; exit }' uv.lock)
if [ ! -x .venv/bin/uv ]; then
    if "$python" -m venv .venv >/dev/null 2>&1; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$version"
    else # Debian without python3-venv has no ensurepip: uv makes the environment instead
        rm -rf .venv
        "$python" -m pip install --quiet --disable-pip-version-check --target .uv-bootstrap "uv==$version"
        .uv-bootstrap/bin/uv venv --quiet --python "$python" .venv
        cp .uv-bootstrap/bin/uv .venv/bin/uv
        rm -rf .uv-bootstrap
    fi
fi

.venv/bin/uv sync --quiet --frozen
sh scripts/musl.sh
.venv/bin/python -m tidemill.node.launcher.build
