# What surrounds the program must not change its numbers.

setup_file()
{
    cd "$BATS_FILE_TMPDIR"
    "$BATS_TEST_DIRNAME/../tools/sentences.sh" 400 > text
    "$DEQ" tokenize --train text --valid text --out data
    # Wide enough that oneDNN divides its products among threads.
    cat > c.json <<END
{ "data": { "dir": "data" },
  "model": { "d_model": 64, "n_head": 2, "d_inner": 256, "init_std": 0.1 },
  "train": { "steps": 8, "batch": 8, "tgt_len": 32, "mem_len": 32, "warmup_steps": 2, "lr": 5e-3,
             "pretrain_steps": 2, "eval_every": 0 },
  "eval": { "batch": 4, "tgt_len": 32, "mem_len": 32, "max_iter": 12 } }
END
    OMP_NUM_THREADS=1 "$DEQ" train -q --device cpu --config c.json --out one
}

nll_of()
{
    env "$@" "$DEQ" eval --device cpu --json one/last.bin 2>/dev/null | tail -n 1 |
        sed 's/.*"nll":\([0-9.e+-]*\).*/\1/'
}

loss_of()
{
    rm -rf again
    env "$@" "$DEQ" train -q --device cpu --config c.json --out again 2>/dev/null
    sed -n '/"event":"step"/s/.*"loss":\([0-9.e+-]*\).*/\1/p' again/log.jsonl | tail -n 1
}

# Sums in another order differ by rounding: some 1e-7 of each, in thousands of terms.
same()
{
    awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a > 0 && d * d < 1e-10 * a * a) }'
}

@test "limits on threads leave the loss of an evaluation as it is" {
    cd "$BATS_FILE_TMPDIR"
    want=$(nll_of OMP_NUM_THREADS=1)
    same "$want" "$(nll_of OMP_NUM_THREADS=2)"
    same "$want" "$(nll_of OMP_NUM_THREADS=2 OMP_THREAD_LIMIT=1)"
    same "$want" "$(nll_of OMP_NUM_THREADS=4 OMP_THREAD_LIMIT=2)"
    same "$want" "$(nll_of OMP_NUM_THREADS=2 OMP_MAX_ACTIVE_LEVELS=0)"
    same "$want" "$(nll_of OMP_NUM_THREADS=3 OMP_DYNAMIC=true)"
    same "$want" "$(nll_of OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=1)"
    same "$want" "$(nll_of OMP_NUM_THREADS=2,2 OMP_NESTED=true OMP_SCHEDULE=dynamic)"
    same "$want" "$(nll_of OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive OMP_PROC_BIND=close)"
    same "$want" "$(nll_of OMP_NUM_THREADS=2 ONEDNN_DEFAULT_FPMATH_MODE=ANY)"
    same "$want" "$(nll_of OMP_NUM_THREADS=2 ONEDNN_MAX_CPU_ISA=AVX2)"
    same "$want" "$(nll_of LC_ALL=de_DE.UTF-8 LC_NUMERIC=de_DE)"
}

@test "limits on threads leave a training as it is" {
    cd "$BATS_FILE_TMPDIR"
    want=$(loss_of OMP_NUM_THREADS=1)
    same "$want" "$(loss_of OMP_NUM_THREADS=2 OMP_THREAD_LIMIT=1)"
    same "$want" "$(loss_of OMP_NUM_THREADS=4 OMP_THREAD_LIMIT=2)"
}

@test "fewer threads than asked for are told, and so is a crowd on few processors" {
    cd "$BATS_FILE_TMPDIR"
    OMP_THREAD_LIMIT=1 run "$DEQ" eval --device cpu --threads 2 one/last.bin
    [ "$status" -eq 0 ]
    [[ "$output" == *"threads: 1 instead of 2"* ]]
    run taskset -c "$(taskset -cp $$ | sed 's/.*: \([0-9]*\).*/\1/')" \
        "$DEQ" eval --device cpu --threads 2 one/last.bin
    [ "$status" -eq 0 ]
    [[ "$output" == *"threads: 2 share 1 processors"* ]]
}

# said_beside NAME=VALUE...: what a training that finds no data says beside as many busy shells as there
# are processors, which leave none to a second thread.
said_beside()
{
    local shells=() n
    for ((n = $(nproc --all); n > 0; n--)); do
        sh -c 'while :; do :; done' >/dev/null 3>&- &
        shells+=($!)
    done
    run env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT OMP_NUM_THREADS=2 "$@" "$DEQ" train --device cpu \
        --config c.json --set data.dir=none --out busy
    kill "${shells[@]}"
    echo "$output"
}

@test "other programs on the processors are told of, unless it is said how threads wait" {
    cd "$BATS_FILE_TMPDIR"
    told="threads: 2, beside [0-9]* of other programs on [0-9]* processors; OMP_WAIT_POLICY=passive"
    said_beside | tee /dev/stderr | grep -c "$told"
    for choice in OMP_WAIT_POLICY=active GOMP_SPINCOUNT=1000; do
        said=$(said_beside $choice)
        [[ "$said" == *"cannot open the vocabulary"* ]]
        [ "$(grep -c "$told" <<<"$said")" -eq 0 ]
    done
}

@test "with little address space the program runs, or ends with a message" {
    cd "$BATS_FILE_TMPDIR"
    # in small steps, since libraries differ in what they do where memory ends inside them
    for kib in $(seq 90000 4000 180000) 200000 300000 500000; do
        run bash -c "ulimit -v $kib; OMP_NUM_THREADS=1 timeout 300 '$DEQ' --version"
        [ "$status" -ne 124 ]
        [ -n "$output" ]
        run bash -c "ulimit -v $kib; OMP_NUM_THREADS=1 timeout 300 '$DEQ' eval --device cpu one/last.bin"
        [ "$status" -ne 124 ]
        [ -n "$output" ]
    done
}
