#!/usr/bin/env bats
# deq plan: its command line and what it prints.

setup() {
    DEQ=${DEQ:-build/deq}
    DEQ=$(realpath "$DEQ")
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    cd "$BATS_TEST_TMPDIR"
    export OMP_NUM_THREADS=1
    unset DEQ_BIBLE
}

wikitext() {
    "$DEQ" plan --config "$root/configs/wikitext103.json" --set model.vocab_size=267735 "$@"
}

# number KEY: of the JSON object on stdin, its first place
number() {
    grep -o "\"$1\": *[-0-9.e+]*" | head -n 1 | sed 's/.*: *//'
}

@test "wrong command lines: exit 64" {
    for words in "x" "--device" "--device tpu" "--threads 0" "--jsn" "--json=1"; do
        run "$DEQ" plan $words
        [ "$status" -eq 64 ]
        [[ "$output" == "deq plan: "* ]]
    done
    run "$DEQ" plan --device tpu
    [ "$output" = 'deq plan: --device: want cpu, h100, h200, a100, a100-40, got "tpu"' ]
}

@test "an unknown vocabulary: exit 78 and the remedy" {
    run "$DEQ" plan --device h100 --config "$root/configs/kjv.json" --set data.dir=nowhere
    [ "$status" -eq 78 ]
    [[ "$output" == *"kjv.json: model.vocab_size: not known before nowhere is tokenized: --set model.vocab_size=N" ]]
}

@test "a format that no processor has" {
    run "$DEQ" plan --set train.precision=tf32
    [ "$status" -eq 69 ]
    [[ "$output" == *"deq plan: tf32 products: no processor has them"* ]]
}

@test "a plan begins with time and memory, measured here or modelled" {
    set -- --config "$root/configs/kjv.json" --set data.dir="$BATS_TEST_TMPDIR/data" \
        --set model.d_model=32 --set model.n_head=2 --set model.d_head=0 --set model.d_embed=0 \
        --set model.d_inner=64 --threads 1
    yes 'the king said to the son of the king' | head -n 400 >text
    "$DEQ" tokenize --train text --valid text --out data >/dev/null
    "$DEQ" plan "$@" >out
    first=$(head -n 1 out)
    [[ "$first" =~ ^3,600\ steps\ of\ 1,024\ tokens:\ about\ [0-9a-z\ ]+\ here\;\ [0-9.]+\ MiB\ of\ [0-9.]+\ GiB$ ]]
    grep -Eq '^a step of [0-9.]+ ms, [0-9]+ tokens/s, measured here; at the peaks it would take [0-9.]+ ms$' out
    [ "$(grep -c '^operation, a step' out)" -eq 0 ]
    # the same memory in every command, and the same form of the time
    dry=$("$DEQ" train "$@" --dry-run --device cpu 2>&1 | grep '^3,600 steps')
    [ "${dry##*; }" = "${first##*; }" ]
    [[ "$dry" == *" here; "* ]]
    "$DEQ" train "$@" --out run --device cpu --set train.steps=2 --set train.pretrain_steps=1 2>err
    grep -q "^2 steps of 1,024 tokens: ${first##*; }\$" err
    # the parts add up to it
    awk '/^memory$/ { inside = 1; next } inside && $1 == "all" { exit !(sum - $2 < 0.06 && $2 - sum < 0.06) }
        inside { sum += $(NF - 1) }' out
    # a bound is one
    "$DEQ" plan "$@" --json >json
    [[ "$(cat json)" == *'"measured":true'* ]]
    awk -v bound="$(number step_seconds_bound <json)" -v step="$(number step_seconds <json)" \
        'BEGIN { exit !(bound > 0 && bound <= step) }'
    # 3,600 steps, of which 540 in pre-training take another time
    awk -v all="$(number seconds <json)" -v step="$(number step_seconds <json)" \
        'BEGIN { exit !(all > 3060 * step) }'
    run wikitext --device h100
    [[ "${lines[0]}" =~ ^300,000\ steps\ of\ 8,400\ tokens:\ about\ .*\ on\ h100,\ modelled\;\ 5.8\ GiB\ of\ 75\ GiB$ ]]
    run wikitext --threads 1 --device cpu --set train.precision=fp32 # which every processor has
    [[ "${lines[0]}" =~ \ days\ .*here,\ modelled\; ]]
}

