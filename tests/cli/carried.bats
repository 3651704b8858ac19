#!/usr/bin/env bats
# State belongs to the data and settings it was made with. When those change it is dropped, and said.

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    awk 'BEGIN { for (i = 0; i < 900; i++) print "one hen lays", i % 7, "eggs in nest", i % 5 }' >text
    awk 'BEGIN { for (i = 0; i < 900; i++) print "one nest lays", i * i % 7, "hen in eggs", i % 3 }' >other
    "$DEQ" tokenize --train text --valid text --out data
    "$DEQ" tokenize --train other --valid other --vocab data/vocab.txt --out otherdata
    cat >hen.json <<CONFIG
{ "data": { "dir": "$home/data" },
  "model": { "d_model": 12, "n_head": 2, "d_inner": 24, "init_std": 0.1 },
  "train": { "steps": 10, "batch": 4, "tgt_len": 12, "mem_len": 6, "pretrain_steps": 2,
             "warmup_steps": 4, "lr": 4e-3, "log_every": 1, "eval_every": 5, "checkpoint_every": 0 },
  "eval": { "batch": 2, "tgt_len": 10, "mem_len": 6, "max_iter": 8 } }
CONFIG
    "$DEQ" train -q --config hen.json --out run
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
    cp -r "$home/run" run
}

