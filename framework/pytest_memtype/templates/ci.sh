#!/bin/sh
# Runs this project's tests on one kernel, as CI does and as you can: sh ci/memtype.sh debian:bookworm
# With what it leaves in .ci-cache the next run needs no network; docs/ci.md of pytest-memtype says what of it to keep.
set -eu
kernel=${1:-debian:bookworm}
[ $# -eq 0 ] || shift
mkdir -p .ci-cache
echo '*' >.ci-cache/.gitignore
export MEMTYPE_CACHE="$PWD/.ci-cache/memtype"

# Packages of the host: QEMU, and what fetches kernels from Debian. An image that has them needs no network for it.
missing=
command -v qemu-system-x86_64 >/dev/null || missing="$missing qemu-system-x86"
command -v mmdebstrap >/dev/null || missing="$missing mmdebstrap"
command -v bwrap >/dev/null || missing="$missing bubblewrap"
command -v newuidmap >/dev/null || missing="$missing uidmap"
ls /usr/share/keyrings/debian-archive-keyring.* >/dev/null 2>&1 || missing="$missing debian-archive-keyring"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3 python3-venv"
if [ -n "$missing" ]; then
    root=
    [ "$(id -u)" = 0 ] || root=sudo
    $root apt-get update -qq
    # shellcheck disable=SC2086
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $missing >/dev/null
fi

# Python's packages, as wheels, which are fetched or built once for each tests/requirements.txt.
wheels=.ci-cache/wheels/$(python3 -c 'import sys; print(*sys.version_info[:2], sep=".")')-$(cksum <tests/requirements.txt | tr ' ' -)
python3 -m venv .venv
if [ ! -e "$wheels/complete" ]; then
    rm -rf "$wheels"
    .venv/bin/pip wheel --quiet --wheel-dir "$wheels" --requirement tests/requirements.txt
    : >"$wheels/complete"
fi
.venv/bin/pip install --quiet --no-index --find-links "$wheels" "$wheels"/*.whl

# In a workspace that is used again, a run that doesn't get to its tests would leave an earlier one's results.
rm -f junit.xml run.ktap evidence.tar.gz
status=0
.venv/bin/memtype run --kernel "$kernel" --junitxml junit.xml --ktap run.ktap "$@" || status=$?
# One artifact, whatever came of the tests.
.venv/bin/memtype evidence --tar evidence.tar.gz || true
exit "$status"
