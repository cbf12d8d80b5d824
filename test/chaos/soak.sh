#!/bin/sh
# Runs chaos in full and writes what it found to the file that is named. Ends with 1
# when any run was not as it should be; the file then says so too.
set -u
out=$1
bad=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
go build -o "$work/chaos" ./test/chaos/cmd/chaos || exit 1

# play TITLE FLAGS… runs once and adds a section.
play() {
	title=$1
	shift
	echo "## $title"
	echo
	echo "    go run ./test/chaos/cmd/chaos $*"
	echo
	"$work/chaos" "$@" >"$work/report" || { bad=1; echo "**This run failed.**"; echo; }
	cat "$work/report"
	echo
}

{
	cat test/chaos/about.md
	echo
	echo "Measured on $(date -u +%Y-%m-%d) by \`make soak\`, on a shared machine with $(nproc) cores, $(redis-server --version | sed 's/.* v=\([^ ]*\).*/redis-server \1/')."
	echo
	play "Everything at once" -seed "${SEED:-20261123}" -workflows "${WORKFLOWS:-10000}" -workers 6 -duration "${DURATION:-10m}" -freeze 40s
	play "Fail-overs with a lost tail" -seed 5 -replicated -workflows 1000 -workers 3 -duration 60s
	play "Without the token check" -seed 2 -workflows 400 -duration 60s -freeze 5s -settle 30s -mutant token
	play "Without fsync" -seed 3 -workflows 400 -duration 60s -freeze 5s -settle 30s -mutant fsync
} >"$work/doc"
cp "$work/doc" "$out"
exit $bad
