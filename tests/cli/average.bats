#!/usr/bin/env bats
# Early stopping, running means of the weights, and means of checkpoints.

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    awk 'BEGIN { for (i = 0; i < 600; i++) print "one crow counts", i % 7, "stones in the jar", i * i % 5 }' >text
    awk 'BEGIN { for (i = 0; i < 200; i++) print "stones counts the crow", i % 3, "in one jar" }' >valid
    "$DEQ" tokenize --train text --valid valid --out data >/dev/null
    cat >crow.json <<CONFIG
{ "data": { "dir": "$home/data" },
  "model": { "d_model": 12, "n_head": 2, "d_inner": 24, "init_std": 0.1, "dropout": 0 },
  "train": { "steps": 24, "batch": 4, "tgt_len": 12, "mem_len": 6, "pretrain_steps": 2,
             "warmup_steps": 2, "lr": 1e-2, "eval_every": 4, "checkpoint_every": 6, "keep_last": 9 },
  "eval": { "batch": 2, "tgt_len": 10, "mem_len": 6, "max_iter": 8 } }
CONFIG
    "$DEQ" train -q --config crow.json --set train.ema=0.8 --out ema
    "$DEQ" train -q --config crow.json --out plain
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
}

said() { [[ "$output" == *"$1"* ]] || { echo "$output"; return 1; }; }
digest() { "$DEQ" info --json "$1" | grep -o '"weights_digest":"[0-9a-f]*"'; }
nll() { "$DEQ" eval --json "$1" | tail -n 1 | sed 's/.*"nll":\([0-9.]*\).*/\1/'; }
logged() { sed -n 's/.*"event":"evaluation","step":'"$2"',"nll":\([0-9.]*\).*/\1/p' "$1/log.jsonl"; }
state() { "$DEQ" info --state "$2" | sed -n "s/^  \"$1\": \([^,]*\),\$/\1/p" | head -n 1; }
# like A B TOLERANCE
like() { awk "BEGIN { d = $1 - $2; exit !(d < $3 && d > -$3) }"; }

@test "with train.ema evaluations, samples and exports take the mean, and training does not" {
    # the training is the one without: its losses are the same
    steps() { grep '"event":"step"' "$home/$1/log.jsonl" | grep -o '"loss":[0-9.]*'; }
    [ "$(steps ema)" = "$(steps plain)" ]
    [ "$(digest "$home/ema/last.bin")" != "$(digest "$home/plain/last.bin")" ]
    # the evaluation in the log is that of the file, whose weights are the mean
    like "$(nll "$home/ema/last.bin")" "$(logged "$home/ema" 24)" 1e-6
    ! like "$(logged "$home/ema" 24)" "$(logged "$home/plain" 24)" 1e-6 || return 1
    "$DEQ" export "$home/ema/last.bin" --out w >/dev/null
    "$DEQ" import w --out w.bin >/dev/null
    [ "$(digest w.bin)" = "$(digest "$home/ema/last.bin")" ]
    "$DEQ" sample --checkpoint "$home/ema" --prompt one --tokens 3
    "$DEQ" info --check "$home/ema/last.bin" | grep '^check: all'
}

@test "a run with train.ema that was cut goes on bit for bit, and without it from the weights under training" {
    "$DEQ" train -q --config "$home/crow.json" --set train.ema=0.8 --out cut \
        --resume "$home/ema/step-00000012.bin"
    [ "$(digest cut/last.bin)" = "$(digest "$home/ema/last.bin")" ]
    "$DEQ" train -q --config "$home/crow.json" --out off --resume "$home/ema/step-00000012.bin"
    [ "$(digest off/last.bin)" = "$(digest "$home/plain/last.bin")" ]
    # Switched on later, the mean begins at the weights.
    "$DEQ" train -q --config "$home/crow.json" --set train.ema=0.8 --out on \
        --resume "$home/plain/step-00000012.bin"
    [ "$(digest on/last.bin)" != "$(digest "$home/plain/last.bin")" ]
    # Another run takes the mean as its weights.
    "$DEQ" train -q --config "$home/crow.json" --init-from "$home/ema/last.bin" --out new \
        --set train.steps=3 --set train.lr=1e-30
    [ "$(digest new/last.bin)" = "$(digest "$home/ema/last.bin")" ]
}

@test "the memory of the mean is in the plan" {
    total() { "$DEQ" plan --device a100 --config "$home/crow.json" --json "$@" | tail -n 1 |
        sed 's/.*"memory":{[^}]*"total":\([0-9]*\).*/\1/'; }
    [ "$(total --set train.ema=0.9)" -gt "$(total)" ]
    "$DEQ" plan --device a100 --config "$home/crow.json" --set train.ema=0.9 --memory |
        grep -q "average of the weights"
}

