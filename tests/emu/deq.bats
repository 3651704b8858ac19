# The whole program with the emulated device behind --device cuda (build/emu/deq, from make emu).

setup_file()
{
    export OMP_NUM_THREADS=1
    export DEQ_EMU_QUIET=1 # refused calls are the program's to explain
    export EMU="${DEQ%/*}/emu/deq"
    [ -x "$EMU" ] || return 0 # setup says so
    export SHARED=${DEQ_SHARED:-../shared}/reference
    export GOLDEN=$BATS_TEST_DIRNAME/../golden
    data=$BATS_FILE_TMPDIR/data
    "$BATS_TEST_DIRNAME/../tools/sentences.sh" 600 > "$BATS_FILE_TMPDIR/text"
    "$DEQ" tokenize --train "$BATS_FILE_TMPDIR/text" --valid "$BATS_FILE_TMPDIR/text" --out "$data"
    export config=$BATS_FILE_TMPDIR/tiny.json
    cat > "$config" <<END
{ "data": { "dir": "$data" },
  "model": { "d_model": 16, "n_head": 2, "d_inner": 32, "dropout": 0.1, "init_std": 0.1 },
  "train": { "steps": 20, "batch": 2, "tgt_len": 10, "mem_len": 8, "warmup_steps": 4, "lr": 2e-3,
             "pretrain_steps": 5, "eval_every": 0, "checkpoint_every": 10, "keep_last": 9 },
  "solver": { "forward": { "max_iter": 6 }, "backward": { "max_iter": 6 } },
  "eval": { "batch": 2, "tgt_len": 10, "mem_len": 8, "max_iter": 6 } }
END
    export on_cpu=$BATS_FILE_TMPDIR/on_cpu
    "$DEQ" train -q --device cpu --config "$config" --out "$on_cpu"
    export on_cuda=$BATS_FILE_TMPDIR/on_cuda
    DEQ_EMU_ORDER=shuffled "$EMU" train -q --device cuda --config "$config" --out "$on_cuda"
}

setup()
{
    [ -x "$EMU" ] || skip "no emulated program ($EMU): make emu"
}

losses()
{
    sed -n 's/.*"event":"step".*"loss":\([0-9.e-]*\).*/\1/p' "$1/log.jsonl"
}

# losses_agree FOLDER FOLDER STEPS: the losses of the last STEPS steps, within 1e-4, relatively.
losses_agree()
{
    losses "$1" | tail -n "$3" > "$BATS_TEST_TMPDIR/a"
    losses "$2" | tail -n "$3" > "$BATS_TEST_TMPDIR/b"
    paste "$BATS_TEST_TMPDIR/a" "$BATS_TEST_TMPDIR/b" | awk -v steps="$3" '
        { d = $1 - $2; if (d < 0) d = -d; if (!(NF == 2 && d <= 1e-4 * $1)) bad = 1 }
        d > worst * $1 { worst = d / $1 }
        END { print NR " losses, largest relative difference " worst; exit bad || NR != steps }'
}

@test "the committed dumps pass, short ones in every order of threads" {
    for order in ascending descending shuffled; do
        DEQ_EMU_ORDER=$order "$EMU" verify -q --device cuda "$GOLDEN"/f_mem10.safetensors \
            "$GOLDEN"/solver_tanh.safetensors
    done
    DEQ_EMU_ORDER=shuffled "$EMU" verify -q --device cuda "$GOLDEN"/dropout.safetensors
}

