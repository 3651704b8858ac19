# deq bench, at sizes that take no time: what it prints, not how fast it is.

setup_file()
{
    export OMP_NUM_THREADS=1
    small="--set model.d_model=16 --set model.n_head=2 --set model.d_inner=32 --set train.batch=2
        --set train.tgt_len=8 --set train.mem_len=8 --set model.vocab_size=50"
    export small
}

setup()
{
    DEQ=$(realpath "${DEQ:-build/deq}")
    cd "$BATS_TEST_TMPDIR"
}

# A training of a few steps: tiny_run FOLDER [OPTION]...
tiny_run()
{
    awk 'BEGIN { srand(7); for (i = 0; i < 300; i++) { line = ""
        for (j = 0; j < 9; j++) line = line " w" int(rand() * rand() * 20); print line } }' \
        > "$BATS_TEST_TMPDIR/text"
    "$DEQ" tokenize --train "$BATS_TEST_TMPDIR/text" --valid "$BATS_TEST_TMPDIR/text" \
        --out "$BATS_TEST_TMPDIR/data" --force
    cat > "$BATS_TEST_TMPDIR/tiny.json" <<END
{ "data": { "dir": "$BATS_TEST_TMPDIR/data" },
  "model": { "d_model": 16, "n_head": 2, "d_inner": 32, "init_std": 0.1 },
  "train": { "steps": 4, "batch": 4, "tgt_len": 12, "mem_len": 8, "warmup_steps": 4, "lr": 5e-3,
             "pretrain_steps": 2, "eval_every": 0, "checkpoint_every": 0 },
  "eval": { "batch": 2, "tgt_len": 12, "mem_len": 8, "max_iter": 12 } }
END
    "$DEQ" train -q --config "$BATS_TEST_TMPDIR/tiny.json" --out "$@"
}

@test "bench: a model of more words than are assumed without data says how to name them" {
    for what in train runtime; do
        run "$DEQ" bench $what --config wikitext103
        [ "$status" -eq 78 ]
        [[ "$output" == *"model.vocab_size: no data is read here"*"--set model.vocab_size=N" ]]
    done
}

