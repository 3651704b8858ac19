#!/bin/sh
# Prints configs/README.md with the reference of all keys as the program says it now; with --write, puts
# it in place.
#
#   scripts/update-readme.sh [--write]
set -eu
cd "$(dirname "$0")/.."
deq=${DEQ:-build/deq}
table=$(mktemp)
new=$(mktemp)
trap 'rm -f "$table" "$new"' EXIT
"$deq" help config --markdown >"$table"
awk -v table="$table" '
/^<!-- config reference/ { print; print ""; while ((getline line < table) > 0) print line
                           print ""; skip = 1; next }
/^<!-- end -->/ { skip = 0 }
!skip' configs/README.md >"$new"
if [ "${1:-}" = --write ]; then
    cat "$new" >configs/README.md
else
    cat "$new"
fi
