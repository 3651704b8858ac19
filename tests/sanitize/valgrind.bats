#!/usr/bin/env bats
# The short way from text to sample under valgrind's memcheck: reads of what nobody wrote, which the
# other sanitizers do not see, and memory that is lost. No suppressions. The program is built for
# x86-64-v3 (make valgrind-build): valgrind knows no AVX-512.

setup_file() {
    build=$(dirname "${DEQ:-build/deq}")-valgrind
    [ -x "$build/deq" ] || { export MISSING="$build is not built (make valgrind-build)"; return 0; }
    command -v valgrind > /dev/null || { export MISSING="no valgrind: apt-get install valgrind"; return 0; }
    export build OMP_NUM_THREADS=1
    cd "$BATS_FILE_TMPDIR"
    awk 'BEGIN { for (i = 0; i < 60; i++) print "the king said to the son of the king " i % 9 }' > text
    head -n 8 text > valid
    cat > t.json <<CONFIG
{ "data": { "dir": "data" },
  "model": { "d_model": 8, "n_head": 2, "d_inner": 8, "init_std": 0.1 },
  "solver": { "forward": { "max_iter": 4 } },
  "train": { "steps": 3, "batch": 2, "tgt_len": 8, "mem_len": 4, "pretrain_steps": 1,
             "eval_every": 3, "checkpoint_every": 2 },
  "eval": { "batch": 2, "tgt_len": 8, "mem_len": 4, "max_iter": 3 } }
CONFIG
}

setup() {
    [ -z "${MISSING:-}" ] || skip "$MISSING"
}

# checked deq-arguments...
checked() {
    cd "$BATS_FILE_TMPDIR"
    valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite \
        --errors-for-leak-kinds=definite "$build/deq" "$@"
}

@test "a lost block and a read of nothing are seen" {
    cd "$BATS_FILE_TMPDIR"
    printf '#include <stdlib.h>\nint main(int n, char **v) { int *p = malloc(8); (void)v;\n' > bad.c
    printf 'return n > 1 ? (p[1] > 3) : (malloc(9) == 0); }\n' >> bad.c
    ${CC:-gcc} -O0 -g -o bad bad.c
    run valgrind -q --error-exitcode=99 ./bad read
    [ "$status" -eq 99 ]
    run valgrind -q --error-exitcode=99 --leak-check=full ./bad
    [ "$status" -eq 99 ]
}

@test "tokenize" {
    checked tokenize --train text --valid valid --out data
}

@test "three steps of training" {
    checked train -q --threads 1 --config t.json --out run
}

@test "eval" {
    checked eval run/last.bin --threads 1 --json
}

@test "sample" {
    checked sample --checkpoint run/last.bin --threads 1 --prompt "the king" --tokens 5
}