# The long ones are in long_*.bats.
@test "every short dump of a transformer, a trellis and the solvers passes" {
    [ -d "$SHARED" ] || skip "no reference dumps ($SHARED; set DEQ_SHARED)"
    "$EMU" verify -q --device cuda "$SHARED"/*_f*.safetensors "$SHARED"/*_unrolled3.safetensors \
        "$SHARED"/solver_*.safetensors
}

@test "20 training steps follow the losses of the CPU" {
    losses_agree "$on_cuda" "$on_cpu" 20
}

@test "a checkpoint of one device continues on the other" {
    out=$BATS_TEST_TMPDIR/to_cpu
    "$DEQ" train -q --device cpu --config "$config" --resume "$on_cuda/step-00000010.bin" \
        --out "$out"
    losses_agree "$out" "$on_cpu" 10
    out=$BATS_TEST_TMPDIR/to_cuda
    "$EMU" train -q --device cuda --config "$config" --resume "$on_cpu/step-00000010.bin" \
        --out "$out"
    losses_agree "$out" "$on_cpu" 10
}

@test "no device, an old driver, an unknown chip: one error that says what to do" {
    out=$BATS_TEST_TMPDIR/none
    for fault in CUDA_VISIBLE_DEVICES= DEQ_EMU_DRIVER=11040 DEQ_EMU_DRIVER=0 DEQ_EMU_CC=7.5 \
        DEQ_EMU_CUBLAS=0; do
        run env "$fault" "$EMU" train --device cuda --config "$config" --out "$out"
        echo "$fault: $status: $output"
        [ "$status" -ne 0 ]
        [ "$status" -lt 128 ]
        [ "$(grep -c '^deq' <<< "$output")" -eq 1 ]
        [[ "$output" == *"--device cpu"* ]]
        run env "$fault" "$EMU" verify -q --device auto "$GOLDEN/solver_tanh.safetensors"
        echo "$fault: auto: $output"
        [ "$status" -eq 0 ]
        [[ "$output" == *"device: cpu"* ]]
    done
}

@test "out of device memory: an error, and nothing half-written" {
    for n in 1 2 3 5 8 13 21; do
        out=$BATS_TEST_TMPDIR/oom$n
        DEQ_EMU_FAIL_MALLOC=$n run "$EMU" train --device cuda --config "$config" \
            --set train.steps=1 --set train.pretrain_steps=0 --out "$out"
        echo "$n: $status: $output"
        [ "$status" -lt 128 ]
        [ "$status" -eq 0 ] || [[ "$output" == *"memory"* ]]
    done
}

@test "a device lost in mid-run: an error, and the last checkpoint is intact" {
    out=$BATS_TEST_TMPDIR/lost
    mkdir "$out"
    cp "$on_cuda/config.json" "$out"
    cp "$on_cuda/step-00000010.bin" "$out/last.bin"
    DEQ_EMU_LOSE_AT=1000 run "$EMU" train --device cuda --config "$config" --out "$out"
    echo "$status: $output"
    [ "$status" -ne 0 ]
    [ "$status" -lt 128 ]
    [[ "$output" == *"device"* ]]
    cmp "$on_cuda/step-00000010.bin" "$out/last.bin"
    "$DEQ" info --check "$out/last.bin" > /dev/null
}

@test "graphs that CUDA refuses: one warning, and the same losses; DEQ_CUDA_GRAPHS=0 asks for none" {
    for n in 1 50; do
        out=$BATS_TEST_TMPDIR/refused$n
        DEQ_EMU_FAIL_CAPTURE=$n run "$EMU" train -q --device cuda --config "$config" --out "$out"
        echo "$n: $status: $output"
        [ "$status" -eq 0 ]
        [ "$(grep -c "^warning: CUDA refused to record operations as a graph" <<< "$output")" -eq 1 ]
        [[ "$output" == *"DEQ_CUDA_GRAPHS=0 records none"* ]]
        diff <(losses "$out") <(losses "$on_cuda")
    done
    out=$BATS_TEST_TMPDIR/none
    DEQ_CUDA_GRAPHS=0 DEQ_EMU_FAIL_CAPTURE=1 run "$EMU" train -q --device cuda \
        --config "$config" --out "$out"
    [ "$status" -eq 0 ]
    [[ "$output" != *"warning"* ]]
    diff <(losses "$out") <(losses "$on_cuda")
    for device in cuda auto; do
        DEQ_CUDA_GRAPHS=no run "$EMU" train --device $device --config "$config" --out "$out"
        [ "$status" -eq 64 ]
        [[ "$output" == *'DEQ_CUDA_GRAPHS: want 0 or 1, got "no"'* ]]
    done
}

@test "a run that does not fit is refused before anything is made, with what would fit" {
    out=$BATS_TEST_TMPDIR/large
    DEQ_EMU_MEMORY=36600000 run "$EMU" train --device cuda --config "$config" \
        --set train.batch=64 --out "$out"
    echo "$status: $output"
    [ "$status" -eq 69 ]
    [[ "$output" == *"train.accumulate="*" in place of 1 would fit"* ]]
    [ ! -e "$out" ]
    DEQ_EMU_MEMORY=36600000 run "$EMU" train --device cuda --config "$config" \
        --set train.batch=64 --dry-run --out "$out"
    echo "$status: $output"
    [ "$status" -eq 69 ]
    [[ "$output" == *"train.accumulate="*" in place of 1 would fit"* ]]
    [ ! -e "$out" ]
}

@test "an evaluation and a sample that do not fit are refused, with what would fit" {
    DEQ_EMU_MEMORY=36300000 run "$EMU" eval --device cuda --batch 40 --json "$on_cpu/last.bin"
    echo "$status: $output"
    [ "$status" -eq 69 ]
    fits=$(sed -n 's/.*: eval.batch=\([0-9]*\) in place of 40 would fit.*/\1/p' <<< "$output")
    [ "$fits" -gt 1 ]
    DEQ_EMU_MEMORY=36300000 "$EMU" eval --device cuda --batch "$fits" --json "$on_cpu/last.bin"
    DEQ_EMU_MEMORY=35700000 run "$EMU" eval --device cuda "$on_cpu/last.bin"
    echo "$status: $output"
    [ "$status" -eq 69 ]
    [[ "$output" == *"no eval.batch would make it fit"* ]]
    DEQ_EMU_MEMORY=35700000 run "$EMU" sample --device cuda --prompt the \
        --checkpoint "$on_cpu/last.bin"
    echo "$status: $output"
    [ "$status" -eq 69 ]
    [[ "$output" == *"GiB of device memory"* ]]
}