@test "bench train: one JSON object with the machine's rates and every operation" {
    line=$("$DEQ" bench train $small --steps 2 --json | tail -1)
    for key in tokens_per_s sgemm_gflops bandwidth_gbytes_per_s gemm_fraction peak_bytes \
        product_gflops product_fraction cache_gbytes_per_s limit_step_seconds; do
        [[ "$line" =~ \"$key\":[0-9.e+-]+[,}] ]]
    done
    for key in name calls seconds flops bytes sgemm_fraction bandwidth_fraction limit_seconds; do
        [[ "$line" == *"\"$key\":"* ]]
    done
    [[ "$line" == *'"name":"attention_vjp"'* ]]
    [[ "$line" == *'"forward_evaluations":13,"backward_evaluations":12,'* ]]
}

@test "bench solve: no gradients, as many evaluations as asked" {
    line=$("$DEQ" bench solve $small --set solver.forward.max_iter=5 --steps 2 --json | tail -1)
    [[ "$line" == *'"forward_evaluations":5,"backward_evaluations":0,'* ]]
    [[ "$line" != *'"name":"attention_vjp"'* ]]
}

# With one thread, as two that wait for each other on a busy machine are far below any roof.
@test "bench train and solve: what is called a bound is one" {
    command -v python3 >/dev/null || skip "no python3"
    set -- --set model.d_model=256 --set model.n_head=8 --set model.d_inner=1024 \
        --set train.batch=4 --set train.tgt_len=64 --set train.mem_len=64 --threads 1
    for tool in train solve; do
        for set in "$*" "$small --threads 1"; do
            # shellcheck disable=SC2086
            "$DEQ" bench $tool $set --steps 2 --json >out
            python3 - out <<'PY'
import json, sys
b = json.loads(open(sys.argv[1]).read().splitlines()[-1])
assert 0 < b["product_fraction"] <= 1, b["product_fraction"]
assert 0 < b["limit_step_seconds"] <= b["step_seconds_fastest"], b["limit_step_seconds"]
for o in b["ops"]:
    assert o["product_fraction"] <= 1 and o["cache_fraction"] <= 1, o
    assert o["limit_seconds"] <= o["seconds"], o
PY
        done
    done
    # as the table has it
    "$DEQ" bench train "$@" --steps 2 >out
    grep -q '^fastest product routine [0-9.]* GFLOP/s (.*); first cache [0-9]* GB/s$' out
    grep -Eq '^bound: .* ms a step, 0\.[0-9]+ of the time it took; products reach 0\.[0-9]+$' out
    awk '/^a step: operation/ { table = 1; next } /^\(outside\)/ { table = 0 }
        table { n++; bad += !($8 <= 1 && $10 <= 1 && $11 <= $3) } END { exit bad > 0 || n < 15 }' out
}

@test "bench gradient: the reference agrees with itself, a poor way does not" {
    tiny_run "$BATS_TEST_TMPDIR/run"
    line=$("$DEQ" bench gradient --checkpoint "$BATS_TEST_TMPDIR/run/last.bin" --segments 1 \
        --tight-forward --json | tail -1)
    cosine() { sed "s/.*\"name\":\"$1\",\"cosine\":\([0-9.e-]*\).*/\1/" <<< "$line"; }
    awk "BEGIN { exit !($(cosine "implicit, anderson token, 12") > 0.9999) }"
    awk "BEGIN { exit !($(cosine "one-step") < $(cosine "implicit, anderson token, 4")) }"
    [[ "$line" == *'"name":"reference: implicit, to 3e-6","cosine":1,"error":0,'* ]]
    [[ "$line" != *null* ]]
}

@test "bench runtime: every network beside the first of its kind" {
    line=$("$DEQ" bench runtime $small --set model.nhid=16 --set model.nout=8 --steps 1 --json |
        tail -1)
    [ "$(grep -o '"name":' <<< "$line" | wc -l)" -eq 9 ]
    [ "$(grep -o '"train_ratio":1,' <<< "$line" | wc -l)" -eq 2 ]
    [[ "$line" == *'"name":"trellis, 70 layers","measure":"trellis, 70 layers",'*'"layers":70,'* ]]
    [[ "$line" == *'"name":"deq-trellis, published","measure":"trellis, 70 layers",'* ]]
    [[ "$line" == *'"forward_evaluations":13,"backward_evaluations":12,"eval_evaluations":13,'* ]]
    [[ "$line" != *null* ]]
    run "$DEQ" bench runtime $small --set model.nhid=16 --set model.nout=8 --steps 1
    [[ "$output" == *"transformer, 18 layers"*"deq-trellis"* ]]
}

@test "bench runtime --config: the common setting, whatever kind of network it has" {
    cat > "$BATS_TEST_TMPDIR/c.json" <<'END'
{ "model": { "cell": "trellis", "layers": 3, "d_model": 16, "n_head": 2, "d_inner": 32, "nhid": 16,
             "nout": 8, "vocab_size": 50 },
  "train": { "batch": 2, "tgt_len": 8, "mem_len": 8, "pretrain_steps": 0 } }
END
    names() { grep -o '"name":"[^"]*"\|"parameters":[0-9]*\|"layers":[0-9]*'; }
    plain=$("$DEQ" bench runtime $small --set model.nhid=16 --set model.nout=8 --steps 1 --json |
        names)
    [ "$("$DEQ" bench runtime --config "$BATS_TEST_TMPDIR/c.json" --steps 1 --json | names)" = "$plain" ]
    "$DEQ" bench runtime --config "$BATS_TEST_TMPDIR/c.json" --set model.start=linear --steps 1
    run "$DEQ" bench runtime --config "$BATS_TEST_TMPDIR/c.json" --checkpoint x
    [ "$status" -eq 64 ]
}

@test "bench runtime: trained networks on their data, with their perplexities" {
    tiny_run "$BATS_TEST_TMPDIR/deq"
    tiny_run "$BATS_TEST_TMPDIR/layers" --set model.layers=3
    line=$("$DEQ" bench runtime --checkpoint "$BATS_TEST_TMPDIR/layers/last.bin" \
        --checkpoint "$BATS_TEST_TMPDIR/deq/last.bin" --steps 2 --json | tail -1)
    ppl() { sed 's/.*"ppl":\([0-9.]*\).*/\1/'; }
    evaluated=$("$DEQ" eval "$BATS_TEST_TMPDIR/deq/last.bin" --json | tail -1 | ppl)
    [ "$(ppl <<< "$line")" = "$evaluated" ]
    [[ "$line" == *'"layers":3,"forward_evaluations":3,"backward_evaluations":3,'* ]]
    [[ "$line" == *'"layers":0,"forward_evaluations":10,'*'"eval_evaluations":12,'* ]]
    # what was measured is not changed
    [ "$("$DEQ" eval "$BATS_TEST_TMPDIR/deq/last.bin" --json | tail -1 | ppl)" = "$evaluated" ]
    run "$DEQ" bench runtime --checkpoint "$BATS_TEST_TMPDIR/none.bin"
    [ "$status" -eq 66 ]
}

@test "bench growth: exponents beside those of the arithmetic" {
    line=$("$DEQ" bench growth --set train.batch=4 --set train.tgt_len=32 --set train.mem_len=4 \
        --set model.vocab_size=50 --set solver.forward.max_iter=2 \
        --set solver.backward.max_iter=1 --steps 1 --json | tail -1)
    [ "$(grep -o '"growth_time":' <<< "$line" | wc -l)" -eq 20 ]
    # twice the batch is twice the products; more evaluations need no memory
    [[ "$line" == *'"name":"batch","points":[{"value":2,'*'"growth_flops":0.9'*'"value":32,'* ]]
    at_most() # AXIS EXPONENT LIMIT
    {
        local points=${line##*"\"name\":\"$1\""}
        for growth in $(grep -o "\"$2\":[0-9.e-]*" <<< "${points%%'"name":'*}" | cut -d: -f2); do
            awk "BEGIN { exit !($growth <= $3) }" || return 1
        done
    }
    at_most evaluations growth_memory 0.02
    # logits in chunks of as few rows as fit a fixed room would let a large vocabulary's tables be
    # read again and again: 1.3 at the largest
    at_most vocabulary growth_bytes 1.02
}

@test "bench refuses what it does not know" {
    run "$DEQ" bench
    [ "$status" -eq 64 ]
    run "$DEQ" bench gradient
    [ "$status" -eq 64 ]
    [[ "$output" == *"--checkpoint"* ]]
    run "$DEQ" bench --json memory
    [ "$status" -eq 64 ]
    [ "$output" = "deq bench: memory goes before its options: deq bench memory ..." ]
    run "$DEQ" bench gradient --checkpoint /nonexistent
    [ "$status" -eq 66 ]
}
