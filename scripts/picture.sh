#!/bin/sh
# Draws README's picture: memory of a training step against the layers of a network, or the evaluations of an
# equilibrium, as this machine's deq needs it.
#
#   scripts/picture.sh [-o FILE.svg]      default: scripts/picture.svg. Needs gnuplot and jq.
#
# DEQ names the program (build/deq).
set -eu
cd "$(dirname "$0")/.."
out=scripts/picture.svg
while getopts o:h option; do
    case $option in
    o) out=$OPTARG ;;
    h)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    *) exit 64 ;;
    esac
done
for tool in gnuplot jq; do
    command -v "$tool" >/dev/null || {
        echo "picture.sh: no $tool (scripts/deps.sh plot)" >&2
        exit 69
    }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${DEQ:-build/deq}" bench memory --json | tail -n 1 >"$work/rows"

# curve METHOD: depth and MiB of activations and solver
curve()
{
    jq -r --arg method "$1" '.rows[] | select(.method == $method) |
        "\(.depth) \((.activations + .solver) / 1048576)"' "$work/rows" | sort -n
}
curve "deq-transformer anderson" >"$work/equilibrium"
curve "transformer untied" >"$work/layers"
curve "transformer tied, recompute 4" >"$work/recomputed"
for file in equilibrium layers recomputed; do
    [ -s "$work/$file" ] || {
        echo "picture.sh: deq bench memory has no rows for the curve \"$file\"" >&2
        exit 70
    }
done

gnuplot <<END
set terminal svg size 680,300 font "sans-serif,14" background "white" enhanced
set output "$work/picture.svg"
set logscale x 2
set xrange [1:70]
set yrange [0:70]
set xtics (1, 2, 4, 8, 16, 32, 64) nomirror scale 0.5
set ytics 20 nomirror scale 0.5
set border 3 lc rgb "#888888"
set grid ytics lc rgb "#dddddd" lt 1
set tics textcolor rgb "#444444"
set xlabel "layers, or evaluations of f" textcolor rgb "#444444"
set ylabel "MiB of activations and solver" textcolor rgb "#444444"
set key off
set rmargin 3
set label "explicit layers, all kept" at 7.6,40 right textcolor rgb "#b5500b"
set label "explicit layers, recomputed" at 66,24 right textcolor rgb "#777777"
set label "equilibrium" at 48,11.5 right textcolor rgb "#1668b3"
plot "$work/layers" with linespoints lw 2 pt 7 ps 0.5 lc rgb "#d9690f", \
    "$work/recomputed" with linespoints lw 2 pt 7 ps 0.5 lc rgb "#999999", \
    "$work/equilibrium" with linespoints lw 3 pt 7 ps 0.5 lc rgb "#1668b3"
END
mv "$work/picture.svg" "$out"
echo "$out"
