#!/bin/sh
# Watches a training for as long as it runs: memory, open files, threads, tokens/s.
#
#   tests/tools/endurance.sh [-e SECONDS] [-o FILE] [-w SECONDS] -- TRAIN_OPTION...
#   tests/tools/endurance.sh [-w SECONDS] -r FILE
#
# Starts `deq train TRAIN_OPTION...` (DEQ names the program, else build/deq) and writes a line to FILE
# (default: endurance.tsv) every SECONDS (default 30): seconds since the start, resident memory in
# KiB, open files, threads, processor seconds, steps done, and tokens a second and a processor second
# since the line before. When the training is done, prints the first and the last quarter of the
# lines beside each other, what came before -w SECONDS (default 60; the end of steps with f unrolled,
# which are faster) left out; -r prints that of an earlier FILE. Of tokens/s it is the median, which
# evaluations do not move. Processor seconds tell a drift of the program from one of a machine that
# others use too.
#
# Exit 1 if all of the last quarter has more open files or threads than any of the first, or if it
# has 2 % more memory on average; else that of deq train.

# report ends with the verdict of awk.
# shellcheck disable=SC2310
set -eu
export LC_ALL=C
every=30
out=endurance.tsv
report=
warm=60
while getopts e:o:r:w:h option; do
    case $option in
    e) every=$OPTARG ;;
    o) out=$OPTARG ;;
    r) report=$OPTARG ;;
    w) warm=$OPTARG ;;
    h)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) exit 64 ;;
    esac
done
report()
{
awk -v warm="$warm" '
NR > 1 && ($1 >= warm || !late) {
    if ($1 >= warm && !late) { late = 1; n = 0 }
    for (i = 1; i <= NF; i++) value[n, i] = $i
    n++
}
function extreme(from, to, column, sign,    i, best) {
    best = value[from, column]
    for (i = from; i < to; i++) if (sign * value[i, column] > sign * best) best = value[i, column]
    return best
}
function mean(from, to, column,    i, sum) {
    for (i = from; i < to; i++) sum += value[i, column]
    return sum / (to - from)
}
function median(from, to, column,    i, j, x, sorted, m) {
    for (i = from; i < to; i++) {
        x = value[i, column]
        for (j = m++; j > 0 && sorted[j - 1] > x; j--) sorted[j] = sorted[j - 1]
        sorted[j] = x
    }
    return (sorted[int((m - 1) / 2)] + sorted[int(m / 2)]) / 2
}
END {
    if (n < 4) { print "endurance.sh: fewer than 4 lines: too short" > "/dev/stderr"; exit 1 }
    quarter = int(n / 4)
    split("2 3 4 7 8", column, " ")
    split("resident memory, KiB;open files;threads;tokens/s;tokens/s of a processor", name, ";")
    printf "%d lines over %d s and %d steps\n%-28s %14s %14s %9s\n", n, value[n - 1, 1],
        value[n - 1, 6], "", "first quarter", "last quarter", "change"
    for (i = 1; i <= 5; i++) {
        a = i > 3 ? median(0, quarter, column[i]) : mean(0, quarter, column[i])
        b = i > 3 ? median(n - quarter, n, column[i]) : mean(n - quarter, n, column[i])
        printf("%-28s %14.1f %14.1f %+8.2f %%\n", name[i], a, b, (a > 0 ? 100 * (b / a - 1) : 0))
        if (i == 1 && b > 1.02 * a) bad = 1
        if ((i == 2 || i == 3) &&
            extreme(n - quarter, n, column[i], -1) > extreme(0, quarter, column[i], 1)) bad = 1
    }
    exit bad
}' "$1"
}

if [ -n "$report" ]; then
    report "$report"
    exit
fi
shift $((OPTIND - 1))
root=$(cd "$(dirname "$0")/../.." && pwd)
deq=${DEQ:-$root/build/deq}
folder=
previous=
for arg; do
    [ "$previous" != --out ] || folder=$arg
    previous=$arg
done
[ -n "$folder" ] || {
    echo "endurance.sh: want --out FOLDER among the options of deq train" >&2
    exit 64
}
ticks=$(getconf CLK_TCK)

"$deq" train "$@" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true' INT TERM HUP

# Steps and tokens so far, by the log.
progress()
{
    tail -n 40 "$folder/log.jsonl" 2>/dev/null |
        sed -n 's/.*"event":"step","step":\([0-9]*\),.*"tokens":\([0-9]*\),.*/\1 \2/p' | tail -n 1
}

start=$(date +%s)
last="0 0 0" # seconds, processor seconds, tokens
printf 'seconds\trss_kib\tfiles\tthreads\tcpu_seconds\tsteps\ttokens_per_s\ttokens_per_cpu_s\n' >"$out"
while sleep "$every" && kill -0 "$pid" 2>/dev/null; do
    seconds=$(($(date +%s) - start))
    rss=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status" 2>/dev/null) || break
    threads=$(sed -n 's/^Threads:[^0-9]*//p' "/proc/$pid/status" 2>/dev/null) || break
    files=$(find "/proc/$pid/fd" -type l 2>/dev/null | wc -l)
    cpu=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | awk -v t="$ticks" '{ print ($12 + $13) / t }')
    if [ -z "$rss" ] || [ -z "$cpu" ]; then
        break
    fi
    now=$(progress)
    last=$(printf '%s\n' "$last $seconds $cpu ${now:-0 0}" | awk -v rss="$rss" -v files="$files" \
        -v threads="$threads" -v out="$out" '{
            tokens = $7 - $3
            wall = $4 - $1
            cpu = $5 - $2
            printf("%d\t%d\t%d\t%d\t%.2f\t%d\t%.1f\t%.1f\n", $4, rss, files, threads, $5, $6,
                (wall > 0 ? tokens / wall : 0), (cpu > 0 ? tokens / cpu : 0)) >>out
            print $4, $5, $7
        }')
done
status=0
wait "$pid" || status=$?

report "$out" || exit 1
exit "$status"
