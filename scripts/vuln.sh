#!/bin/sh
# Looks for known vulnerabilities in the code that is used. A database that cannot
# be reached is no finding: it says that nothing was checked, and succeeds.
# Exit codes: 0 none found or not checked, else that of govulncheck.
set -eu

status=0
report=$(go tool govulncheck ./... 2>&1) || status=$?
printf '%s\n' "$report"
case "$status:$report" in
0:*) ;;
1:*"fetching vulnerabilities"*)
    echo "vuln: NOT CHECKED: the vulnerability database cannot be reached from here" >&2
    status=0
    ;;
esac
exit "$status"