@test "rounded products: the loss is near, the residual is what the rounding leaves" {
    for precision in tf32 bf16; do
        out=$BATS_TEST_TMPDIR/$precision
        run "$EMU" train --device cuda --config "$config" --set train.steps=6 \
            --set train.precision=$precision --set solver.backward.tol=1e-7 --out "$out"
        [ "$status" -eq 0 ]
        [[ "$output" == *"warning: solver.backward.tol: 1e-07 cannot be reached with train.precision $precision"* ]]
        run diff -q <(losses "$out") <(losses "$on_cpu" | head -6)
        [ "$status" -eq 1 ] # it does round
        paste <(losses "$out") <(losses "$on_cpu" | head -6) | awk '
            { d = $1 - $2; if (d < 0) d = -d; if (!(d <= 0.05 * $2)) bad = 1 } END { exit bad || NR != 6 }'
    done
}

# A kernel, a product and a copy of the emulated device take a millisecond each.
@test "bench train: a GPU times its operations, and is compared with itself" {
    small="--set model.d_model=16 --set model.n_head=2 --set model.d_inner=32 --set train.batch=2
        --set train.tgt_len=8 --set train.mem_len=8 --set model.vocab_size=200"
    # shellcheck disable=SC2086
    line=$("$EMU" bench train $small --device cuda --steps 1 --json | tail -1)
    [[ "$line" == *'"device":"emulated sm_90 (runs on the processor)"'* ]]
    [[ "$line" == *'"gemm_fraction":null,'* ]]
    [[ "$line" == *'"ops_timed_by":"events"'* ]]
    [[ "$line" == *'"product_routine":"cuBLAS in fp32"'* ]]
    [[ "$line" == *'"phases":[{"name":"embedding and injection","seconds":0.0'* ]]
    for key in product_gflops product_fraction copy_gbytes_per_s limit_step_seconds busy_seconds; do
        [[ "$line" =~ \"$key\":[0-9.e+-]+[,}] ]]
    done
    [[ "$line" =~ '"name":"gemm","calls":'([0-9]+)',"seconds":'([0-9.]+) ]]
    awk -v calls="${BASH_REMATCH[1]}" -v s="${BASH_REMATCH[2]}" \
        'BEGIN { d = s - calls / 1000; exit !(calls > 20 && d < 1e-9 && d > -1e-9) }'
    # shellcheck disable=SC2086
    run "$EMU" bench train $small --device cuda --steps 1
    [[ "$output" == *"fastest product routine "*" (cuBLAS in fp32, 256 x 256 x 256); copy "* ]]
    [[ "$output" != *"OpenBLAS's sgemm"* ]]
    [[ "$output" == *"MiB of the device"* ]]
}

@test "train --trace: a GPU's operations lie beside the host's, and the losses stay" {
    command -v python3 >/dev/null || skip "no python3"
    out=$BATS_TEST_TMPDIR/traced
    run "$EMU" train --device cuda --config "$config" --set train.steps=3 --set train.pretrain_steps=0 \
        --out "$out" --trace "$BATS_TEST_TMPDIR/t.json"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"t.json: a timeline for "* ]]
    python3 - "$BATS_TEST_TMPDIR/t.json" <<'PY'
import json, sys
spans = [s for s in json.load(open(sys.argv[1])) if s["ph"] == "X"]
lane = lambda n: [s for s in spans if s["tid"] == n]
assert len(lane(0)) == 3, len(lane(0))
assert len({s["name"] for s in lane(1)}) >= 6
assert len(lane(3)) > 100 and {s["name"] for s in lane(3)} >= {"gemm", "attention", "adam"}
assert all(s["dur"] >= 999 for s in lane(3) if s["name"] == "gemm")
starts = [s["ts"] for s in lane(3)]
assert min(starts) > 0
PY
    "$DEQ" train -q --device cpu --config "$config" --set train.steps=3 --set train.pretrain_steps=0 \
        --out "$out-cpu"
    losses_agree "$out" "$out-cpu" 3
}

@test "attention in bf16: the modern cell's losses are near those in float32" {
    # heads of 32 columns, several tiles of keys, segment memory, dropout of attention's weights
    modern=(--config "$config" --set model.cell=modern --set model.d_model=64 --set train.steps=6
        --set train.tgt_len=40 --set train.mem_len=50 --set model.dropatt=0.1)
    "$DEQ" train -q --device cpu "${modern[@]}" --out "$BATS_TEST_TMPDIR/float32"
    "$EMU" train -q --device cuda "${modern[@]}" --set train.precision=bf16 \
        --out "$BATS_TEST_TMPDIR/bf16"
    paste <(losses "$BATS_TEST_TMPDIR/bf16") <(losses "$BATS_TEST_TMPDIR/float32") | awk '
        { d = $1 - $2; if (d < 0) d = -d; if (!(d <= 0.01 * $2)) bad = 1 }
        d > 0 { rounded = 1 }
        END { exit bad || !rounded || NR != 6 }'
}