@test "the published setting is planned without its memory" {
    wikitext --device h100 --json >out
    [ "$(wc -l <out)" -eq 1 ]
    [ "$(number parameters <out)" -eq 97691888 ]
    [ "$(number tokens <out)" -eq 8400 ]
    [[ "$(cat out)" == *'"fits":true'* || "$(cat out)" == *'"fits": true'* ]]
    # forward products of 13 evaluations of f, by hand: W_qkv, W_o, W_1, W_2 on 56 * 150 positions
    flops=$(sed 's/.*"forward solve", *"product_flops": *\([0-9.e+]*\).*/\1/' out)
    awk -v got="$flops" 'BEGIN {
        want = 13 * 2 * 56 * 150 * (3 * 700 * 700 + 700 * 700 + 2 * 700 * 48000)
        exit !(got > 0.999999 * want && got < 1.000001 * want) }'
}

# of an H100: 989.4 TFLOP/s, 3350 GB/s
@test "the published setting keeps the product units busy in the solves; its hidden layer by hand" {
    wikitext --device h100 --json >out
    shares=$(grep -o '"name": *"[a-z]* solve"[^}]*' out | sed 's/.*bound_peak_share": *\([0-9.]*\).*"peak_share": *\([0-9.]*\).*/\1 \2/')
    echo "$shares"
    [ "$(wc -l <<<"$shares")" -eq 2 ]
    awk 'NR == 1 { good += $1 > 0.76 && $1 < 0.77 && $2 > 0.54 && $2 < 0.55 }
         NR == 2 { good += $1 > 0.73 && $1 < 0.74 && $2 > 0.51 && $2 < 0.52 }
         END { exit good != 2 }' <<<"$shares"
    # 13 products with 700 numbers and 60 columns (56 masks, bias, its rest, 2 to fill up); x is read
    # in 4 bytes and written in 2, masks are read, columns are written
    bound=$(sed 's/.*"name": *"ffn_up",[^}]*"bound_seconds": *\([0-9.e-]*\).*/\1/' out)
    awk -v got="$bound" 'BEGIN { n = 56 * 150; i = 48000
        product = 2 * n * i * 760 / 989.4e12
        passes = (n * 700 * 4 + n * 760 * 2 + 56 * i * 4 + i * 60 * 2) / 3.35e12
        want = 13 * (product + passes)
        exit !(got > 0.999 * want && got < 1.001 * want) }'
}

@test "the table names operations, phases and memory" {
    run wikitext --device a100 --ops
    [ "$status" -eq 0 ]
    for word in gemm attention_vjp "forward solve" "backward solve" "tokens/s, modelled" optimizer "segment memory"; do
        [[ "$output" == *"$word"* ]]
    done
}

@test "what does not fit: exit 1, by how much, and what would" {
    run wikitext --device a100-40 --set train.batch=1120 --set train.tgt_len=150
    [ "$status" -eq 1 ]
    [[ "$output" == *"this training needs "*" MiB, "*" more than the "*" MiB that NVIDIA A100 SXM 40 GB leaves: --set train.accumulate="* ]]
    parts=$(sed -n 's/.*train.accumulate=\([0-9]*\) needs.*/\1/p' <<<"$output")
    run wikitext --device a100-40 --set train.batch=1120 --set train.accumulate="$parts"
    [ "$status" -eq 0 ]
    run wikitext --device a100-40 --set train.batch=1 --set train.tgt_len=200000
    [ "$status" -eq 1 ]
    [[ "$output" == *"parts of one sequence still need "* ]]
}

@test "this machine: the benchmark's calls" {
    set -- --set model.d_model=32 --set model.n_head=2 --set model.d_head=16 --set model.d_embed=32 \
        --set model.d_inner=64
    "$DEQ" plan "$@" --threads 1 --json >plan
    "$DEQ" bench train "$@" --threads 1 --steps 1 --json >bench
    calls() {
        grep -o '"name": *"[a-z_]*", *"calls": *[0-9]*' "$1" | tr -d ' ' | sort
    }
    calls plan >plan.calls
    calls bench >bench.calls
    [ "$(wc -l <plan.calls)" -gt 15 ]
    diff plan.calls bench.calls
}

@test "--memory prints every buffer and the bytes in use in each phase" {
    "$DEQ" plan --device h100 --memory >out
    [ "$(grep -c 'bytes in one allocation$' out)" -eq 4 ]
    grep -E 'forward solve: history +12x512x256 f32 +forward solve, solve +6291456 ' out
    grep -E '^ +gradients +[0-9]+ +[0-9]+$' out
    most=$(awk '/^model: / { bytes = $2; own = 1 } own && /the most/ { print bytes, $NF; own = 0 }' out)
    read -r bytes peak <<<"$most"
    [ "$bytes" -ge "$peak" ]
    [ "$bytes" -lt $((peak + peak / 100)) ]
}