@test "train.patience ends a training whose validation loss does not fall, and says so" {
    few=(--config "$home/crow.json" --set train.patience=3 --set train.steps=400 --set train.lr=3e-1
        --set train.pretrain_steps=0 --set train.schedule=constant)
    run "$DEQ" train "${few[@]}" --out run
    [ "$status" -eq 0 ]
    said "evaluations in a row were not below"
    step=$(state step run/last.bin)
    best=$(state best_step run/last.bin)
    [ "$step" -eq $((best + 12)) ]
    [ "$step" -lt 400 ]
    said "ended at step $step of 400: 3 evaluations in a row"
    said "at step $best"
    # The same command has nothing to do, and one with more patience goes on.
    run "$DEQ" train "${few[@]}" --out run
    [ "$status" -eq 0 ]
    said "nothing left to do: at step $step train.patience had run out"
    run "$DEQ" train "${few[@]}" --out run --set train.patience=4
    said "continuing from run/last.bin at step $step"
    [ "$(state step run/last.bin)" -gt "$step" ]
    # The count survives a stop.
    "$DEQ" train -q "${few[@]}" --out cut --set train.steps=$((best + 8))
    [ "$(state waited cut/last.bin)" -eq 2 ]
    "$DEQ" train -q "${few[@]}" --out cut
    [ "$(state step cut/last.bin)" -eq "$step" ]
}

@test "average makes the mean of checkpoints, which eval, sample, export and train take" {
    a=$home/plain/step-00000012.bin b=$home/plain/step-00000018.bin
    run "$DEQ" average "$a" "$b" "$home/plain/last.bin" --out mean.bin
    [ "$status" -eq 0 ]
    said "mean.bin: the mean of 3 checkpoints, of step 12, 18, 24"
    [ "$(state step mean.bin)" -eq 0 ]
    "$DEQ" eval mean.bin >/dev/null
    "$DEQ" sample --checkpoint mean.bin --prompt one --tokens 3
    "$DEQ" train -q --config "$home/crow.json" --init-from mean.bin --out from --set train.steps=3
    if python3 -c 'import numpy' 2>/dev/null; then
        for file in "$a" "$b" "$home/plain/last.bin" mean.bin; do
            "$DEQ" export "$file" --out "$(basename "$file" .bin).safetensors" >/dev/null
        done
        python3 - <<'END'
import json, numpy
def load(name):
    raw = open(name + ".safetensors", "rb").read()
    n = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:8 + n])
    return {k: numpy.frombuffer(raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]], "<f4")
            for k, v in head.items() if k != "__metadata__"}
parts = [load(n) for n in ("step-00000012", "step-00000018", "last")]
for name, mean in load("mean").items():
    want = sum(p[name].astype(float) for p in parts) / 3
    assert abs(mean - want).max() <= 1e-7 * max(1, abs(want).max()), name
END
    fi
    # the mean of equals is the same, bit for bit
    "$DEQ" average "$a" "$a" --out same.bin --json | grep -qF '"checkpoints":[{"file":"'"$a"'","step":12},{'
    [ "$(digest same.bin)" = "$(digest "$a")" ]
}

@test "average refuses what has no mean, by name" {
    "$DEQ" train -q --config "$home/crow.json" --set model.d_inner=36 --set train.steps=3 --out wide
    run "$DEQ" average "$home/plain" wide --out mean.bin
    [ "$status" -eq 78 ]
    said "wide/best.bin: was made with model.d_inner 36, and $home/plain/best.bin with 24"
    "$DEQ" tokenize --train "$home/valid" --valid "$home/valid" --out data >/dev/null
    "$DEQ" train -q --config "$home/crow.json" --set data.dir=data --set train.steps=3 --out foreign
    run "$DEQ" average "$home/plain" foreign --out mean.bin
    [ "$status" -ne 0 ]
    said "foreign/best.bin: "
    run "$DEQ" average "$home/plain" --out mean.bin
    [ "$status" -eq 64 ]
    said "want 2 to 64 checkpoints, got 1"
    run "$DEQ" average "$home/plain" gone.bin --out mean.bin
    [ "$status" -eq 66 ]
    [ ! -e mean.bin ]
    : >there.bin
    run "$DEQ" average "$home/plain" "$home/ema" --out there.bin
    [ "$status" -eq 73 ]
}
