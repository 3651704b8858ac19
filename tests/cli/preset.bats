#!/usr/bin/env bats
# Training on a text without a configuration.

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    "$BATS_TEST_DIRNAME/../tools/sentences.sh" 600 >text
    "$DEQ" tokenize --train text --valid text --test text --out data/my >/dev/null
    "$DEQ" tokenize --train text --valid text --bytes --out data/bytes >/dev/null
    ln -s "$BATS_TEST_DIRNAME/../../configs" configs
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
    ln -s "$home/configs" configs
    ln -s "$home/data" data
    few=(--set train.steps=4 --set model.d_model=16 --set model.n_head=2 --set model.d_inner=32)
}

said() { [[ "$output" == *"$1"* ]] || { echo "$output"; return 1; }; }

@test "a text alone is trained on, evaluated, continued and sampled from" {
    run "$DEQ" train --data data/my "${few[@]}"
    [ "$status" -eq 0 ]
    said "preset small (minutes on 2 cores), for a training text of 0.0"
    said " MB; --preset small, medium or large chooses another"
    said "done: runs/my"
    [ -e runs/my/best.bin ]
    "$DEQ" eval runs/my --split test
    run "$DEQ" train --data data/my "${few[@]}" --set train.steps=5
    said "continuing from runs/my/last.bin at step 4"
    run "$DEQ" train runs/my --set train.steps=6
    said "continuing from runs/my/last.bin at step 5"
    run "$DEQ" train --data data/bytes "${few[@]}" -q --device cpu
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    "$DEQ" sample --checkpoint runs/bytes --prompt The --tokens 5
}

@test "--set comes last, and what belongs to the steps follows them" {
    "$DEQ" train -q --data data/my "${few[@]}" --set train.steps=40 --set train.batch=3 --out run
    grep -q '"batch": 3' run/config.json
    grep -q '"warmup_steps": 2' run/config.json
    grep -q '"pretrain_steps": 6' run/config.json
    "$DEQ" train -q --data data/my "${few[@]}" --set train.pretrain_steps=0 --out other
    grep -q '"pretrain_steps": 0' other/config.json
}

@test "--preset names one, and what does not go together is refused" {
    for name in small medium large; do
        run "$DEQ" train --data data/my --preset $name --dry-run
        [ "$status" -eq 0 ]
        said "preset $name ("
        said "as asked"
    done
    run "$DEQ" train --data data/my --preset huge
    [ "$status" -eq 64 ]
    said 'want auto, small, medium or large, got "huge"'
    run "$DEQ" train --data data/my --preset small --config configs/small.json
    [ "$status" -eq 64 ]
    said "leave out one of them"
    run "$DEQ" train --preset small
    [ "$status" -eq 64 ]
    said "scripts/kjv.sh makes data/kjv"
    "$DEQ" train -q --data data/my "${few[@]}"
    run "$DEQ" train runs/my --preset small
    [ "$status" -eq 64 ]
    # A configuration with --data is that configuration on that text.
    run "$DEQ" train --data data/my --config configs/small.json "${few[@]}" --set train.pretrain_steps=1 --dry-run
    [ "$status" -eq 0 ]
    [[ "$output" != *preset* ]]
}

@test "a folder without a text names what makes it" {
    while read -r folder remedy; do
        for how in --data=$folder "--config configs/small.json --set data.dir=$folder"; do
            # shellcheck disable=SC2086
            run "$DEQ" train $how
            [ "$status" -eq 66 ]
            said "$remedy"
        done
    done <<END
gone deq tokenize --train FILE --out gone makes it
gone/kjv scripts/kjv.sh makes it
gone/kjv/ scripts/kjv.sh makes it
gone/akjv deq tokenize --train FILE --out gone/akjv makes it
gone/wikitext-103 scripts/wikitext103.sh makes it
END
    "$DEQ" tokenize --task copy-memory --delay 5 --out copy >/dev/null
    run "$DEQ" train --data copy
    [ "$status" -eq 78 ]
    said "holds a task and no text"
}

@test "a file of a preset's name that lies here is none" {
    echo '{"model": {"d_model": 4, "n_head": 1}}' >small.json
    cp small.json small
    run "$DEQ" train --data data/my --dry-run
    [ "$status" -eq 0 ]
    rm configs
    run "$DEQ" train --data data/my --dry-run
    [ "$status" -eq 0 ] || said "the preset is neither in ./configs nor in "
}

@test "plan takes the same text and preset" {
    run "$DEQ" plan --data data/my --json --device a100
    [ "$status" -eq 0 ]
    said "preset small"
    a=$(grep -o '"train":{[^}]*}' <<<"$output")
    run "$DEQ" plan --preset medium --data data/my --device h100
    [ "$status" -eq 0 ]
    [ -n "$a" ]
}

@test "a run whose text moved goes on with --data" {
    cp -r data/my moved
    "$DEQ" train -q --data moved "${few[@]}" --out run
    mv moved elsewhere
    run "$DEQ" train run --set train.steps=5
    [ "$status" -eq 66 ]
    said "--data names it where it lies elsewhere"
    run "$DEQ" train run --set train.steps=5 --data elsewhere
    [ "$status" -eq 0 ]
    said "continuing from run/last.bin at step 4"
}
