#!/usr/bin/env bats
# deq info: its command line, the files it knows, whole and damaged, and files it does not know.

load tiny_run

setup() {
    DEQ=${DEQ:-build/deq}
    DEQ=$(realpath "$DEQ")
    FILES=$(dirname "$DEQ")/tests/tools/info_files
    cd "$BATS_TEST_TMPDIR"
}

make_files() {
    [ -x "$FILES" ] || skip "$FILES is not built (make tests)"
    "$FILES" .
}

# flip FILE OFFSET: the lowest bit of that byte
flip() {
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    printf "\\x$(printf '%02x' $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

@test "wrong command lines: exit 64" {
    echo '{}' > a.json
    for words in "" "a b" "--config a.json b" "a.json --set x=1" "--chekc a" "--config" "-x a" \
        "--json=1 a" "--c a"; do
        run "$DEQ" info $words
        [ "$status" -eq 64 ]
        [[ "$output" == "deq info: "* ]]
    done
    run "$DEQ" info --chekc a
    [ "$output" = "deq info: --chekc: unknown option; did you mean --check?" ]
    run "$DEQ" info --json=1 a
    [ "$output" = "deq info: --json: takes no value" ]
    run "$DEQ" info --c a
    [ "$output" = "deq info: --c: more than one option begins so; see --help" ]
}

@test "missing file or folder: exit 66" {
    run "$DEQ" info nowhere.bin
    [ "$status" -eq 66 ]
    [ "$output" = "deq info: nowhere.bin: cannot open: No such file or directory" ]
    run "$DEQ" info .
    [ "$status" -eq 66 ]
    [ "$output" = "deq info: .: a folder without best.bin or last.bin" ]
    run "$DEQ" info --check nowhere.bin
    [ "$status" -eq 66 ]
}

@test "empty and foreign files: exit 65" {
    : > empty
    run "$DEQ" info empty
    [ "$status" -eq 65 ]
    [ "$output" = "deq info: empty: the file is empty" ]
    echo 'hello world, this is text' > foreign
    run "$DEQ" info foreign
    [ "$status" -eq 65 ]
    [ "$output" = "deq info: foreign: neither a checkpoint nor a shard nor a safetensors file" ]
    echo '{}' > a.json
    run "$DEQ" info a.json
    [ "$status" -eq 65 ]
    [[ "$output" == *"deq info --config FILE" ]]
}

@test "a checkpoint: what a person wants to know, and the rest when asked for" {
    make_files
    run "$DEQ" info small.bin
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "small.bin: checkpoint, step 120" ]
    [[ "$output" == *"parameters  11 in 3 tensors"*"= embedding 6 + softmax 2 + f 3"* ]]
    [ "${#lines[@]}" -le 12 ]
    run "$DEQ" info small.bin --tensors
    [[ "$output" =~ f32\ +\[2,3\]\ .*w:word_emb.emb_layers.0.weight ]]
    [[ "$output" != *"parameters"* ]]
    run "$DEQ" info small.bin --state
    [[ "$output" == '{'*'"best_valid_nll": 5.25'* ]]
    for words in "small.bin --config" "--config small.bin" "--config=small.bin" \
        "--config small.bin --check"; do
        run "$DEQ" info $words
        [ "$status" -eq 0 ]
        [[ "$output" == '{'*'"d_model": 3'* ]]
    done
    run "$DEQ" info --config small.bin --set model.d_model=4
    [ "$status" -eq 64 ]
    run "$DEQ" info train-00000.bin --state
    [ "$status" -eq 65 ]
    [ "$output" = "deq info: train-00000.bin: --state: not a checkpoint" ]
}

@test "the folder of a run and a folder of shards" {
    tiny_run
    cd "$BATS_TEST_TMPDIR"
    run "$DEQ" info "$home/run"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "using $home/run/best.bin" ]
    [ "${lines[1]}" = "$home/run/best.bin: checkpoint, step 2 of 2" ]
    [[ "$output" == *"validation  perplexity "*" a token (loss "*"), "*" bits per byte; the best, at step 2"* ]]
    [[ "$output" == *"model       transformer equilibrium, width 8, 2 heads, inner width 16"* ]]
    [[ "$output" == *"vocabulary  "*" words, divided at "*" <unk>"* ]]
    [[ "$output" == *"training    32 tokens, 16 a step, in "* ]]
    # the parts add up
    total=$("$DEQ" info "$home/run" --json 2>/dev/null | sed 's/.*"parameters":\([0-9]*\),.*/\1/')
    sum=$("$DEQ" info "$home/run" 2>/dev/null | sed -n 's/^ *= //p' | tr -d ',a-z ' | tr '+' '\n' |
        awk '{ s += $1 } END { print s }')
    [ "$sum" = "$total" ]
    # what eval finds
    bits=$("$DEQ" eval "$home/run/best.bin" --device cpu --json | tail -n 1 | sed 's/.*"bits_per_byte":\([0-9.]*\).*/\1/')
    [[ "$output" == *", $(printf %.3f "$bits") bits per byte"* ]]
    run "$DEQ" info "$home/data" --check
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "$home/data: shards of a text" ]
    [[ "${lines[1]}" == "vocabulary  "*" words, divided at "*", with"*" <unk>" ]]
    [[ "${lines[2]}" =~ ^train\ +[0-9,]+\ tokens\ in\ 1\ shard,\ of\ .*\ of\ text$ ]]
    [ "${lines[-1]}" = "check: all shards verified" ]
    run "$DEQ" info "$home/data" --json
    [[ "$output" == *'"kind":"data"'*'"splits":[{"name":"train","tokens":'*'{"name":"valid",'* ]]
    cp -r "$home/data" data
    flip data/valid-00000.bin $(($(stat -c %s data/valid-00000.bin) - 1))
    run "$DEQ" info data --check
    [ "$status" -eq 1 ]
}

