#!/usr/bin/env bats
# The fuzz targets on their kept corpora, and on changed copies for a second or two: with sanitizers
# where they are built. `make fuzz` goes on where this ends.

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    build=$(dirname "${DEQ:-$root/build/deq}")
    targets=$build-asan/tests/fuzz
    [ -x "$targets/fuzz_config" ] || targets=$build/tests/fuzz
    cd "$BATS_TEST_TMPDIR"
}

# replay TARGET RUNS
replay() {
    [ -x "$targets/fuzz_$1" ] || skip "$targets/fuzz_$1 is not built (make tests)"
    # the defaults of the driver count here, not those of tests/run.sh
    unset ASAN_OPTIONS UBSAN_OPTIONS
    "$targets/fuzz_$1" -runs="$2" -seconds=5 "$root/tests/fuzz/corpus/$1"
}

@test "every target has a corpus and a test here" {
    for source in "$root"/tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        name=${name#fuzz_}
        ls "$root/tests/fuzz/corpus/$name"/* > list
        grep -q "^    replay $name " "$BATS_TEST_FILENAME"
    done
}

@test "a target that breaks fails here, and its input is kept" {
    [ -x "$targets/fuzz_vocab" ] || skip "$targets/fuzz_vocab is not built (make tests)"
    run env DEQ_FUZZ_BREAK=1 "$targets/fuzz_vocab" -save=kept "$root/tests/fuzz/corpus/vocab/one"
    [ "$status" -ne 0 ]
    cmp kept "$root/tests/fuzz/corpus/vocab/one"
}

@test "configuration" {
    replay config 3000
}

@test "vocabulary" {
    replay vocab 10000
}

@test "shard" {
    replay shard 10000
}

@test "checkpoint" {
    replay checkpoint 5000
}

@test "safetensors" {
    replay safetensors 10000
}

@test "prompt" {
    replay prompt 20000
}

@test "text that is divided at punctuation, and into subwords" {
    replay text 20000
}

@test "tokenizer of another program" {
    replay tokenizer 5000
}

@test "model of subwords" {
    replay subword 3000
}

@test "names of weights" {
    replay names 20000
}

@test "log" {
    replay log 2000
}

@test "reference dump" {
    replay dump 3000
}
