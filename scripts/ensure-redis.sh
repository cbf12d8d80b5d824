#!/bin/sh
# Makes sure that redis-server is on PATH: installs it when that is possible, else
# says how and exits 2.
set -eu
if command -v redis-server >/dev/null 2>&1; then
	exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing redis-server"
	# Services are not started by the install: tests start servers of their own.
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y redis-server
	exit 0
fi
echo "redis-server is needed and not on PATH. Install it, for example:" >&2
echo "    sudo apt-get update && sudo apt-get install -y redis-server" >&2
echo "    brew install redis" >&2
exit 2
