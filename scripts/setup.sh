#!/usr/bin/env bash
# Put what a task needs into .venv: setup.sh server | dev | bench
#
# The Makefile calls it only when a stamp is older than the files that say what to install.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:?usage: setup.sh server|dev|bench}
stamp=.venv/.$what

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

find_python() { # the first interpreter that is new enough
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    die "Python 3.11 or newer is needed and none was found; name one with: make setup PYTHON=/path/to/python3.12"
}

make_venv() {
    local python
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null || die \
        "$python has no venv or ensurepip module. On Debian and Ubuntu: apt-get install python3-venv"
    say "creating .venv with $("$python" --version)"
    "$python" -m venv .venv || die "could not create .venv"
}

install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }

# Two makes at a time would install over each other.
if command -v flock >/dev/null; then
    mkdir -p build
    exec 9>build/setup.lock
    flock 9
fi

.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || make_venv
say "installing the pinned packages of requirements/$what.txt"
install -r requirements/build.txt -r "requirements/$what.txt"
# Editable and uncompiled: tests, lint and types look at src/. The compiled code is a tree of its own, build/compiled.
HEADGATE_PURE=1 install --no-build-isolation --no-deps --editable .
touch "$stamp"
if [ "$what" = dev ]; then touch .venv/.server; fi # dev.txt holds all of server.txt
say "ready"
