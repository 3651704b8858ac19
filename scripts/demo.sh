#!/bin/sh
# From nothing to a trained deep equilibrium language model and a sample of its text, in minutes on
# two cores: packages, build, data (the King James Bible), training, evaluation, sample.
#
#   scripts/demo.sh
#
# What is done already is not done again: a finished run is kept as long as its config and its data
# stay the same, an interrupted one goes on where it was saved. CONFIG (default configs/demo.json)
# and RUN (default runs/demo) name other ones, DEQ another program.
set -eu
export LC_ALL=C
if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 0
fi
# Under make demo: the make below is on its own.
unset MAKEFLAGS MFLAGS MAKELEVEL
cd "$(dirname "$0")/.."
config=${CONFIG:-configs/demo.json}
run=${RUN:-runs/demo}
deq=${DEQ:-build/deq}
prompt='And God said'
began=$(date +%s)

step()
{
    printf '\n[%s/5, after %d s] %s\n' "$1" $(($(date +%s) - began)) "$2"
}

fail()
{
    code=$1
    shift
    echo "demo.sh: $*" >&2
    exit "$code"
}

[ -r "$config" ] || fail 66 "cannot read $config"

step 1 "Packages and program"
scripts/deps.sh build demo
[ -n "${DEQ:-}" ] || make all

step 2 "Data: the King James Bible, cut into words, in data/kjv"
DEQ=$(cd "$(dirname "$deq")" && pwd)/$(basename "$deq") scripts/kjv.sh
echo "$(awk '{ n += NF + 1 } END { print n }' data/kjv/train.tokens) words to learn from;" \
    "every 20th chapter is held out for validation, another for the test."

# The run is a function of its config and its data.
key=$(cat "$config" data/kjv/train.tokens data/kjv/valid.tokens | cksum)
if [ -d "$run" ] && [ "$(cat "$run/.demo-key" 2>/dev/null)" != "$key" ]; then
    old=$run.$(date +%Y%m%d-%H%M%S)
    mv "$run" "$old"
    echo "The config or the data changed: the earlier run is now $old."
fi
if [ -f "$run/.demo-done" ] && [ -f "$run/best.bin" ]; then
    step 3 "Training: done before, in $run (delete that folder to train anew)"
else
    step 3 "Training: $config, into $run (interrupt it with Ctrl-C and call again to go on)"
    mkdir -p "$run"
    echo "$key" >"$run/.demo-key"
    code=0
    "$deq" train --config "$config" --out "$run" --resume auto || code=$?
    [ "$code" -ne 75 ] || fail 75 "training stopped early and was saved: call again to go on"
    [ "$code" -eq 0 ] || fail "$code" "training failed with exit code $code; its log is $run/log.jsonl"
    : >"$run/.demo-done"
fi

step 4 "Evaluation on the test text, which training never saw"
answer=$("$deq" eval "$run/best.bin" --split test --json) || fail $? "evaluation failed"
ppl=$(printf '%s\n' "$answer" | sed -n '$s/.*"ppl"[ ]*:[ ]*\([0-9.eE+-]*\).*/\1/p')
[ -n "$ppl" ] || fail 70 "no ppl in the evaluation's answer: $answer"
awk -v ppl="$ppl" 'BEGIN {
    print "Test perplexity (among how many words the model hesitates; lower is better):"
    printf "  %6.1f  this run\n", ppl
    print "    44.7  trigram model with Kneser-Ney smoothing"
    print "    37.4  the published PyTorch code after its full 3,600 steps (configs/kjv.json)"
    if (ppl < 44.7)
        printf "The equilibrium model is %.1f %% below the trigram model.\n", 100 * (1 - ppl / 44.7)
    else
        print "That is not yet as good as the trigram model: this run is short."
}'

step 5 "A sample: the model goes on from \"$prompt\""
"$deq" sample --checkpoint "$run/best.bin" --prompt "$prompt" --tokens 60

cat <<TEXT

Done in $(($(date +%s) - began)) s. What to look at and to do next:
  $run/best.bin     the model; ask it for more: $deq sample --checkpoint $run/best.bin --prompt "..."
  $run/log.jsonl    one line per step: loss, solver steps, speed
  $deq train --config configs/kjv.json     the full training, to a test perplexity of 34
  $deq help         everything else
TEXT
