#!/bin/sh
# How long threads should wait at full load before they sleep: speed of a training alone, and of two
# side by side, for several values of GOMP_SPINCOUNT (libgomp's own default is "unset").
#
#   scripts/side_by_side.sh [-r ROUNDS] [-s STEPS] [-t THREADS] [-c COUNTS]
#
# Each round runs all variants, so that a slow hour of the machine meets them alike. The best round
# counts. Wants a machine with nothing else to do.
set -eu
rounds=3 steps=10 threads=2 counts="unset 0 1000 10000 100000"
while getopts r:s:t:c: option; do
    case $option in
    r) rounds=$OPTARG ;;
    s) steps=$OPTARG ;;
    t) threads=$OPTARG ;;
    c) counts=$OPTARG ;;
    *) exit 64 ;;
    esac
done
deq=$(realpath "${DEQ:-build/deq}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >config.json <<END
{ "data": { "dir": "none" },
  "model": { "d_model": 128, "n_head": 4, "d_inner": 512, "vocab_size": 2000 },
  "train": { "batch": 8, "tgt_len": 32, "mem_len": 32 } }
END

# speed COUNT: tokens a second of the median step.
speed()
{
    if [ "$1" = unset ]; then unset GOMP_SPINCOUNT; else export GOMP_SPINCOUNT="$1"; fi
    timeout 60 "$deq" bench train --config config.json --threads "$threads" --steps "$steps" --json \
        2>/dev/null | sed -n 's/.*"tokens_per_s":\([0-9]*\).*/\1/p'
}

for round in $(seq "$rounds"); do
    for count in $counts; do
        echo "$count $(speed "$count")" >>alone
        (speed "$count" >one) &
        two=$(speed "$count")
        wait $!
        echo "$count $(cat one) $two" >>pair
        echo "round $round, $count: alone $(tail -n 1 alone), two $(tail -n 1 pair)" >&2
    done
done
echo "GOMP_SPINCOUNT    alone  two side by side, the slower one (tokens/s, best of $rounds)"
for count in $counts; do
    awk -v c="$count" '
        FILENAME == "alone" && $1 == c && $2 > a { a = $2 }
        FILENAME == "pair" && $1 == c { m = $2 < $3 ? $2 : $3; if (NF == 3 && m > b) b = m }
        END { printf "%-14s %8d %8d\n", c, a, b }' alone pair
done
