#!/bin/sh
# Measures `deq tokenize` on text of WikiText-103's size: 103 million tokens of 267,735 types, about
# 540 MB, drawn from Zipf's law. Prints the program's figures and its peak memory.
#
#   scripts/bench-tokenize.sh [TOKENS [TYPES [SPLIT]]]
#
# SPLIT: blanks (the default) or punctuation, for which a third of the words gets a comma or a full
# stop behind it.
# DEQ: the program (build/deq); TMPDIR: where the text and the shards lie for a minute (1 GB).
set -eu
deq=${DEQ:-build/deq}
tokens=${1:-103000000}
types=${2:-267735}
split=${3:-blanks}
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

${CC:-cc} -std=c17 -O2 -D_GNU_SOURCE -I"$root/src" -o "$folder/zipf" "$root/tests/tools/zipf.c" -lm
"$folder/zipf" "$tokens" "$types" 1 >"$folder/text"
[ "$split" = blanks ] || sed -i 's/\([^ ]* [^ ]* [^ ]*\) \([^ ]* [^ ]* [^ ]*\) /\1, \2. /g' "$folder/text"
wc -c <"$folder/text" | awk '{ printf "text: %.1f MB\n", $1 / 1e6 }'
/usr/bin/time -v -o "$folder/time" "$deq" tokenize --split "$split" --train "$folder/text" --out "$folder/out" --json
awk -F': ' '/Elapsed|Maximum resident|User time|System time/ { sub(/^[ \t]+/, ""); print }' \
    "$folder/time"
