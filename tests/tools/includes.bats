#!/usr/bin/env bats
# Arrows between the source folders point one way; the script that looks must see one that does not.

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    check=$root/tests/check-includes.sh
    tree=$BATS_TEST_TMPDIR/tree
    mkdir -p "$tree"/src/{base,ops,cpu,ref,solve,nn,model,io,train} "$tree/cmd"
    echo '#include "base/status.h"' >"$tree/src/ops/a.c"
}

# plant FILE INCLUDE: run the script on a tree with that line.
plant() {
    printf '#include <stdio.h>\n#include "%s"\n' "$2" >"$tree/$1"
    run "$check" "$tree"
}

@test "this tree has no backward include" {
    run "$check" "$root"
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "includes along the order pass" {
    plant src/train/t.c io/shard.h
    plant src/io/t.c model/config.h
    plant src/model/t.c solve/solver.h
    plant src/nn/t.c nn/weight.h
    plant cmd/t.c cmd.h # all of them stay in the tree
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "a backward include fails and is named with file and line" {
    plant src/base/b.h model/config.h
    [ "$status" -eq 1 ]
    [[ "$output" == *"src/base/b.h:2: base must not include \"model/config.h\""* ]]
}

@test "a sibling's header fails" {
    plant src/nn/n.c solve/solver.h
    [ "$status" -eq 1 ]
    plant src/nn/n.c nn/weight.h
    plant src/cpu/n.c ref/ref.h
    [ "$status" -eq 1 ]
}

@test "the library must not include the program" {
    plant src/train/n.c cmd/cmd.h
    [ "$status" -eq 1 ]
}

@test "paths that hide the folder fail" {
    plant src/nn/n.c ../solve/solver.h
    [ "$status" -eq 1 ]
    plant src/nn/n.c weight.h
    [ "$status" -eq 1 ]
}

@test "a folder without a place in the order fails" {
    mkdir "$tree/src/extra"
    plant src/extra/x.c base/status.h
    [ "$status" -eq 1 ]
}

@test "spaces around the directive do not hide it" {
    printf '  #  include "train/trainer.h"\n' >"$tree/src/base/b.c"
    run "$check" "$tree"
    [ "$status" -eq 1 ]
}

@test "a tree without includes is an error, not a pass" {
    rm "$tree/src/ops/a.c"
    run "$check" "$tree"
    [ "$status" -ne 0 ]
}
