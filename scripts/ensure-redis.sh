#!/bin/sh
# Makes sure that redis-server is on PATH: the tests use the real Redis and are
# never skipped. As root where apt-get is, it installs it; elsewhere it says what
# to run. Exit codes: 0 it is there, 2 it is not.
set -eu

# The exact command for this system, with sudo where it takes root.
command_to_run() {
    sudo='sudo '
    if [ "$(id -u)" -eq 0 ]; then sudo=''; fi
    if command -v brew >/dev/null 2>&1; then
        echo "brew install redis"
    elif command -v apt-get >/dev/null 2>&1; then
        echo "${sudo}apt-get update && ${sudo}apt-get install -y redis-server"
    elif command -v dnf >/dev/null 2>&1; then
        echo "${sudo}dnf install -y redis"
    elif command -v apk >/dev/null 2>&1; then
        echo "${sudo}apk add redis"
    elif command -v pacman >/dev/null 2>&1; then
        echo "${sudo}pacman -S --noconfirm redis"
    else
        echo "install Redis 6.2 or newer, with redis-server on PATH"
    fi
}

give_up() {
    echo "ensure-redis: $1; run:" >&2
    echo "    $(command_to_run)" >&2
    exit 2
}

if command -v redis-server >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    give_up "redis-server is not on PATH"
fi

# The package starts a service on port 6379. policy-rc.d keeps it from starting,
# so that nothing is left running and no other Redis has to be stopped.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 2' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

echo "ensure-redis: installing redis-server" >&2
export DEBIAN_FRONTEND=noninteractive
{ apt-get update && apt-get install -y redis-server; } >&2 || give_up "redis-server could not be installed"
command -v redis-server >/dev/null 2>&1 || give_up "redis-server was installed but is not on PATH"
