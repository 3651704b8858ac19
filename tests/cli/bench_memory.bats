# deq bench memory, at sizes that take a moment: what its numbers must say of the methods.

setup_file()
{
    export OMP_NUM_THREADS=1
    small="--set model.d_model=16 --set model.n_head=2 --set model.d_inner=32 --set model.nhid=10
           --set model.nout=6 --set train.batch=2 --set train.tgt_len=8 --set train.mem_len=8
           --set model.vocab_size=50"
    export small
    # shellcheck disable=SC2086
    "$DEQ" bench memory --json $small >"$BATS_FILE_TMPDIR/out"
    json=$BATS_FILE_TMPDIR/out
    export json
}

# Field $3 of the row of method $1 at depth $2.
row()
{
    tr '{' '\n' <"$json" | grep "\"method\":\"$1\",\"depth\":$2," | sed "s/.*\"$3\":\([0-9.]*\).*/\1/"
}

@test "one object with all that scripts read" {
    [ "$(wc -l <"$json")" -eq 1 ]
    for key in rows method depth parameters optimizer activations solver peak_planned peak_process \
        reduction_vs_trellis70 reduction_vs_transformer16 variation_10_to_200; do
        grep -q "\"$key\":" "$json"
    done
}

@test "an equilibrium's activations do not grow with evaluations, its Anderson history neither" {
    for method in "deq-transformer anderson" "deq-trellis anderson"; do
        [ "$(row "$method" 1 activations)" -eq "$(row "$method" 200 activations)" ]
        a=$(($(row "$method" 10 activations) + $(row "$method" 10 solver)))
        b=$(($(row "$method" 200 activations) + $(row "$method" 200 solver)))
        awk "BEGIN { exit !($b >= $a && $b < 1.2 * $a) }" # the trace of residuals, at this size
    done
}

@test "Broyden's history grows, explicit activations grow by the layer" {
    [ "$(row "deq-transformer broyden" 50 solver)" -gt "$((3 * $(row "deq-transformer broyden" 10 solver)))" ]
    for method in "trellis" "transformer tied"; do
        a=$(row "$method" 5 activations)
        b=$(row "$method" 10 activations)
        c=$(row "$method" 50 activations)
        [ "$(((c - b) / 40))" -eq "$(((b - a) / 5))" ]
    done
    [ "$(row "trellis, recompute 8" 70 activations)" -lt "$(($(row trellis 70 activations) / 3))" ]
}

@test "--plot draws, or says what is missing" {
    run "$DEQ" bench memory --plot out.pdf
    [ "$status" -eq 64 ]
    # before anything is measured
    run "$DEQ" bench memory --plot "$BATS_TEST_TMPDIR/none/m.svg"
    [ "$status" -eq 73 ]
    [[ "$output" == "deq bench: --plot: $BATS_TEST_TMPDIR/none/m.svg: cannot create: No such file"* ]]
    mkdir "$BATS_TEST_TMPDIR/bin"
    PATH=$BATS_TEST_TMPDIR/bin run "$DEQ" bench memory --plot "$BATS_TEST_TMPDIR/m.svg"
    [ "$status" -eq 69 ]
    [ "$output" = "deq bench: --plot: gnuplot is not installed: scripts/deps.sh plot" ]
    command -v gnuplot >/dev/null || skip "no gnuplot (scripts/deps.sh plot)"
    # shellcheck disable=SC2086
    "$DEQ" bench memory $small --plot "$BATS_TEST_TMPDIR/m.svg" >"$BATS_TEST_TMPDIR/text"
    grep -q "<svg" "$BATS_TEST_TMPDIR/m.svg"
    grep -q "variation from 10 to 200" "$BATS_TEST_TMPDIR/text"
}

@test "--config is the common setting, whatever kind of network it has" {
    cat >"$BATS_TEST_TMPDIR/c.json" <<'END'
{ "model": { "cell": "trellis", "layers": 3, "d_model": 12, "n_head": 2, "d_inner": 32, "nhid": 10,
             "nout": 6, "vocab_size": 40 },
  "solver": { "forward": { "method": "broyden" } },
  "train": { "batch": 2, "tgt_len": 8, "mem_len": 8, "pretrain_steps": 0 } }
END
    "$DEQ" bench memory --config "$BATS_TEST_TMPDIR/c.json" --set model.d_model=16 \
        --set model.vocab_size=50 --json >"$BATS_TEST_TMPDIR/out"
    rows() { grep -o '"method":"[^"]*","depth":[0-9]*,"parameters":[0-9]*' "$1"; }
    [ "$(rows "$BATS_TEST_TMPDIR/out")" = "$(rows "$json")" ]
    run "$DEQ" bench memory --config "$BATS_TEST_TMPDIR/none.json"
    [ "$status" -eq 66 ]
    [[ "$output" == "deq bench: "*"none.json: no such configuration file" ]]
}
