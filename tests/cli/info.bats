#!/usr/bin/env bats
# deq info: its command line, and files that are not what it knows.

setup() {
    DEQ=${DEQ:-build/deq}
    DEQ=$(realpath "$DEQ")
    cd "$BATS_TEST_TMPDIR"
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
    [ "$output" = "deq info: .: a folder; give one of its files" ]
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
