#!/usr/bin/env bats
# The n-th allocation, read, write, sync, rename, ... fails, in the real program. Here some n of each
# kind and scenario, spread over all; `make torture` takes every one.

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    build=$(dirname "${DEQ:-$root/build/deq}")
    export OMP_NUM_THREADS=1
    ulimit -c 0
    # in memory if it can be: a thousand runs write their files
    folder=$(mktemp -d /dev/shm/deq-torture-XXXXXX 2>/dev/null || mktemp -d)
}

teardown() {
    rm -rf "$folder"
}

# torture BUILD MOST SCENARIO...
torture() {
    program=$1/tests/torture/torture
    [ -x "$program" ] || skip "$program is not built (make tests)"
    most=$2
    shift 2
    for scenario; do
        rm -rf "$folder"/*
        "$program" -m "$most" -s "$scenario" "$folder"
    done
}

@test "tokenize" {
    torture "$build" 6 tokenize tokenize-again tokenize-share
}

@test "train" {
    torture "$build" 4 train
}

@test "train, continued" {
    torture "$build" 4 train-on
}

@test "eval, sample, info" {
    torture "$build" 6 eval sample info info-shard
}

@test "export, import" {
    torture "$build" 6 export import
}

@test "with sanitizers: tokenize and train" {
    torture "$build-asan" 2 tokenize train
}

@test "with sanitizers: eval, sample, export, import" {
    torture "$build-asan" 2 eval sample export import
}

@test "it sees a broken rule" {
    program=$build/tests/torture/torture
    [ -x "$program" ] || skip "$program is not built (make tests)"
    # a run that is told to expect no failure at all: every refusal breaks a rule
    run env DEQ_TORTURE_STRICT=1 "$program" -m 2 -s info -k read "$folder"
    [ "$status" -eq 1 ]
    [[ "$output" == *"BROKEN info read 1: not to be noticed, but it failed"* ]]
}
