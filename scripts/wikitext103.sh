#!/bin/sh
# Makes the WikiText-103 data set (word level) in data/wikitext-103 by `deq tokenize`.
#
#   scripts/wikitext103.sh [--any-size] [ZIP | FOLDER]
#
# With a path it takes what was downloaded before: wikitext-103-v1.zip, or a folder that holds
# wiki.{train,valid,test}.tokens (or such a folder named wikitext-103). Without one it downloads
# the archive, 181 MiB, from Stephen Merity's page, https://wikitext.smerity.com, where the data set
# has lived since its first home closed. 550 MB of text, licence CC BY-SA 3.0; needs unzip,
# and curl or wget for the download.
#
# The texts are checked: 103,227,021 tokens for training, 217,646 for validation, 245,569 for the
# test (one <eos> a line included) and 267,735 different words. --any-size only says what differs.
# DEQ names the program, else build/deq; OUT the result, else data/wikitext-103.
set -eu
export LC_ALL=C

url=https://wikitext.smerity.com/wikitext-103-v1.zip
md5=9ddaacaf6af0710eda8c456decff7832

fail()
{
    code=$1
    shift
    echo "wikitext103.sh: $*" >&2
    exit "$code"
}

any_size=
from=
for arg; do
    case $arg in
    --any-size) any_size=1 ;;
    -h | --help)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*) fail 64 "unknown option $arg (usage: scripts/wikitext103.sh [--any-size] [ZIP | FOLDER])" ;;
    *) from=$arg ;;
    esac
done
root=$(cd "$(dirname "$0")/.." && pwd)
out=${OUT:-$root/data/wikitext-103}
deq=${DEQ:-$root/build/deq}
[ -x "$deq" ] || fail 69 "there is no $deq: run make first"
mkdir -p "$root/data"
tmp=$(mktemp -d "$root/data/wikitext-103.tmp.XXXXXX") || fail 73 "cannot create a folder in data"
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The download stays, so that a second try does not fetch it again.
if [ -z "$from" ]; then
    from=$root/data/wikitext-103-v1.zip
    if [ ! -f "$from" ]; then
        echo "wikitext103.sh: downloading $url" >&2
        if command -v curl >/dev/null; then
            curl -fL --retry 3 -C - -o "$from.part" "$url" || fail 69 "the download failed"
        elif command -v wget >/dev/null; then
            wget -c -O "$from.part" "$url" || fail 69 "the download failed"
        else
            fail 69 "needs curl or wget: apt-get install curl ca-certificates"
        fi
        if [ "$(md5sum <"$from.part")" != "$md5  -" ]; then
            rm -f "$from.part"
            fail 65 "the download is not the published archive (MD5 differs); it was deleted"
        fi
        mv "$from.part" "$from"
    fi
fi

if [ -d "$from" ]; then
    dir=$from
    [ -f "$dir/wiki.train.tokens" ] || dir=$from/wikitext-103
elif [ -f "$from" ]; then
    command -v unzip >/dev/null || fail 69 "needs unzip: apt-get install unzip"
    echo "wikitext103.sh: unpacking $from" >&2
    unzip -q "$from" -d "$tmp" || fail 65 "$from: not a sound zip archive"
    dir=$tmp/wikitext-103
else
    fail 66 "$from: no such file or folder"
fi
for part in train valid test; do
    [ -r "$dir/wiki.$part.tokens" ] ||
        fail 66 "$from: no wiki.$part.tokens (the word-level archive wikitext-103-v1.zip is wanted)"
done

differs()
{
    if [ -n "$any_size" ]; then
        echo "wikitext103.sh: $*" >&2
    else
        fail 65 "$*; this is not the published text (--any-size takes it all the same)"
    fi
}

# Tokens are separated by blanks; each line ends with <eos>.
echo "wikitext103.sh: counting tokens (a minute or two)" >&2
for part in train valid test; do
    awk '
    { tokens += NF + 1; for (i = 1; i <= NF; i++) if (!($i in seen)) { seen[$i]; types++ } }
    END { printf "%d %d\n", tokens, types + 1 }' "$dir/wiki.$part.tokens" >"$tmp/count"
    read -r tokens types <"$tmp/count"
    case $part in
    train) want=103227021 ;;
    valid) want=217646 ;;
    test) want=245569 ;;
    esac
    [ "$tokens" -eq "$want" ] ||
        differs "$dir/wiki.$part.tokens has $tokens tokens, want $want"
    [ "$part" != train ] || [ "$types" -eq 267735 ] ||
        differs "$dir/wiki.train.tokens has $types different words, want 267735"
done

# Nothing half-made under the final name: a new folder is made, then takes the old one's place.
"$deq" tokenize --train "$dir/wiki.train.tokens" --valid "$dir/wiki.valid.tokens" \
    --test "$dir/wiki.test.tokens" --split blanks --out "$tmp/shards"
rm -rf "$out"
mv "$tmp/shards" "$out"
echo "wikitext103.sh: done, the data set is in $out" >&2
