#!/bin/sh
# Draws the curves of runs from their logs, as PNG files.
#
#   scripts/plot.sh RUN... [-o OUT]      OUT: the folder of the pictures, default the first RUN
#
#   loss.png         loss of each step (and its mean over 2 % of them), and of each evaluation,
#   perplexity.png   the same as perplexity, both against tokens
#   evaluations.png  evaluations of f and of its vector-Jacobian product a position took, over training
#   residual.png     the residual those evaluations left: over training, and against their number
#
# Several runs share each picture, a colour each. Needs gnuplot (scripts/deps.sh plot). Runs without
# solves (explicit networks) have no residuals: the last picture is then left out. `deq report` shows
# the same and more in a page for a browser.

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
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

# Columns: tokens loss forward-evaluations forward-residual backward-evaluations backward-residual,
# and of the evaluations: tokens nll evaluations residual. A null is no number: "?".
read_log()
{
    awk -v steps="$2.steps" -v evals="$2.evals" '
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
    END { printf "" > steps; printf "" > evals }' "$1"
    # The mean of the last 2 % of the steps, so that the noise of single ones does not hide the course.
    awk -v window=$(($(wc -l <"$2.steps") / 50 + 1)) '$2 != "?" {
        sum += $2 - past[NR % window]
        past[NR % window] = $2
        n = n < window ? n + 1 : window
        print $1, sum / n }' "$2.steps" >"$2.mean"
}

# Number, colour and name of each run, a line each. The colours are told apart with all common kinds of
# colour vision.
colours='#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9 #6b5b95 #555555'
out=
runs=0
: >"$tmp/runs"
while [ $# -gt 0 ]; do
    case $1 in
    -o)
        [ $# -gt 1 ] || fail 64 "-o: want a folder"
        out=$2
        shift
        ;;
    -*) fail 64 "$1: unknown option: scripts/plot.sh RUN... [-o OUT]" ;;
    *)
        [ -f "$1/log.jsonl" ] || fail 66 "$1/log.jsonl: no such file: is $1 the folder of a run?"
        [ "$runs" -gt 0 ] || first=$1
        read_log "$1/log.jsonl" "$tmp/$runs"
        [ -s "$tmp/$runs.steps" ] || fail 65 "$1/log.jsonl: holds no step yet"
        # shellcheck disable=SC2086
        colour=$(printf '%s\n' $colours | sed -n "$((runs % 8 + 1))p")
        echo "$runs $colour $(basename "$(cd "$1" && pwd)")" >>"$tmp/runs"
        runs=$((runs + 1))
        ;;
    esac
    shift
done
[ "$runs" -gt 0 ] || fail 64 "want the folder of a run: scripts/plot.sh RUN... [-o OUT]"
[ -n "$out" ] || out=$first
[ -d "$out" ] || fail 66 "$out: no such folder"
command -v gnuplot >/dev/null 2>&1 || fail 69 "gnuplot is missing: scripts/deps.sh plot"

