#!/bin/sh
# Types what a new user types, one journey after the other, and shows what comes: own text to a model,
# a sample and scores; stop, go on, longer, fine-tune; plans; other people's tokens. For reading.
#
#   scripts/journeys.sh TEXT [OTHER] [FOLDER]
#
# TEXT is any text of some 100 KB or more, OTHER one for fine-tuning (default: the same). Everything is
# made in FOLDER (default: a temporary one, which is removed). DEQ names another program, and QUICK=1
# makes the trainings short. Ends at the first command that fails.
set -eu
export LC_ALL=C
if [ $# -lt 1 ] || [ "$1" = -h ] || [ "$1" = --help ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 64
fi
root=$(cd "$(dirname "$0")/.." && pwd)
text=$(realpath "$1")
other=$(realpath "${2:-$1}")
deq=$(realpath "${DEQ:-$root/build/deq}")
folder=${3:-}
if [ -z "$folder" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
mkdir -p "$folder"
cd "$folder"
short=
[ "${QUICK:-}" != 1 ] || short="--set train.steps=40 --set train.pretrain_steps=10 --set train.warmup_steps=5"
began=$(date +%s)

# Shows a command, runs it, and says how long it took if that is worth saying.
type_in()
{
    printf '\n$ deq %s\n' "$*"
    start=$(date +%s)
    code=0
    "$deq" "$@" || code=$?
    seconds=$(($(date +%s) - start))
    [ "$seconds" -lt 2 ] || echo "[$seconds s]"
    [ "$code" -eq "${expected:-0}" ] || {
        echo "journeys.sh: exit code $code"
        exit 1
    }
}

chapter()
{
    printf '\n=== %s (after %d s)\n' "$1" $(($(date +%s) - began))
}

chapter "Own text to a sample, in three commands"
type_in tokenize --train "$text" --valid-share 5% --test-share 5% --out data/my
# Options of QUICK are several words or none.
# shellcheck disable=SC2086
type_in train --data data/my $short
type_in sample --prompt "The" --tokens 60

chapter "The same in bytes, and as one gzipped text of several files on standard input"
type_in tokenize --train "$text" --valid-share 5% --bytes --out data/bytes
gzip -c "$text" >text.gz
type_in tokenize --train text.gz --train "$other" --valid-share 5% --out data/both

chapter "Score"
type_in eval runs/my --split test
head -n 200 "$text" >some.txt
type_in eval runs/my --text some.txt
head -n 5 "$text" | type_in score runs/my -
echo "To be or not to be" | type_in score runs/my - --tokens
printf '{"context": "The", "continuation": " man"}\n' >pairs.jsonl
type_in score runs/my --pairs pairs.jsonl

chapter "Sample"
type_in sample runs/my --prompt "The" -n 3 --tokens 20 --stop "." --min-p 0.05 --repeat-penalty 1.1
printf 'First line.\nSecond' | type_in sample runs/my --prompt - --tokens 20

chapter "Longer, again, elsewhere"
type_in train runs/my --set train.steps=60 --set train.pretrain_steps=10 --dry-run
type_in tokenize --train "$other" --vocab runs/my --valid-share 5% --out data/other
# shellcheck disable=SC2086
type_in train --data data/other --init-from runs/my/best.bin --out runs/fine $short
type_in average runs/my/best.bin runs/my/last.bin --out mean.bin
type_in eval runs/my/best.bin runs/my/last.bin mean.bin --text some.txt

chapter "Plans and information"
type_in plan --data data/my
type_in info runs/my
type_in help config train.lr
type_in version

chapter "Mistakes"
expected=66 type_in train --data data/none
expected=65 type_in eval runs/my --data data/bytes
expected=64 type_in sample runs/my --promt x
printf '\nAll journeys in %d s.\n' $(($(date +%s) - began))
