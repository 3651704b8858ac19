#!/bin/sh
# Kills a training with SIGKILL at random moments, again and again, and lets it go on each time.
#
#   tests/tools/kill9.sh [-n KILLS] [-s SEED] [-v]
#
# DEQ names the program (build/deq). A small model is trained for 60 steps with a checkpoint every
# second step and an evaluation every tenth, into one folder; a run that is killed is started again
# by the same command. When it is done, it begins anew in another folder, until KILLS (default 25)
# runs were killed. The moments are drawn between 0 and a little more than the run before took, on a
# machine whose speed may change. The last run is let go on to its end.
#
# After every kill each checkpoint in the folder must be whole. Each run that is done must have the
# weights of one that was never killed, bit for bit, the same files, no temporary ones, and every
# step and evaluation once in its log. Exit 1 and a line that says what and where (the folder is
# kept) if not.

# Functions used as conditions end with the command that answers, or say themselves what failed.
# events is a function, and a file that it writes.
# shellcheck disable=SC2310,SC2094
set -eu
export LC_ALL=C OMP_NUM_THREADS=1
kills=25
seed=1
verbose=
while getopts n:s:vh option; do
    case $option in
    n) kills=$OPTARG ;;
    s) seed=$OPTARG ;;
    v) verbose=1 ;;
    h)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) exit 64 ;;
    esac
done
root=$(cd "$(dirname "$0")/../.." && pwd)
deq=${DEQ:-$root/build/deq}
# In memory if it can be: a kill loses nothing that was written, on disk or not.
folder=$(mktemp -d "${TMPDIR:-/dev/shm}/deq-kill9-XXXXXX" 2>/dev/null || mktemp -d)
keep=
trap '[ -n "$keep" ] || rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
cd "$folder"

fail()
{
    keep=1
    echo "kill9.sh: $* (seed $seed, after $killed kills; see $folder)" >&2
    exit 1
}

now_ms()
{
    echo $(($(date +%s%N) / 1000000))
}

digest()
{
    "$deq" info --json "$1" | sed 's/.*"weights_digest":"\([0-9a-f]*\)".*/\1/'
}

# What a log says happened, without the times.
events()
{
    sed -n 's/.*"event":"\([a-z]*\)","step":\([0-9]*\),.*/\2 \1/p' "$1/log.jsonl"
}

train()
{
    "$deq" train -q --config tiny.json --threads 1 --out "$1"
}

"$root/tests/tools/sentences.sh" 600 >text
head -n 60 text >valid
"$deq" tokenize --train text --valid valid --out data >tokenize.log
cat >tiny.json <<END
{ "data": { "dir": "data" },
  "model": { "d_model": 16, "n_head": 2, "d_inner": 32, "dropout": 0.1, "init_std": 0.1 },
  "train": { "steps": 60, "batch": 4, "tgt_len": 12, "mem_len": 8, "warmup_steps": 4, "lr": 5e-3,
             "pretrain_steps": 6, "eval_every": 10, "checkpoint_every": 2, "keep_last": 2 },
  "eval": { "batch": 2, "tgt_len": 12, "mem_len": 8, "max_iter": 6 } }
END
killed=0
begin=$(now_ms)
train whole || fail "the run without a kill fails"
longest=$(($(now_ms) - begin + 50))
want=$(digest whole/last.bin)
want_best=$(digest whole/best.bin)
if [ -z "$want" ] || [ -z "$want_best" ]; then
    fail "deq info tells no digest of weights"
fi
events whole >events
ls whole >names

# One moment a line, as a part of the longest.
awk -v n=$((kills * 100 + 1000)) -v seed="$seed" 'BEGIN {
    srand(seed)
    for (i = 0; i < n; i++) printf "%.4f\n", rand() }' >moments
exec 3<moments

finished=0
resumed=0
took=0 # by the run so far
# The run that is done has left what the one without a kill did.
finished_as_alone()
{
    finished=$((finished + 1))
    [ "$(digest run/last.bin)" = "$want" ] || fail "other weights than without a kill"
    [ "$(digest run/best.bin)" = "$want_best" ] || fail "another best.bin than without a kill"
    ls run >now
    cmp -s names now || fail "other files than without a kill: $(tr '\n' ' ' <now)"
    events run | cmp -s - events || fail "a log with other events than without a kill"
}

while [ "$killed" -lt "$kills" ]; do
    # A start from nothing, or from what a kill left.
    [ ! -e run/last.bin ] || resumed=$((resumed + 1))
    read -r part <&3 || fail "no moments left: runs end before they are killed"
    moment=$(awk -v part="$part" -v most="$longest" 'BEGIN { printf "%.4f", 0.001 + part * most / 1000 }')
    start=$(now_ms)
    code=0
    timeout --foreground -s KILL "$moment" \
        "$deq" train -q --config tiny.json --threads 1 --out run 2>error || code=$?
    took=$((took + $(now_ms) - start))
    case $code in
    137)
        killed=$((killed + 1))
        for file in run/*.bin; do
            [ ! -e "$file" ] || "$deq" info --check "$file" >check 2>&1 ||
                fail "$file is damaged: $(cat check)"
        done
        ;;
    0)
        finished_as_alone
        rm -rf run
        longest=$((took + 50))
        took=0
        ;;
    124) ;; # it ended by itself at that very moment: the next call tells how
    *) fail "exit code $code: $(cat error)" ;;
    esac
    [ -z "$verbose" ] || echo "$killed killed, at $moment s: $code"
done
train run || fail "the run after the last kill fails"
finished_as_alone
echo "$killed kills, $resumed starts from a checkpoint, $finished runs finished, all with the weights" \
    "$want; $(($(now_ms) - begin)) ms"
