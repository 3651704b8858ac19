#!/bin/sh
# Fails on an include that points against the order of the source folders.
#
#   tests/check-includes.sh [ROOT]      ROOT holds src/ and cmd/, default: this tree
#
# emu, the host emulator under tests, stands in for the CUDA Toolkit in cuda/shim.h.
#
# A folder may include itself and every folder of a lower rank, never another of its own rank
# (a layer knows no solver). Tests may include anything.
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
    order = "base=0 ops=1 emu=1 cpu=2 ref=2 count=2 cuda=2 solve=2 nn=2 model=3 io=4 dist=4 train=5 verify=6 plan=6 cmd=7"
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
{
    file = $1
    line = $2
    n = split(file, part, "/")
    from = part[1] == "src" ? part[2] : part[1]
    n = split($3, part, "/")
    to = n > 1 ? part[1] : from
    if (!(from in rank))
        wrong("the folder " from " has no place in the order; give it one in tests/check-includes.sh")
    else if (part[1] == ".." || part[1] == ".")
        wrong("include \"" $3 "\" by its path from src, as \"folder/name.h\"")
    else if (n == 1 && from != "cmd" && from != "cuda")
        wrong("include \"" $3 "\" by its path from src, as \"" from "/" $3 "\"")
    else if (!(to in rank))
        wrong("\"" $3 "\": the folder " to " has no place in the order")
    else if (to != from && rank[to] > rank[from])
        wrong(from " must not include \"" $3 "\": " to " is built on " from)
    else if (to != from && rank[to] == rank[from])
        wrong(from " must not include \"" $3 "\": " to " is its sibling")
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
