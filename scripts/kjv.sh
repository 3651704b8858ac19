#!/bin/sh
# Makes the King James Bible data set in data/kjv from Debian's package bible-kjv:
# {train,valid,test}.tokens in WikiText style (words and punctuation split by spaces, rare words as
# <unk>), then vocabulary and shards by `deq tokenize`. What is up to date is left alone.
#
#   scripts/kjv.sh [--tokens-only] [FOLDER]
#
# FOLDER is data/kjv if not given. DEQ names the program, else build/deq. --tokens-only stops
# before `deq tokenize`. DEQ_BIBLE names a file with the output of `bible -f gen1:1-rev22:21`, for a
# machine without the package.
set -eu
export LC_ALL=C

fail()
{
    code=$1
    shift
    echo "kjv.sh: $*" >&2
    exit "$code"
}

tokens_only=
out=
for arg; do
    case $arg in
    --tokens-only) tokens_only=1 ;;
    -h | --help)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*) fail 64 "unknown option $arg (usage: scripts/kjv.sh [--tokens-only] [FOLDER])" ;;
    *) out=$arg ;;
    esac
done
root=$(cd "$(dirname "$0")/.." && pwd)
out=${out:-$root/data/kjv}
deq=${DEQ:-$root/build/deq}

mkdir -p "$out" || fail 73 "cannot create $out"
# Beside the result, so that finished files can be renamed into place.
tmp=$(mktemp -d "$out.tmp.XXXXXX") || fail 73 "cannot create a folder beside $out"
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -n "${DEQ_BIBLE:-}" ]; then
    [ -r "$DEQ_BIBLE" ] || fail 66 "cannot read $DEQ_BIBLE (named by DEQ_BIBLE)"
    cp "$DEQ_BIBLE" "$tmp/verses"
else
    # Games and texts live in /usr/games on some systems.
    PATH=$PATH:/usr/games
    command -v bible >/dev/null ||
        fail 69 "needs the program bible: apt-get install bible-kjv (or scripts/deps.sh demo)"
    bible -f gen1:1-rev22:21 >"$tmp/verses" || fail 69 "the program bible failed"
fi
verses=$(wc -l <"$tmp/verses")
[ "$verses" -eq 31102 ] || fail 65 "the Bible has 31102 verses, got $verses"

# Verses in, one "<t|v|s> line" per line out (training, validation, test).
awk '
{
    if (!match($0, /^[0-9A-Za-z]*[A-Za-z][0-9]+:[0-9]+ /)) {
        print "verse without a reference: " $0 | "cat >&2"
        exit 65
    }
    reference = substr($0, 1, RLENGTH - 1)
    text = substr($0, RLENGTH + 1)
    sub(/:.*/, "", reference)
    if (reference != chapter) {
        chapter = reference
        # Every tenth chapter is held out, in turn for validation and for the test. Chapters are
        # counted from 0.
        part = n % 20 == 9 ? "v" : n % 20 == 19 ? "s" : "t"
        n++
        match(chapter, /[0-9]+$/)
        print part " "
        print part " = " substr(chapter, 1, RSTART - 1) " " substr(chapter, RSTART) " = "
        print part " "
    }
    gsub(/[.,;:?!()]/, " & ", text)
    while (match(text, /[A-Za-z]-[A-Za-z]/))
        text = substr(text, 1, RSTART) " @-@ " substr(text, RSTART + 2)
    text = text " "
    gsub(/\047s /, " &", text)
    gsub(/\047 /, " &", text)
    gsub(/ +/, " ", text)
    sub(/^ /, "", text)
    print part " " text
}' "$tmp/verses" >"$tmp/lines"

# The first pass counts the words of the training text, the second writes the three files.
awk -v dir="$tmp" '
BEGIN {
    file["t"] = dir "/train.tokens"
    file["v"] = dir "/valid.tokens"
    file["s"] = dir "/test.tokens"
    # A part without lines is an empty file.
    for (part in file)
        printf "" > file[part]
}
FNR == NR {
    if ($1 == "t")
        for (i = 2; i <= NF; i++)
            count[$i]++
    next
}
{
    line = " "
    for (i = 2; i <= NF; i++)
        line = line (count[$i] < 3 ? "<unk>" : $i) " "
    print line > file[$1]
}' "$tmp/lines" "$tmp/lines"

for part in train valid test; do
    new=$tmp/$part.tokens
    old=$out/$part.tokens
    cmp -s "$new" "$old" || mv -f "$new" "$old" || fail 73 "cannot write $old"
done
[ -z "$tokens_only" ] || exit 0

[ -x "$deq" ] || fail 69 "there is no $deq: run make first"
# The shards are a function of the texts and of the program that cuts them.
state=$(cat "$out/train.tokens" "$out/valid.tokens" "$out/test.tokens" "$deq" | cksum)
if [ -f "$out/.tokenized" ] && [ "$(cat "$out/.tokenized")" = "$state" ] &&
    [ -f "$out/vocab.txt" ] && [ -f "$out/train-00000.bin" ] &&
    [ -f "$out/valid-00000.bin" ] && [ -f "$out/test-00000.bin" ]; then
    exit 0
fi
rm -f "$out/.tokenized"
"$deq" tokenize --train "$out/train.tokens" --valid "$out/valid.tokens" \
    --test "$out/test.tokens" --split blanks --out "$out" --force
echo "$state" >"$out/.tokenized"
