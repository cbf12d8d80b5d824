#!/bin/sh
# Waits until the Redis on a port of this machine answers. The processes of a
# Procfile start all at once, and perdure does not wait for a Redis that is missing.
# Exit codes: 0 it answers, 1 it did not within half a minute, 2 usage.
set -eu

port=${1:?usage: await-redis.sh PORT}
tries=150
until [ "$(redis-cli -h 127.0.0.1 -p "$port" ping 2>/dev/null)" = PONG ]; do
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ]; then
        echo "await-redis: no Redis answers on 127.0.0.1:$port; is redis-cli installed?" >&2
        exit 1
    fi
    sleep 0.2
done
