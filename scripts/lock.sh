#!/usr/bin/env bash
# Pin what development, the service, the benches and the build install: requirements/*.txt.
#
# Run it (make lock) after changing a dependency in pyproject.toml, and commit the result. dev.txt is resolved
# first and constrains the others, so that one environment can hold all of them. The files hold plain
# "name==version" lines: no index, no hash and no path, so any index or cache may serve them.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=build/lock-venv
[ -x "$tools/bin/pip-compile" ] || {
    "${PYTHON:-python3}" -m venv "$tools"
    "$tools/bin/pip" install -q "pip-tools>=7.5" "setuptools>=77" "mypy>=2.0"
}

# pip-compile keeps the versions of an existing output unless asked for newer ones with UPGRADE=1.
resolve() { # output, then pip-compile arguments
    local output=$1 raw
    shift
    raw=build/lock-$(basename "$output")
    cp "$output" "$raw" 2>/dev/null || : >"$raw"
    HEADGATE_PURE=1 "$tools/bin/pip-compile" -q --no-annotate --no-header --no-emit-index-url \
        --no-emit-find-links --no-emit-trusted-host --strip-extras --allow-unsafe \
        ${UPGRADE:+--upgrade} -o "$raw" "$@" >/dev/null
    # An extra that names another extra leaves "headgate @ file://..." behind; only pins may stay.
    grep -E '^[A-Za-z0-9._-]+==[^ ]+' "$raw" >"$output"
    echo "lock: $output ($(wc -l <"$output") packages)"
}

resolve requirements/dev.txt --extra dev pyproject.toml
resolve requirements/server.txt --extra cluster --constraint requirements/dev.txt pyproject.toml
resolve requirements/bench.txt --extra bench --constraint requirements/dev.txt pyproject.toml
printf 'setuptools>=77\nmypy>=2.0\n' >build/lock-build.in
resolve requirements/build.txt --constraint requirements/dev.txt build/lock-build.in
