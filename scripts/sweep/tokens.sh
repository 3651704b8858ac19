#!/bin/sh
# Compares ways to divide a text into tokens: bytes, words, and subwords of several numbers, each in a network of
# equal parameters, trained for equal time at its own learning rate. The table is in bits per byte.
#
#   scripts/sweep/tokens.sh [-s "1000 4000 8000"] [-w WORDS] [-p PARAMETERS] [-t SECONDS] [-n] OUT TRAIN [VALID]
#       [OPTION of sweep.py]...
#
#   -s  numbers of subwords (1000 4000 8000)
#   -w  words and bytes of the vocabulary of words (8000)
#   -p  parameters of each network, to one percent (1200000)
#   -t  processor seconds of each training (60)
#   -n  makes texts, tokens and the plan, and starts nothing
#
# OUT receives the texts, a folder of tokens for each way, plan.json (from tokens.json, where more can be
# changed) and what sweep.py writes. Of TRAIN alone one paragraph in twenty is for validation and one for the
# test. Of VALID every other paragraph is for the test. Both are thinned to 100 KB, for trainings of a
# minute. The same command goes on where it stopped. DEQ names the
# program (build/deq). Needs python3, and deq with SentencePiece.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
deq=${DEQ:-$here/../../build/deq}
sizes="1000 4000 8000" words=8000 parameters=1200000 seconds=60 only=
usage()
{
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit "$1"
}
while getopts s:w:p:t:nh option; do
    case $option in
    s) sizes=$OPTARG ;;
    w) words=$OPTARG ;;
    p) parameters=$OPTARG ;;
    t) seconds=$OPTARG ;;
    n) only=yes ;;
    h) usage 0 ;;
    *) usage 64 >&2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 2 ] || usage 64 >&2
out=$1 train=$2
shift 2
valid=
case ${1:-} in
'' | -*) ;;
*)
    valid=$1
    shift
    ;;
esac
export DEQ="$deq"

# What is there was made by the same command, which tokens.py looks after.
python3 "$here/tokens.py" split "$out" "$train" ${valid:+"$valid"}
[ -e "$out/bytes/vocab.txt" ] ||
    "$deq" tokenize --bytes --train "$out/train.txt" --valid "$out/valid.txt" --test "$out/test.txt" \
        --out "$out/bytes" --force
[ -e "$out/words-$words/test.bin" ] || python3 "$here/tokens.py" words "$out" "$words"
for size in $sizes; do
    [ -e "$out/subwords-$size/vocab.txt" ] ||
        "$deq" tokenize --subwords "$size" --train "$out/train.txt" --valid "$out/valid.txt" \
            --test "$out/test.txt" --out "$out/subwords-$size" --force
done
# shellcheck disable=SC2086
python3 "$here/tokens.py" plan "$out" "$parameters" "$seconds" "$words" $sizes
[ -z "$only" ] || exit 0
exec "$here/sweep.py" "$out/plan.json" --out "$out/sweep" "$@"
