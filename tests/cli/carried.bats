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
    "$DEQ" info "${2:-run/last.bin}" | sed -n "/^state/,\$s/^  \"$1\": \([^,]*\),\$/\1/p" | head -n 1
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
    on train.steps=20 --reset schedule
    [ "$(state updates)" -eq 20 ]
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
