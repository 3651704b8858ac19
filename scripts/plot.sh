#!/bin/sh
# Draws the curves of a run from its log, as PNG files in the run's folder.
#
#   scripts/plot.sh RUN [OUT]        OUT: another folder for the pictures
#
#   loss.png         loss of each step (and its mean over 2 % of them), and of each evaluation,
#   perplexity.png   the same as perplexity, both against tokens
#   evaluations.png  evaluations of f and of its vector-Jacobian product a position took, over training
#   residual.png     the residual those evaluations left: over training, and against their number
#
# Needs gnuplot (scripts/deps.sh plot). A run without solves (an explicit network) has no residuals:
# the last picture is then left out.

# gnuplot reads the inner quotes, and the shell the outer ones.
# shellcheck disable=SC2016
set -eu
export LC_ALL=C
if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    exit 0
fi
fail()
{
    echo "plot.sh: $2" >&2
    exit "$1"
}
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    fail 64 "want a run's folder: scripts/plot.sh RUN [OUT]"
fi
run=$1
out=${2:-$run}
[ -f "$run/log.jsonl" ] || fail 66 "$run/log.jsonl: no such file: is $run the folder of a run?"
[ -d "$out" ] || fail 66 "$out: no such folder"
command -v gnuplot >/dev/null 2>&1 || fail 69 "gnuplot is missing: scripts/deps.sh plot"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Columns: tokens loss forward-evaluations forward-residual backward-evaluations backward-residual,
# and of the evaluations: tokens nll evaluations residual. A null is no number: "?".
awk -v steps="$tmp/steps" -v evals="$tmp/evals" '
function field(text, name,    at, rest) {
    at = index(text, "\"" name "\":")
    if (at == 0)
        return "?"
    rest = substr(text, at + length(name) + 3)
    sub(/[,}].*/, "", rest)
    return rest ~ /^-?[0-9]/ ? rest : "?"
}
function part(text, name,    at, rest) {
    at = index(text, "\"" name "\":{")
    if (at == 0)
        return ""
    rest = substr(text, at)
    sub(/}.*/, "}", rest)
    return rest
}
/"event":"step"/ {
    f = part($0, "forward")
    b = part($0, "backward")
    head = $0
    sub(/"forward":{.*/, "", head)
    tail = $0
    sub(/.*"backward":{[^}]*}/, "", tail)
    tokens = field(tail, "tokens")
    loss = field(head, "loss")
    print tokens, loss, field(f, "evals_mean"), field(f, "rel_mean"), field(b, "evals_mean"),
        field(b, "rel_mean") > steps
}
/"event":"evaluation"/ {
    print tokens, field($0, "nll"), field($0, "nfe_mean"), field($0, "rel_mean") > evals
}
END { printf "" > steps; printf "" > evals }' "$run/log.jsonl"
count=$(wc -l <"$tmp/steps")
[ "$count" -gt 0 ] || fail 65 "$run/log.jsonl: holds no step yet"

# The mean of the last 2 % of the steps, so that the noise of single ones does not hide the course.
awk -v window=$((count / 50 + 1)) '$2 != "?" {
    sum += $2 - past[NR % window]
    past[NR % window] = $2
    n = n < window ? n + 1 : window
    print $1, sum / n }' "$tmp/steps" >"$tmp/mean"

evaluated()
{
    [ ! -s "$tmp/evals" ] || printf ", '%s/evals' using 1:(%s) with linespoints lw 2 title 'evaluation'" \
        "$tmp" "$1"
}

draw()
{
    # A quote in a path is doubled inside gnuplot's quotes.
    target=$(printf '%s/%s' "$out" "$1" | sed "s/'/''/g")
    {
        echo "set terminal pngcairo size 900,600"
        echo "set output '$target'"
        echo "set format x '%.1s%c'"
        echo "set grid; set key top right; set datafile missing '?'; set xlabel 'tokens'"
        cat
    } | gnuplot || fail 69 "gnuplot did not draw $1"
    echo "$out/$1"
}

draw loss.png <<END
set ylabel 'loss, nats a token'
set logscale y
plot '$tmp/steps' using 1:2 with dots lc 'gray' title 'step', '$tmp/mean' using 1:2 with lines lw 2 title 'mean of steps'$(evaluated '$2')
END
draw perplexity.png <<END
set ylabel 'perplexity'
set logscale y
plot '$tmp/mean' using 1:(exp(\$2)) with lines lw 2 title 'mean of steps'$(evaluated 'exp($2)')
END
draw evaluations.png <<END
set ylabel 'evaluations a position'
set yrange [0:*]
plot '$tmp/steps' using 1:3 with lines title 'of f', '$tmp/steps' using 1:5 with lines title 'of its vector-Jacobian product'$(evaluated '$3')
END
if awk '$4 != "?" { found = 1 } END { exit !found }' "$tmp/steps"; then
    draw residual.png <<END
set multiplot layout 1,2
set logscale y
set format y '%.0e'
set ylabel 'relative residual'
plot '$tmp/steps' using 1:4 with lines title 'forward', '$tmp/steps' using 1:6 with lines title 'backward'
set xlabel 'evaluations'
set format x '%g'
plot '$tmp/steps' using 3:4 with points pt 7 ps 0.4 title 'forward', '$tmp/steps' using 5:6 with points pt 7 ps 0.4 title 'backward'
END
fi
