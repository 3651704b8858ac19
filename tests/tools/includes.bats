#!/usr/bin/env bats
# Arrows between the source folders point one way; the script that looks must see one that does not.

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    check=$root/tests/check-includes.sh
    tree=$BATS_TEST_TMPDIR/tree
    mkdir -p "$tree"/src/{base,backend/cpu,solver,nn,config,data,cell/trellis,deq,train} "$tree/cmd"
    echo '#include "base/status.h"' >"$tree/src/backend/a.c"
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
    plant src/train/t.c data/shard.h
    plant src/config/t.c base/json.h
    plant src/deq/t.c solver/solver.h
    plant src/nn/t.c nn/weight.h
    plant src/cell/c.c cell/trellis/trellis_cell.h
    plant src/cell/trellis/t.c cell/cell.h
    plant src/backend/cpu/t.c backend/ops.h
    plant cmd/t.c cmd/cmd.h # all of them stay in the tree
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "a backward include fails and is named with file and line" {
    plant src/base/b.h config/config.h
    [ "$status" -eq 1 ]
    [[ "$output" == *"src/base/b.h:2: base must not include \"config/config.h\""* ]]
}

@test "a sibling's header fails" {
    plant src/nn/n.c solver/solver.h
    [ "$status" -eq 1 ]
    plant src/nn/n.c nn/weight.h
    plant src/backend/cpu/n.c backend/ref/ref.h
    [ "$status" -eq 1 ]
    rm "$tree/src/backend/cpu/n.c"
    plant src/cell/trellis/n.c cell/transformer/transformer_cell.h
    [ "$status" -eq 1 ]
    [[ "$output" == *"cell/transformer is its sibling"* ]]
}

@test "the library must not include the program" {
    plant src/train/n.c cmd/cmd.h
    [ "$status" -eq 1 ]
}

@test "paths that hide the folder fail" {
    plant src/nn/n.c ../solver/solver.h
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
    rm "$tree/src/backend/a.c"
    run "$check" "$tree"
    [ "$status" -ne 0 ]
}
