#!/usr/bin/env bats
# Races, by clang's thread sanitizer (make tsan). gcc's is no help with OpenMP: its libgomp is not
# built for it, so that every barrier looks like a race. Debian's LLVM has Archer, which tells the
# sanitizer of every fork, join and barrier of LLVM's OpenMP library.
#
# Seen: our own code, in OpenMP regions as well as the reader's and the tokenizer's threads. Not
# seen: what happens inside oneDNN and OpenBLAS, which are not compiled for it.

setup_file() {
    build=$(dirname "${DEQ:-build/deq}")-tsan
    [ -x "$build/deq" ] || {
        export MISSING="$build is not built (make tsan, with clang and libomp-dev)"
        return 0
    }
    archer=$(ls /usr/lib/llvm-*/lib/libarcher.so 2>/dev/null | tail -n 1)
    [ -n "$archer" ] || { export MISSING="no libarcher.so: apt-get install libomp-dev"; return 0; }
    export build archer OMP_TOOL_LIBRARIES=$archer OMP_NUM_THREADS=2
    export LD_LIBRARY_PATH=$(dirname "$archer")
    export TSAN_OPTIONS="exitcode=99 ignore_noninstrumented_modules=1"
    cd "$BATS_FILE_TMPDIR"
    awk 'BEGIN { for (i = 0; i < 400; i++) print "the king said to the son of the king " i % 90 }' > text
    head -n 60 text > valid
}

setup() {
    [ -z "${MISSING:-}" ] || skip "$MISSING"
    cd "$BATS_FILE_TMPDIR"
}

# The two sums of race.c, racing or not: what the sanitizer says.
race() {
    clang -fopenmp -fsanitize=thread -g -O1 -o race "$BATS_TEST_DIRNAME/race.c"
    for how in openmp threads; do
        run ./race $how "$1"
        [ "$status" -eq "$2" ] || { echo "$how: $output"; return 1; }
    done
}

@test "a race is seen, between threads of OpenMP and between our own" {
    race racing 99
    [[ "$output" == *"data race"* ]]
}

@test "barriers, atomics and locks are no races" {
    race locked 0
}

@test "the reader's and the tokenizer's threads" {
    "$build/tests/data/test_stream" > out 2>&1 || { cat out; false; }
    "$build/tests/data/test_tokenize" > out 2>&1 || { cat out; false; }
}

@test "two models at work in two threads of a program" {
    "$build/tests/lib/test_threads" > out 2>&1 || { cat out; false; }
}

@test "tokenize, three steps of training, eval and sample, with two threads" {
    "$build/deq" tokenize --train text --valid valid --out data
    # large enough that loops are worth a second thread
    cat > t.json <<CONFIG
{ "data": { "dir": "data" },
  "model": { "d_model": 64, "n_head": 2, "d_inner": 128, "dropatt": 0.1 },
  "train": { "steps": 3, "batch": 8, "tgt_len": 32, "mem_len": 16, "pretrain_steps": 1,
             "eval_every": 2, "checkpoint_every": 2 },
  "eval": { "batch": 4, "tgt_len": 32, "mem_len": 16, "max_iter": 4 } }
CONFIG
    "$build/deq" train -q --threads 2 --config t.json --out run
    "$build/deq" eval run/last.bin --threads 2 --json
    "$build/deq" sample --checkpoint run/last.bin --threads 2 --prompt "the king" --tokens 5
}