on() # KEY=VALUE... [OPTION]...: trains in ./run
{
    local set=()
    while [[ $# -gt 0 && $1 == *.*=* ]]; do
        set+=(--set "$1")
        shift
    done
    run "$DEQ" train --config "$home/hen.json" --out run "${set[@]}" "$@"
    [ "$status" -eq 0 ] || { echo "$output"; return 1; }
}

said() { [[ "$output" == *"$1"* ]] || { echo "$output"; return 1; }; }
not_said() { [[ "$output" != *"$1"* ]] || { echo "$output"; return 1; }; }

state() # KEY [FILE]
{
    "$DEQ" info "${2:-run/last.bin}" --state | sed -n "s/^  \"$1\": \([^,]*\),\$/\1/p" | head -n 1
}

@test "another batch or length goes on at the same token" {
    [ "$(state position)" -eq 480 ]
    on train.steps=11 train.batch=8
    not_said "read again"
    said "memory belongs to another text, batch or place"
    [ "$(state position)" -eq 576 ]
    rm -rf run && cp -r "$home/run" run
    on train.steps=11 train.tgt_len=24
    not_said "memory belongs"
    [ "$(state position)" -eq 576 ]
    rm -rf run && cp -r "$home/run" run
    on train.steps=11 train.tgt_len=7
    said "4 tokens are read again"
    said "memory belongs"
    [ "$(state position)" -eq 504 ]
    # A shorter memory keeps its newest positions.
    rm -rf run && cp -r "$home/run" run
    on train.steps=11 train.mem_len=3
    not_said "memory belongs"
    # A text of as many tokens in another folder is the same text.
    cp -r "$home/data" moved
    rm -rf run && cp -r "$home/run" run
    on train.steps=11 data.dir=moved
    not_said another
    [ "$(state position)" -eq 528 ]
}

@test "another training text is read from its start, and its validation text has its own best loss" {
    on train.steps=15 data.dir="$home/otherdata"
    said "another training text than before"
    said "was measured on another validation text: best.bin begins anew"
    [ "$(state position)" -eq 240 ]
    [ "$(state best_step)" -eq 15 ]
    [ "$(state step run/best.bin)" -eq 15 ]
}

@test "a best loss of other settings or of another folder is dropped, that of the same is kept" {
    on train.steps=15 train.lr=1e-9 eval.max_iter=2
    said "was measured with eval.max_iter 8, not 2: best.bin begins anew"
    [ "$(state best_step)" -eq 15 ]
    on train.steps=16 train.lr=1e-9 eval.max_iter=2 --resume run/last.bin
    not_said "best.bin begins anew"
    "$DEQ" train -q --config "$home/hen.json" --resume run/best.bin --set train.steps=20 \
        --set train.lr=1e-9 --out new
    [ -e new/best.bin ]
}

@test "what pre-training measured is not the best loss of the equilibrium" {
    "$DEQ" train -q --config "$home/hen.json" --set train.steps=7 --set train.pretrain_steps=6 \
        --set train.eval_every=1 --set train.lr=1e-9 --set eval.max_iter=1 --out pre
    [ "$(grep -c '"step":7,.*"best":true' pre/log.jsonl)" -eq 1 ]
    [ "$(state step pre/best.bin)" -eq 7 ]
}

@test "--reset begins anew what it names, and nothing else" {
    on train.steps=12 --reset optimizer
    said "begun anew: optimizer"
    [ "$(state updates)" -eq 2 ]
    [ "$(state position)" -eq 576 ]
    rm -rf run && cp -r "$home/run" run
    on train.steps=30 --reset schedule
    said "the learning rate rises over 4 steps to 0.004 and falls by a cosine to 0 at step 30"
    [ "$(state updates)" -eq 30 ]
    grep -q '"step":11,.*"lr":0.001,' run/log.jsonl
    grep -q '"step":14,.*"lr":0.004,' run/log.jsonl
    rm -rf run && cp -r "$home/run" run
    on train.steps=12 --reset data,optimizer
    [ "$(state position)" -eq 96 ]
    [ "$(state updates)" -eq 2 ]
    [ "$(state best_step)" -eq 12 ]
    run "$DEQ" train --config "$home/hen.json" --out run --reset moments
    [ "$status" -eq 64 ]
    said "want a list of optimizer, schedule and data"
}

@test "a run that was stopped does not reset again by the same command" {
    # Until it has done a step more than the log has, however long that takes.
    again()
    {
        local next=$(($(grep -c '"event":"step"' run/log.jsonl) + 1)) pid
        "$DEQ" train --config "$home/hen.json" --out run --set train.steps=90000000 \
            --reset optimizer 2>said 3>&- &
        pid=$!
        until grep -q "\"step\":$next," run/log.jsonl || ! kill -0 $pid; do sleep 0.02; done
        kill -TERM $pid
        status=0
        wait $pid || status=$?
        [ "$status" -eq 75 ]
        output=$(cat said)
    }
    again
    said "begun anew: optimizer"
    [ "$(state updates)" -eq $(($(state step) - 10)) ]
    again
    not_said "begun anew"
    [ "$(state updates)" -eq $(($(state step) - 10)) ]
}

@test "--init-from takes weights only" {
    "$DEQ" train -q --config "$home/hen.json" --init-from run/last.bin --set train.steps=3 \
        --set train.lr=1e-30 --out new
    [ "$(state step new/last.bin)" -eq 3 ]
    [ "$(state updates new/last.bin)" -eq 3 ]
    [ "$(state position new/last.bin)" -eq 144 ]
    digest() { "$DEQ" info --json "$1" | grep -o '"weights_digest":"[0-9a-f]*"'; }
    [ "$(digest new/last.bin)" = "$(digest run/last.bin)" ]
    # The same command goes on, and one with other weights does not take the folder.
    run "$DEQ" train --config "$home/hen.json" --init-from run/last.bin --set train.steps=5 --out new
    said "continuing from new/last.bin at step 3"
    cp run/last.bin copy.bin
    run "$DEQ" train --config "$home/hen.json" --init-from copy.bin --set train.steps=5 --out new
    [ "$status" -eq 73 ]
    said "did not begin with the weights of copy.bin"
    run "$DEQ" train --config "$home/hen.json" --init-from copy.bin --reset data --out x
    [ "$status" -eq 64 ]
    run "$DEQ" train --config "$home/hen.json" --init-from copy.bin --resume copy.bin --out x
    [ "$status" -eq 64 ]
}

@test "weights of another vocabulary are refused, with a remedy that works" {
    "$DEQ" tokenize --train "$home/other" --valid "$home/other" --out foreign
    run "$DEQ" train --config "$home/hen.json" --init-from run/last.bin --set data.dir=foreign --out new
    [ "$status" -eq 65 ]
    said "tokenize the text with deq tokenize --vocab run/last.bin"
    for vocab in run/last.bin run; do
        "$DEQ" tokenize --train "$home/other" --valid "$home/other" --vocab $vocab --out foreign --force
        cmp foreign/vocab.txt "$home/data/vocab.txt"
    done
    "$DEQ" train -q --config "$home/hen.json" --init-from run/last.bin --set data.dir=foreign --out new
}

@test "a finished run given more steps begins its schedule anew, and says how" {
    on train.steps=30
    said "20 more steps with a schedule of their own: the learning rate rises over 4 steps to 0.004 and falls by a cosine to 0 at step 30"
    not_said "goes on along the new curve"
    grep -q '"step":11,.*"lr":0.001,' run/log.jsonl
    grep -q '"step":14,.*"lr":0.004,' run/log.jsonl
    [ "$(state schedule_start)" -eq 10 ]
    # A run that has not finished goes on along another curve, and one whose rate does not depend on
    # its end says nothing.
    "$DEQ" train -q --config "$home/hen.json" --set train.steps=90000000 --out cut --time-limit 1s || true
    step=$(state step cut/last.bin)
    run "$DEQ" train cut --set train.steps=$((step + 2))
    said "the learning rate goes on along the new curve, from "
    not_said "a schedule of their own"
    on train.steps=32 train.schedule=constant
    said "the learning rate goes on along the new curve, from 0.004"
    on train.steps=33 train.schedule=constant
    not_said "learning rate"
}

@test "a run stopped in its added steps goes on as one that was not" {
    cp -r run whole
    "$DEQ" train -q whole --set train.steps=30
    "$DEQ" train -q run --set train.steps=30 --time-limit 0.001s || true
    "$DEQ" train -q run
    digest() { "$DEQ" info --json "$1" | grep -o '"weights_digest":"[0-9a-f]*"'; }
    [ "$(state step)" -eq 30 ]
    [ "$(digest run/last.bin)" = "$(digest whole/last.bin)" ]
}

@test "wsd stays, cools down, keeps what was before that, and goes on from its end" {
    wsd=(--set train.schedule=wsd --set train.cooldown_share=0.3 --set train.keep_last=0)
    "$DEQ" train -q --config "$home/hen.json" --out wsd "${wsd[@]}"
    rates() { sed -n 's/.*"event":"step".*"lr":\([^,]*\),.*/\1/p' wsd/log.jsonl | tr '\n' ' '; }
    [[ "$(rates)" == "0.001 0.002 0.003 0.004 0.004 0.004 0.004 0.00266"*" 0.0013"*" 0 " ]]
    ls wsd/step-*
    [ "$(state step wsd/step-00000007.bin)" -eq 7 ]
    run "$DEQ" train wsd --set train.steps=20
    said "10 more steps with a schedule of their own: the learning rate rises over 2 steps to 0.004, stays there and falls to 0 over the last 3 steps, up to 20"
    said "before the last cool-down it was wsd/step-00000007.bin: --resume with that file and another --out"
    "$DEQ" train -q --config "$home/hen.json" "${wsd[@]}" --set train.steps=20 --out stable \
        --resume wsd/step-00000017.bin
    run "$DEQ" train --config wsd/config.json --resume wsd/step-00000017.bin --set train.steps=40 --out longer
    said "the learning rate goes on along the new curve, from 0.004"
}

@test "the folder of a run is enough to continue it" {
    run "$DEQ" train run/ --set train.steps=12
    [ "$status" -eq 0 ]
    said "continuing from run/last.bin at step 10"
    run "$DEQ" train run
    said "nothing left to do: all 12 steps are done"
    for other in "--config $home/hen.json" "--out x" "--init-from run/last.bin"; do
        # shellcheck disable=SC2086
        run "$DEQ" train run $other
        [ "$status" -eq 64 ]
        said "leave out ${other%% *}"
    done
    run "$DEQ" train run/last.bin
    [ "$status" -eq 64 ]
    said "is no folder: name that of the run"
    run "$DEQ" train nowhere
    [ "$status" -eq 66 ]
    run "$DEQ" train "$home/data"
    [ "$status" -eq 66 ]
    said "its text is trained on by --data $home/data"
    run "$DEQ" train
    [ "$status" -eq 64 ]
    said "want --data DIR, --config FILE or the folder of a run"
}

@test "steps that do not fit each other are said before anything is made" {
    for how in --dry-run "--out never"; do
        # shellcheck disable=SC2086
        run "$DEQ" train --config "$home/hen.json" --set train.pretrain_steps=10 $how
        [ "$status" -eq 78 ]
        said "with 10 unrolled steps of train.steps 10 the equilibrium would never be trained"
        # shellcheck disable=SC2086
        run "$DEQ" train --config "$home/hen.json" --set train.warmup_steps=40 $how
        [ "$status" -eq 0 ]
        said "warning: train.warmup_steps: after 10 steps of a warm-up of 40 the learning rate is 0.001 and never 0.004"
        rm -rf never
    done
    # The remedies.
    grep -o "train.pretrain_steps=[0-9]*" <<<"$("$DEQ" train --config "$home/hen.json" \
        --set train.pretrain_steps=10 --dry-run 2>&1)"
    "$DEQ" train -q --config "$home/hen.json" --set train.pretrain_steps=1 --out one
    "$DEQ" train -q --config "$home/hen.json" --set train.pretrain_steps=10 --set model.layers=2 --out two
    run "$DEQ" train --config "$home/hen.json" --set train.warmup_steps=1 --dry-run
    not_said warning
    # A schedule that begins anew has a warm-up that fits.
    on train.steps=14 train.warmup_steps=100
    not_said warning
}