@test "a checkpoint as JSON: one line with the fields that scripts read" {
    make_files
    run "$DEQ" info small.bin --json
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ "$output" == '{"file":"small.bin","kind":"checkpoint","weights_digest":"'* ]]
    [[ "$output" =~ \"weights_digest\":\"[0-9a-f]{16}\" ]]
    [[ "$output" == *'"step":120,"parameters":11,"parameters_by_part":{"embedding":6,"softmax":2,"f":3},'* ]]
    [[ "$output" == *'"config":{"model":{"d_model":3}},'* ]]
    [[ "$output" == *'"type":"f32","dims":[2,3],"bytes":24,'* ]]
    [[ "$output" != *'"check"'* ]]
    run "$DEQ" info small.bin --json --check
    [ "$status" -eq 0 ]
    [[ "$output" == *'"check":true}' ]]
}

@test "a checkpoint of another version: shown by info, refused by what would use it" {
    make_files
    run "$DEQ" info newer.bin
    [ "$status" -eq 0 ]
    for command in "eval newer.bin" "sample --prompt x --checkpoint newer.bin"; do
        run "$DEQ" $command
        [ "$status" -eq 65 ]
        [[ "${lines[-1]}" == "deq ${command%% *}: newer.bin (config):1: model.d_new: unknown key; "*"another version of deq?" ]]
    done
}

@test "a damaged checkpoint: --check exits 1 whatever byte is changed" {
    make_files
    run "$DEQ" info --check small.bin
    [ "$status" -eq 0 ]
    [[ "$output" == *"check: all 6 sections verified" ]]
    size=$(stat -c %s small.bin)
    # every byte of the header and the sections, some of the directory
    for at in $(seq 0 3 300) $(seq 300 41 $((size - 1))) $((size - 1)); do
        cp small.bin bad.bin
        flip bad.bin "$at"
        run "$DEQ" info --check bad.bin
        [ "$status" -eq 1 ]
        [[ "$output" == "deq info: bad.bin: "* ]]
        run "$DEQ" info --check --json bad.bin
        [ "$status" -eq 1 ]
        [ "$(grep -c '^{"file":"bad.bin","check":false,"error":"bad.bin: .*"}$' <<< "$output")" -eq 1 ]
        [[ "$output" != *'"check":true'* ]]
    done
}

@test "a damaged section is named" {
    make_files
    cp small.bin bad.bin
    # the first section's content follows the header of 64 bytes
    flip bad.bin 70
    run "$DEQ" info --check bad.bin
    [ "$status" -eq 1 ]
    [[ "$output" == *"state"* ]]
    run "$DEQ" info bad.bin
    [ "$status" -eq 65 ]
    [[ "$output" == *"state"* ]]
}

@test "a truncated checkpoint: exit 65, with --check 1" {
    make_files
    size=$(stat -c %s small.bin)
    for n in 1 4 8 63 64 100 $((size / 2)) $((size - 1)); do
        head -c "$n" small.bin > cut.bin
        run "$DEQ" info cut.bin
        [ "$status" -eq 65 ]
        [[ "$output" == "deq info: cut.bin: "* ]]
        run "$DEQ" info --check cut.bin
        [ "$status" -eq 1 ]
    done
}

@test "a shard" {
    make_files
    run "$DEQ" info train-00000.bin
    [ "$status" -eq 0 ]
    [[ "$output" == *"tokens      10, from number 0 of the split's 10"* ]]
    [[ "$output" == *"vocabulary  5, hash 0000000000001234"* ]]
    run "$DEQ" info --check --json train-00000.bin
    [ "$status" -eq 0 ]
    [[ "$output" == *'"kind":"shard","tokens":10,'*'"split_words":8,'*'"check":true}' ]]
}

@test "a damaged shard: every changed byte and every length" {
    make_files
    size=$(stat -c %s train-00000.bin)
    for at in $(seq 0 5 $((size - 1))) $((size - 1)); do
        cp train-00000.bin bad.bin
        flip bad.bin "$at"
        run "$DEQ" info --check bad.bin
        [ "$status" -eq 1 ]
        [[ "$output" == "deq info: bad.bin: "* ]]
    done
    for n in 1 8 127 128 140 $((size - 1)); do
        head -c "$n" train-00000.bin > cut.bin
        run "$DEQ" info cut.bin
        [ "$status" -eq 65 ]
    done
    { cat train-00000.bin; echo; } > long.bin
    run "$DEQ" info long.bin
    [ "$status" -eq 65 ]
}

@test "a safetensors file" {
    make_files
    run "$DEQ" info small.safetensors
    [ "$status" -eq 0 ]
    [ "$output" = "small.safetensors: safetensors, 2 tensors, 5 numbers, 36 bytes (--tensors lists them)" ]
    run "$DEQ" info small.safetensors --tensors
    [[ "$output" =~ F64\ +\[2,2\]\ +32\ bytes\ +a ]]
    run "$DEQ" info --json small.safetensors
    [[ "$output" == *'{"name":"b","type":"I32","dims":[],"bytes":4}'*'"numbers":5}' ]]
    size=$(stat -c %s small.safetensors)
    for n in 9 20 $((size - 1)); do
        head -c "$n" small.safetensors > cut
        run "$DEQ" info cut
        [ "$status" -eq 65 ]
        run "$DEQ" info --check cut
        [ "$status" -eq 1 ]
    done
}
