#!/bin/sh
# Fails on an include that points against the order of the source folders.
#
#   tests/check-includes.sh [ROOT]      ROOT holds src/ and cmd/, default: this tree
#
# emu, the host emulator under tests, stands in for the CUDA Toolkit in cuda/shim.h.
#
# A folder may include itself and every folder of a lower rank, never another of its own rank
# (a layer knows no solver). A folder inside another one belongs to it, but two such folders do not
# know each other (a cell knows no other cell). A backend has a rank of its own, above the table that
# it fills. Tests may include anything.
set -eu
export LC_ALL=C
root=${1:-$(cd "$(dirname "$0")/.." && pwd)}
cd "$root"
[ -d src ] || {
    echo "check-includes.sh: no src in $root" >&2
    exit 66
}

find src cmd cuda -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null | sort |
    while read -r file; do
        awk -v file="$file" '
        /^[ \t]*#[ \t]*include[ \t]*"/ {
            split($0, part, "\"")
            print file, FNR, part[2]
        }' "$file"
    done | awk '
BEGIN {
    order = "base=0 backend=1 emu=1 backend/cpu=2 backend/ref=2 backend/count=2 cuda=2 solver=2 nn=2 " \
        "data=2 dist=2 config=3 cell=4 optimizer=4 deq=5 store=6 train=7 generate=7 score=7 lib=8 run=8 bench=8 " \
        "verify=8 report=9 cmd=10"
    n = split(order, pair, " ")
    for (i = 1; i <= n; i++) {
        split(pair[i], kv, "=")
        rank[kv[1]] = kv[2]
    }
}
function wrong(text)
{
    print file ":" line ": " text
    bad++
}
# The folder of a path, without src and the name of the file.
function folder(path)
{
    sub(/^src\//, "", path)
    sub(/\/[^\/]*$/, "", path)
    return path
}
# The part of it that has a rank.
function ranked(path)
{
    while (!(path in rank) && sub(/\/[^\/]*$/, "", path))
        ;
    return path
}
{
    file = $1
    line = $2
    home = folder(file)
    from = ranked(home)
    there = $3 ~ /\// ? folder($3) : home
    to = ranked(there)
    if (!(from in rank))
        wrong("the folder " home " has no place in the order; give it one in tests/check-includes.sh")
    else if ($3 ~ /^\.\.?\//)
        wrong("include \"" $3 "\" by its path from src, as \"folder/name.h\"")
    else if ($3 !~ /\// && from != "cuda")
        wrong("include \"" $3 "\" by its path from src, as \"" home "/" $3 "\"")
    else if (!(to in rank))
        wrong("\"" $3 "\": the folder " there " has no place in the order")
    else if (to != from && rank[to] > rank[from])
        wrong(from " must not include \"" $3 "\": " to " is built on " from)
    else if (to != from && rank[to] == rank[from])
        wrong(from " must not include \"" $3 "\": " to " is its sibling")
    else if (to == from && there != home && there != to && home != from)
        wrong(home " must not include \"" $3 "\": " there " is its sibling")
    seen++
}
END {
    if (!seen) {
        print "no includes found: nothing was checked"
        bad++
    }
    if (bad)
        print bad " wrong, of " seen + 0 " includes"
    exit bad > 0
}'
