#!/usr/bin/env bats
# 200 bit flips and 200 truncations at random places of a real file of every kind. What a flip in a
# plain text or in a safetensors file's numbers can be is in tests/tools/damage.c.

setup_file() {
    export OMP_NUM_THREADS=1
    sane=$(dirname "$DEQ")-asan/tests/tools/damage
    DAMAGE=$(dirname "$DEQ")/tests/tools/damage
    [ ! -x "$sane" ] || DAMAGE=$sane
    export DAMAGE
    cd "$BATS_FILE_TMPDIR"
    awk 'BEGIN { for (i = 0; i < 300; i++) print "the king said to the son of the king " i % 90 }' > text
    "$DEQ" tokenize --train text --out data
    cat > tiny.json <<CONFIG
{ "data": { "dir": "data" },
  "model": { "d_model": 8, "n_head": 2, "d_inner": 16, "init_std": 0.1 },
  "train": { "steps": 12, "batch": 2, "tgt_len": 8, "mem_len": 4, "pretrain_steps": 1,
             "eval_every": 0, "checkpoint_every": 2, "keep_last": 1 } }
CONFIG
    "$DEQ" train -q --config tiny.json --out run
}

setup() {
    [ -x "$DAMAGE" ] || skip "$DAMAGE is not built (make tests)"
    cd "$BATS_FILE_TMPDIR"
}

@test "checkpoint: every one of 200 flips and 200 cuts is refused" {
    run "$DAMAGE" checkpoint run/last.bin
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"200 bit flips: 200 refused"*"200 truncations: 200 refused"* ]]
}

@test "shard: every one is refused" {
    run "$DAMAGE" shard data/train-00000.bin
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"200 bit flips: 200 refused"*"200 truncations: 200 refused"* ]]
}

@test "vocabulary beside its shards: every one is refused" {
    run "$DAMAGE" vocab data/vocab.txt
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"200 bit flips: 200 refused"*"200 truncations: "*" 0 another valid one"* ]]
}

@test "safetensors: every cut one is refused, every flipped header" {
    cp "$BATS_TEST_DIRNAME/../golden/solver_tanh.safetensors" .
    run "$DAMAGE" safetensors solver_tanh.safetensors
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"200 truncations: 200 refused"* ]]
}

@test "configuration: every cut one is refused or means the same" {
    cp run/config.json config.json
    run "$DAMAGE" config config.json
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "log: every damaged line is dropped, every missing one noticed" {
    cp run/log.jsonl log.jsonl
    run "$DAMAGE" log log.jsonl
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"200 bit flips: "*" 0 another valid one"*"200 truncations: "*" 0 another valid one"* ]]
}

@test "log: a run that goes on says which lines are missing" {
    cp -r run short
    sed -i '2,3d' short/log.jsonl
    "$DEQ" train --config tiny.json --out short 2> said
    grep -q "log.jsonl: 2 of 12 lines that belong to the checkpoint are missing" said
    "$DEQ" train --config tiny.json --out run 2> said
    ! grep -q "missing" said
}