# The unit of the tokens, by the longest run.
unit=$(cat "$tmp"/*.steps | awk '$1 != "?" && $1 + 0 > most { most = $1 + 0 }
    END { print (most >= 2e9 ? "1e9 billions" : most >= 2e6 ? "1e6 millions" : most >= 2e4 ? "1e3 thousands" : "1 -") }')
per=${unit% *}
xlabel=tokens
[ "$per" = 1 ] || xlabel="tokens, ${unit#* }"

# A key of several runs stands below, out of the way of the curves.
margin="set bmargin 3.5"
[ "$runs" -eq 1 ] || margin="set bmargin 5.5"

# curve SUFFIX COLUMN USING LOOK [named]: the part of a plot that draws this curve of every run which
# has a number in COLUMN, since gnuplot refuses a curve without any. In LOOK, COLOUR is that of the run,
# without its #. A curve that is named shows the run in the key, where there are several.
curve()
{
    while read -r number colour name; do
        awk -v at="$2" '$at != "?" { found = 1; exit } END { exit !found }' "$tmp/$number.$1" || continue
        title=notitle
        # A quote in a name is doubled inside quotes.
        [ -z "${5:-}" ] || [ "$runs" -eq 1 ] || title="title '$(printf '%s' "$name" | sed "s/'/''/g")'"
        printf "'%s' using %s %s %s, " "$tmp/$number.$1" "$3" \
            "$(printf '%s' "$4" | sed "s/COLOUR/${colour#\#}/")" "$title"
    done <"$tmp/runs"
}

# draw PICTURE TITLE: draws by the commands on standard input.
draw()
{
    target=$(printf '%s/%s' "$out" "$1" | sed "s/'/''/g")
    {
        echo "set terminal pngcairo noenhanced size 900,600 font ',11'"
        echo "set output '$target'"
        echo "set title '$2' font ',10'"
        echo "set grid lc rgb '#d8d8d8' lt 1; set border lc rgb '#808080'; set tics textcolor rgb '#303030'"
        echo "set key outside bottom center horizontal; $margin; set datafile missing '?'; set xlabel '$xlabel'; set format x '%g'"
        echo "set ytics nomirror; set xtics nomirror"
        cat
    } | gnuplot || fail 69 "gnuplot did not draw $1"
    echo "$out/$1"
}

# magnitudes DIGITS: a logarithmic axis that ends where the curves do, and has its own ticks.
magnitudes()
{
    echo "set logscale y; set autoscale yfix; set offsets graph 0, graph 0, graph 0.03, graph 0.03; unset mytics"
    echo "set ytics (1); set for [e=-12:12] for [m in '$1'] ytics add (sprintf('%g', m * 10.0**e) m * 10.0**e)"
}

x="(\$1/$per)"
faint="with points pt 7 ps 0.25 lc rgb '#c0COLOUR'"
line="with lines lw 2 lc rgb '#COLOUR'"
thin="with lines lw 1.2 lc rgb '#COLOUR'"
dashed="with lines lw 1.2 dt (6,4) lc rgb '#COLOUR'"
rings="with linespoints lw 1 dt (2,3) pt 6 ps 0.9 lc rgb '#COLOUR'"

draw loss.png 'points: steps; line: mean of 2 % of them; rings: on validation data' <<END
set ylabel 'loss, nats per token'
$(magnitudes '1 1.5 2 3 4 5 7')
plot $(curve steps 2 "$x:2" "$faint")$(curve mean 2 "$x:2" "$line" named)$(curve evals 2 "$x:2" "$rings")
END
draw perplexity.png 'line: mean of 2 % of the steps; rings: on validation data' <<END
set ylabel 'perplexity'
$(magnitudes '1 2 3 5 7')
plot $(curve mean 2 "$x:(exp(\$2))" "$line" named)$(curve evals 2 "$x:(exp(\$2))" "$rings")
END
draw evaluations.png 'solid: evaluations of f; dashed: of its vector-Jacobian product; rings: on validation data' <<END
set ylabel 'evaluations per position'
set yrange [0:*]
plot $(curve steps 3 "$x:3" "$thin" named)$(curve steps 5 "$x:5" "$dashed")$(curve evals 3 "$x:3" "$rings")
END
residuals=$(curve steps 4 "$x:4" "$thin" named)
if [ -n "$residuals" ]; then
    draw residual.png '' <<END
set multiplot layout 1,2
set title 'solid: forward; dashed: backward; rings: on validation data'
set ylabel 'relative residual'
$(magnitudes '1 2 5')
plot $residuals$(curve steps 6 "$x:6" "$dashed")$(curve evals 4 "$x:4" "$rings")
set title 'discs: forward; crosses: backward'
set xlabel 'evaluations per position'
set xrange [0:*]
unset key
plot $(curve steps 4 3:4 "with points pt 7 ps 0.4 lc rgb '#90COLOUR'")$(curve steps 6 5:6 "with points pt 2 ps 0.5 lc rgb '#90COLOUR'")
END
fi