@test "--memory --json: no two buffers that meet share a byte" {
    command -v python3 >/dev/null || skip "no python3"
    "$DEQ" plan --device h100 --memory --json >out
    python3 - out <<'PY'
import json, sys
order = ["always", "embed", "begin", "forward solve", "output", "loss", "backward solve",
         "gradients", "remember", "update"]
paths = {"solve": 1, "layers": 2, "any": 3}
shared = 0
for a in json.load(open(sys.argv[1]))["allocations"]:
    b = a["buffers"]
    for i, x in enumerate(b):
        assert x["offset"] % 64 == 0 and x["offset"] + x["bytes"] <= a["bytes"]
        for j in x["shares"]:
            y = b[j]
            shared += 1
            assert x["offset"] < y["offset"] + y["bytes"] and y["offset"] < x["offset"] + x["bytes"]
            apart = order.index(x["last"]) < order.index(y["first"]) or \
                order.index(y["last"]) < order.index(x["first"])
            assert apart or not paths[x["path"]] & paths[y["path"]], (x["name"], y["name"])
assert shared > 20
PY
}

# field NAME FILE: a number of a JSON object.
field()
{
    grep -o "\"$1\": *[0-9.e+-]*" "$2" | sed -n '1s/.*: *//p'
}

# Adam keeps two numbers for each that a process owns, without padding at this size. A flat gradient is
# sent to its owners, and weights or gradients come back: (N - 1) / N of 4 bytes a number, twice.
@test "several GPUs: shares, bytes on the wire, and what a step waits for them" {
    set -- --device h200 --config "$root/configs/wikitext103.json" --set model.vocab_size=267735 \
        --set model.tie_weights=false --set train.optimizer=adam --json
    "$DEQ" plan "$@" --set train.batch=4 --set eval.batch=8 >one
    "$DEQ" plan "$@" --set train.batch=64 --set eval.batch=128 --ranks 16 >plain
    "$DEQ" plan "$@" --set train.batch=64 --set eval.batch=128 --ranks 16 --set train.zero=true >zero
    [ "$(field ranks one) $(field ranks zero) $(field machines zero)" = "1 16 2" ]
    [ "$(grep -c '"exchange"' one)" -eq 0 ]
    [ "$(field tokens zero)" -eq $((16 * $(field tokens one))) ]
    [ "$(field optimizer plain)" -eq "$(field optimizer one)" ]
    for run in plain zero; do
        awk -v gradients="$(field gradients $run)" -v sent="$(field sent_bytes $run)" \
            -v step="$(field step_seconds $run)" -v shown="$(field shown_seconds $run)" \
            -v sums="$(field sum_seconds $run)" -v gather="$(field gather_seconds $run)" \
            -v hidden="$(field hidden_seconds $run)" -v part="$(field efficiency $run)" \
            -v rate="$(field tokens_per_s $run)" -v tokens="$(field tokens $run)" '
            function close_to(a, b, tolerance) { if (!((a - b) ^ 2 <= (tolerance * b) ^ 2)) { print a, b; bad++ } }
            BEGIN { close_to(sent, 2 * 15 / 16 * gradients, 0.01) # gradients are padded
                    close_to(shown, sums + gather - hidden, 1e-5)
                    close_to(part, 1 - shown / step, 1e-5)
                    close_to(rate, tokens / step, 1e-5)
                    exit bad || !(hidden > 0) }'
    done
    awk -v one="$(field optimizer one)" -v zero="$(field optimizer zero)" \
        'BEGIN { exit !(zero < one / 15 && zero > one / 17) }'
    awk -v one="$(field step_seconds one)" -v zero="$(field step_seconds zero)" -v shown="$(field shown_seconds zero)" \
        'BEGIN { exit !(zero - shown < one && zero - shown > 0.8 * one) }' # a sixteenth of the update
    "$DEQ" plan "${@:1:$#-1}" --ranks 16 --set train.batch=64 >text
    grep -q '^16 processes in 2 machines' text
    grep -q '^assumed: 450 GB/s a direction in a machine of 8, 50 GB/s of network' text
}

@test "several GPUs need a device whose links are known, and a batch that they can share" {
    run "$DEQ" plan --ranks 2
    [ "$status" -eq 64 ]
    [[ "$output" == "deq plan: --ranks: "*"--device h200" ]]
    run "$DEQ" plan --device a100 --ranks 3
    [ "$status" -eq 78 ]
    [[ "$output" == *"cannot be divided among 3 processes"*"multiple of 3" ]]
}
