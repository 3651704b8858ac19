# deq train and deq eval on a small text, with the real program.

setup_file()
{
    export OMP_NUM_THREADS=1
    data=$BATS_FILE_TMPDIR/data
    export data
    "$BATS_TEST_DIRNAME/../tools/sentences.sh" 1500 > "$BATS_FILE_TMPDIR/text"
    head -1200 "$BATS_FILE_TMPDIR/text" > "$BATS_FILE_TMPDIR/train"
    tail -300 "$BATS_FILE_TMPDIR/text" > "$BATS_FILE_TMPDIR/valid"
    "$DEQ" tokenize --train "$BATS_FILE_TMPDIR/train" --valid "$BATS_FILE_TMPDIR/valid" \
        --out "$data"
    cat > "$BATS_FILE_TMPDIR/tiny.json" <<END
{ "data": { "dir": "$data" },
  "model": { "d_model": 16, "n_head": 2, "d_inner": 32, "dropout": 0.1, "init_std": 0.1 },
  "train": { "steps": 24, "batch": 4, "tgt_len": 12, "mem_len": 8, "warmup_steps": 4, "lr": 5e-3,
             "pretrain_steps": 6, "eval_every": 12, "checkpoint_every": 8, "keep_last": 2 },
  "eval": { "batch": 2, "tgt_len": 12, "mem_len": 8, "max_iter": 12 } }
END
    config=$BATS_FILE_TMPDIR/tiny.json
    export config
    "$DEQ" train -q --config "$config" --out "$BATS_FILE_TMPDIR/whole"
    whole=$BATS_FILE_TMPDIR/whole
    export whole
}

digest()
{
    "$DEQ" info --json "$1" | sed 's/.*"weights_digest":"\([0-9a-f]*\)".*/\1/'
}

# Asks a run to stop. It saves and says so (75), or it was done before the signal reached it (0), or
# it had not yet come to the point of listening (143): nothing was begun then.
stop_run()
{
    kill -TERM "$1" 2>/dev/null || true
    status=0
    wait "$1" || status=$?
    [ "$status" -eq 75 ] || [ "$status" -eq 0 ] || [ "$status" -eq 143 ]
}

@test "a run leaves its config, log and checkpoints" {
    [ -s "$whole/config.json" ]
    [ "$(ls "$whole" | tr '\n' ' ')" = \
        "best.bin config.json last.bin log.jsonl step-00000016.bin step-00000024.bin " ]
    [ "$(grep -c '"event":"step"' "$whole/log.jsonl")" -eq 24 ]
    [ "$(grep -c '"event":"evaluation"' "$whole/log.jsonl")" -eq 2 ]
    "$DEQ" info --check "$whole/last.bin"
}

@test "the loss falls" {
    first=$(grep '"step":1,"loss"' "$whole/log.jsonl" | sed 's/.*"loss":\([0-9.]*\).*/\1/')
    last=$(grep '"step":24,"loss"' "$whole/log.jsonl" | sed 's/.*"loss":\([0-9.]*\).*/\1/')
    awk "BEGIN { exit !($last < $first - 0.3) }"
}

@test "a precision that the device does not have is refused before anything is made" {
    out=$BATS_TEST_TMPDIR/rounded
    run "$DEQ" train --config "$config" --device cpu --set train.precision=tf32 --out "$out"
    [ "$status" -eq 69 ]
    [[ "$output" == *"train.precision: tf32 products: no processor has them"* ]]
    [ ! -e "$out" ]
}

@test "a tolerance that rounding keeps out of reach is warned of" {
    out=$BATS_TEST_TMPDIR/tight
    run "$DEQ" train --config "$config" --device cpu --set solver.backward.tol=1e-8 \
        --set train.steps=1 --set train.pretrain_steps=0 --out "$out"
    [ "$status" -eq 0 ]
    [[ "$output" == *"warning: solver.backward.tol: 1e-08 cannot be reached with train.precision fp32"* ]]
    [[ "$output" != *"solver.forward.tol"* ]]
}

@test "the same command gives the same weights, bit for bit" {
    "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/again"
    [ "$(digest "$BATS_TEST_TMPDIR/again/last.bin")" = "$(digest "$whole/last.bin")" ]
}

@test "a run cut in pieces ends with the same weights" {
    for steps in 5 9 17; do
        "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/cut" --time-limit 1000h &
        pid=$!
        for i in $(seq 200); do
            n=$(grep -c '"event":"step"' "$BATS_TEST_TMPDIR/cut/log.jsonl" 2>/dev/null || true)
            [ "${n:-0}" -lt "$steps" ] || break
            sleep 0.02
        done
        stop_run $pid
    done
    "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/cut"
    [ "$(digest "$BATS_TEST_TMPDIR/cut/last.bin")" = "$(digest "$whole/last.bin")" ]
    [ "$(grep -c '"event":"step"' "$BATS_TEST_TMPDIR/cut/log.jsonl")" -eq 24 ]
}

@test "a finished run is left as it is" {
    before=$(digest "$whole/last.bin")
    run "$DEQ" train --config "$config" --out "$whole"
    [ "$status" -eq 0 ]
    [ "$(digest "$whole/last.bin")" = "$before" ]
    [ "$(grep -c '"event":"step"' "$whole/log.jsonl")" -eq 24 ]
}

@test "with added losses and drawn limits a run goes on with the same weights too" {
    more="--set jacobian.weight=0.5 --set jacobian.probability=0.5 --set jacobian.ramp_every=5
          --set correction.weight=0.3 --set correction.at=[3] --set solver.forward.rand_delta=3
          --set solver.backward.tol_start=0.1 --set solver.forward.iter_start=6"
    "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/one" $more
    grep -q '"penalty":[0-9]' "$BATS_TEST_TMPDIR/one/log.jsonl"
    grep -q '"penalty":null' "$BATS_TEST_TMPDIR/one/log.jsonl"
    # from 6 evaluations to 10, less up to 3
    used=$(sed -n 's/.*"layers":0,"forward":{"evals_mean":[^,]*,"evals_max":\([0-9]*\).*/\1/p' \
        "$BATS_TEST_TMPDIR/one/log.jsonl" | sort -un | tr '\n' ' ')
    [ "$(echo $used | wc -w)" -ge 4 ]
    [ "${used%% *}" -le 6 ]
    "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/two" $more \
        --resume "$BATS_TEST_TMPDIR/one/step-00000016.bin"
    [ "$(digest "$BATS_TEST_TMPDIR/two/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/one/last.bin")" ]
    [ "$(digest "$BATS_TEST_TMPDIR/one/last.bin")" != "$(digest "$whole/last.bin")" ]
    "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/three" $more \
        --set jacobian.form=difference
    "$DEQ" eval "$BATS_TEST_TMPDIR/three/best.bin" --spectral-radius --json |
        grep -q '"spectral_radius":[0-9.]*,"spectral_radius_max":[0-9.]*'
}

@test "a learned start: solves begin nearer, a cut run goes on the same, nothing leaks" {
    "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/start" --set model.start=linear \
        --set train.steps=120 --set train.checkpoint_every=60
    "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/again" --set model.start=linear \
        --set train.steps=120 --set train.checkpoint_every=60 \
        --resume "$BATS_TEST_TMPDIR/start/step-00000060.bin"
    [ "$(digest "$BATS_TEST_TMPDIR/again/last.bin")" = \
        "$(digest "$BATS_TEST_TMPDIR/start/last.bin")" ]
    "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/zero" --set train.steps=120
    first() { "$DEQ" eval "$BATS_TEST_TMPDIR/$1/last.bin" --nfe 1 --check-causality --json; }
    number() { sed "s/.*\"$1\":\([0-9.e-]*\).*/\1/"; }
    # the residual of the very first evaluation; from zero it is 1
    awk "BEGIN { exit !($(first start | number residual_mean) < 0.8 * \
        $(first zero | number residual_mean)) }"
    [ "$(first start | number leak)" = 0 ]
}

@test "train.precision: bf16 where the processor has it, else one clear refusal; tf32 never" {
    run "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/half" \
        --set train.precision=bf16 --set model.d_model=64 --set model.d_inner=128
    if [ "$status" -eq 0 ]; then
        "$DEQ" eval "$BATS_TEST_TMPDIR/half/best.bin" --json > "$BATS_TEST_TMPDIR/full"
        "$DEQ" eval "$BATS_TEST_TMPDIR/half/best.bin" --json --set train.precision=bf16 \
            > "$BATS_TEST_TMPDIR/rounded"
        nll() { sed 's/.*"nll":\([0-9.]*\).*/\1/' "$BATS_TEST_TMPDIR/$1"; }
        [ "$(nll full)" != "$(nll rounded)" ]
        awk "BEGIN { d = $(nll full) - $(nll rounded); exit !(d < 0.02 && d > -0.02) }"
    else
        [ "$status" -eq 69 ]
        [[ "$output" == *"train.precision: bf16"*"use fp32"* ]]
    fi
    # The library that multiplies can be told to do without.
    ONEDNN_MAX_CPU_ISA=AVX2 run "$DEQ" train -q --config "$config" \
        --out "$BATS_TEST_TMPDIR/forbidden" --set train.precision=bf16
    [ "$status" -eq 69 ]
    [[ "$output" == *"train.precision: bf16"*"use fp32"* ]]
    run "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/tf" --set train.precision=tf32
    [ "$status" -eq 69 ]
    [[ "$output" == *"train.precision: tf32"*"use fp32"* ]]
}

@test "added losses that cannot be are refused with the remedy" {
    run "$DEQ" train --config "$config" --set correction.weight=1 --dry-run
    [ "$status" -eq 78 ]
    [[ "$output" == *"correction.at"* ]]
    run "$DEQ" train --config "$config" --set solver.forward.rand_delta=10 --dry-run
    [ "$status" -eq 78 ]
    [[ "$output" == *"rand_delta"* ]]
}

@test "another seed does not go on from a run's checkpoints, unless one is named" {
    run "$DEQ" train --config "$config" --out "$whole" --set train.seed=2
    [ "$status" -eq 78 ]
    [[ "$output" = *"deq train: $whole/last.bin: was trained with train.seed 1111, not 2: choose another --out for another seed" ]]
    grep -q '"seed": 1111' "$whole/config.json"
    "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/seed" --set train.seed=2 \
        --resume "$whole/step-00000016.bin"
}

@test "--resume FILE starts from that checkpoint" {
    "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/from" \
        --resume "$whole/step-00000016.bin"
    [ "$(digest "$BATS_TEST_TMPDIR/from/last.bin")" = "$(digest "$whole/last.bin")" ]
}

@test "--resume FILE, stopped and run again, goes on; from another file it begins anew" {
    from() # FILE STEPS [OPTION]...
    {
        run "$DEQ" train --config "$config" --set train.steps="$2" --out "$BATS_TEST_TMPDIR/run" \
            --resume "$1" "${@:3}"
    }
    from "$whole/step-00000016.bin" 1000000 --time-limit 1s
    [ "$status" -eq 75 ]
    step=$(sed 's/.*saved at step \([0-9]*\) .*/\1/' <<< "${lines[-1]}")
    [ "$step" -gt 16 ]
    from "$whole/step-00000016.bin" 1000000 --time-limit 1s
    [ "$status" -eq 75 ]
    [[ "$output" == *"continuing from $BATS_TEST_TMPDIR/run/last.bin at step $step"* ]]
    [ "$(grep -m 1 '"event":"step"' "$BATS_TEST_TMPDIR/run/log.jsonl" | cut -d, -f2)" = '"step":17' ]
    from "$whole/last.bin" 25
    [ "$status" -eq 0 ]
    [[ "$output" == *"continuing from $whole/last.bin at step 24"* ]]
    # the end is that of a run that was not stopped
    from "$whole/step-00000016.bin" 24
    [[ "$output" == *"continuing from $whole/step-00000016.bin at step 16"* ]]
    [ "$(digest "$BATS_TEST_TMPDIR/run/last.bin")" = "$(digest "$whole/last.bin")" ]
}

@test "--resume never, stopped, names what goes on" {
    run "$DEQ" train --config "$config" --set train.steps=1000000 --out "$BATS_TEST_TMPDIR/run" \
        --resume never --time-limit 1s
    [ "$status" -eq 75 ]
    [[ "$output" == *"; run it with --resume auto to continue" ]]
}

@test "--resume never refuses a folder that holds a run" {
    run "$DEQ" train --config "$config" --out "$whole" --resume never
    [ "$status" -eq 73 ]
    [[ "$output" == *"holds a run already"* ]]
}

@test "a folder with the files of a run that is none is not touched" {
    mkdir "$BATS_TEST_TMPDIR/mine"
    echo precious > "$BATS_TEST_TMPDIR/mine/last.bin"
    run "$DEQ" train --config "$config" --out "$BATS_TEST_TMPDIR/mine"
    [ "$status" -eq 73 ]
    [ "$(cat "$BATS_TEST_TMPDIR/mine/last.bin")" = precious ]
}

@test "another model in the same folder is refused" {
    run "$DEQ" train --config "$config" --set model.d_inner=48 --out "$whole"
    [ "$status" -eq 78 ]
    [[ "$output" == *"/last.bin: was made with model.d_inner 32, not 48: choose another --out"* ]]
    run "$DEQ" train --config "$config" --set model.norm=rms --set model.layers=2 --out "$whole"
    [ "$status" -eq 78 ]
    [[ "$output" == *"was made with model.layers 0, not 2"* ]]
}

@test "what is not the model may change under a run" {
    cp -r "$whole" "$BATS_TEST_TMPDIR/run"
    "$DEQ" train -q --config "$config" --set train.steps=26 --set train.lr=1e-3 \
        --set model.dropout=0 --set jacobian.weight=0.1 --set solver.forward.rows=all \
        --set correction.weight=0.5 --set correction.at=2 --out "$BATS_TEST_TMPDIR/run"
    [ "$("$DEQ" info --json "$BATS_TEST_TMPDIR/run/last.bin" | grep -o '"step":[0-9]*' | head -1)" = '"step":26' ]
}

@test "parts of a batch give the gradient of the whole" {
    for parts in 1 2 4; do
        "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/p$parts" --threads 1 \
            --set model.dropout=0 --set train.accumulate=$parts --set train.steps=10
        grep '"event":"step"' "$BATS_TEST_TMPDIR/p$parts/log.jsonl" |
            sed 's/.*"loss":\([0-9.]*\).*/\1/' > "$BATS_TEST_TMPDIR/loss$parts"
    done
    # the sums run in another order: equal up to rounding, which training amplifies a little
    for parts in 2 4; do
        paste "$BATS_TEST_TMPDIR/loss1" "$BATS_TEST_TMPDIR/loss$parts" |
            awk '{ d = $1 - $2; if (d < 0) d = -d; if (!(d <= 2e-4)) exit 1 }'
    done
}

@test "--time-limit saves, exits 75, and the next call goes on" {
    before=0
    for call in 1 2; do # as short as it is: every call comes further
        for limit in 1 4 16 64; do # or is it too short for a step on this machine?
            run "$DEQ" train -q --config "$config" --set train.steps=1000000000 \
                --set train.eval_every=0 --out "$BATS_TEST_TMPDIR/limit" --time-limit ${limit}s
            [ "$status" -eq 75 ]
            [[ "$output" == *"time limit"* ]]
            step=$("$DEQ" info --json "$BATS_TEST_TMPDIR/limit/last.bin" |
                sed 's/.*"step":\([0-9]*\),"par.*/\1/')
            [ "$step" -le "$before" ] || break
        done
        [ "$step" -gt "$before" ]
        before=$step
    done
}

@test "a line is rewritten on a terminal only, and never with NO_COLOR" {
    command -v script >/dev/null || skip "no script (util-linux)"
    script -qec true /dev/null </dev/null >/dev/null 2>&1 ||
        skip "no pseudo-terminal here: is devpts mounted on /dev/pts?"
    rewrites() # deq-arguments: whether a line is cleared
    {
        script -qec "'$DEQ' $*" /dev/null </dev/null >"$BATS_TEST_TMPDIR/screen"
        grep -q $'\e\\[K' "$BATS_TEST_TMPDIR/screen"
    }
    for command in "train --config $config --out $BATS_TEST_TMPDIR/run" "eval $whole/best.bin"; do
        rm -rf "$BATS_TEST_TMPDIR/run"
        NO_COLOR='' rewrites "$command"
        rm -rf "$BATS_TEST_TMPDIR/run"
        ! NO_COLOR=1 rewrites "$command" || return 1
    done
}

@test "--set reaches any key, and a wrong one names the nearest" {
    run "$DEQ" train --config "$config" --set train.stesp=3 --out "$BATS_TEST_TMPDIR/x"
    [ "$status" -eq 78 ]
    [[ "$output" == *"train.steps"* ]]
    [ ! -e "$BATS_TEST_TMPDIR/x" ]
}

@test "missing shards are named, with the remedy" {
    run "$DEQ" train --config "$config" --set data.dir=/nonexistent --out "$BATS_TEST_TMPDIR/x"
    [ "$status" -eq 66 ]
    [[ "$output" == *"deq tokenize"* ]]
    [ ! -e "$BATS_TEST_TMPDIR/x" ]
}

@test "--dry-run makes nothing" {
    run "$DEQ" train --config "$config" --dry-run --out "$BATS_TEST_TMPDIR/x"
    [ "$status" -eq 0 ]
    [[ "$output" == *"parameters"* ]]
    [ ! -e "$BATS_TEST_TMPDIR/x" ]
}

@test "eval agrees with the validation of the run" {
    best=$(grep '"event":"evaluation"' "$whole/log.jsonl" | tail -1 |
        sed 's/.*"nll":\([0-9.]*\).*/\1/')
    got=$("$DEQ" eval "$whole/last.bin" --json | tail -1 | sed 's/.*"nll":\([0-9.]*\).*/\1/')
    awk "BEGIN { d = $best - $got; exit !(d * d < 1e-12) }"
}

@test "eval prints one JSON object with the promised fields" {
    line=$("$DEQ" eval "$whole/best.bin" --json | tail -1)
    for key in ppl nll tokens ppl_word bits_per_byte nfe_mean nfe_max nfe_paid flops leak \
        tokens_per_s; do
        [[ "$line" == *"\"$key\":"* ]]
    done
}

@test "eval says what a token is: a word, or a byte with the perplexity of the words they make" {
    [[ "$("$DEQ" eval "$whole/best.bin" --json)" == *'"token":"word"'* ]]
    cd "$BATS_TEST_TMPDIR"
    "$DEQ" tokenize --train "$BATS_FILE_TMPDIR/train" --valid "$BATS_FILE_TMPDIR/valid" --bytes --out bytes
    "$DEQ" train -q --config "$config" --set data.dir=bytes --set train.steps=2 --set train.pretrain_steps=1 --out run
    run "$DEQ" eval run/best.bin
    [[ "$output" == *" per byte (nll "*" per word, "*" bits per byte"* ]]
    [[ "$output" != *"per token"* ]]
    line=$("$DEQ" eval run/best.bin --json)
    [[ "$line" == *'"token":"byte"'* ]]
    field() { sed 's/.*"'"$1"'":\([^,}]*\).*/\1/' <<< "$line"; }
    read -r words bytes <<< "$(wc -wc < "$BATS_FILE_TMPDIR/valid" | tr -s ' ')"
    awk "BEGIN { want = $(field nll) * $bytes / $words; d = log($(field ppl_word)) - want
                 e = $(field bits_per_byte) * log(2) - $(field nll)
                 exit !(d * d < 1e-12 && e * e < 1e-12) }"
    # a NUL does not end the text: of 2000 bytes most are no letters, and seven or so are NUL
    [ "$("$DEQ" sample --checkpoint run/best.bin --prompt a --tokens 2000 --json |
        grep -o 'ufffd' | wc -l)" -gt 700 ]
}

@test "eval token by token is eval of segments of one position, and stops by a tolerance" {
    field() { sed 's/.*"'"$1"'":\([^,}]*\).*/\1/'; }
    decoded=$("$DEQ" eval "$whole/best.bin" --json --decode --nfe 30 | tail -1)
    [[ "$decoded" == *'"tgt_len":1,'* ]]
    memory=$(echo "$decoded" | field mem_len)
    by_hand=$("$DEQ" eval "$whole/best.bin" --json --tgt-len 1 --mem-len "$memory" --nfe 30 | tail -1)
    [ "$(echo "$decoded" | field nll)" = "$(echo "$by_hand" | field nll)" ]
    loose=$("$DEQ" eval "$whole/best.bin" --json --decode --tol 1e-1 | tail -1 | field nfe_mean)
    usual=$("$DEQ" eval "$whole/best.bin" --json --decode | tail -1 | field nfe_mean)
    tight=$("$DEQ" eval "$whole/best.bin" --json --decode --tol 1e-3 | tail -1 | field nfe_mean)
    awk "BEGIN { exit !($loose < $usual && $usual < $tight && $tight < 30) }"
    for how in "--tol 1e-1" "--nfe 4"; do
        # shellcheck disable=SC2086
        run "$DEQ" eval "$whole/best.bin" --decode $how
        [[ "$status" -eq 0 && "$output" != *nan* ]]
    done
    run "$DEQ" eval "$whole/best.bin" --tol 1e-2 --nfe 4
    [ "$status" -eq 64 ]
    run "$DEQ" eval "$whole/best.bin" --decode --tgt-len 4
    [ "$status" -eq 64 ]
    run "$DEQ" eval "$whole/best.bin" --tol 0
    [ "$status" -eq 64 ]
    loose=$("$DEQ" sample --checkpoint "$whole/best.bin" --prompt "" --tokens 20 --json --tol 1e-1 |
        field nfe_mean)
    tight=$("$DEQ" sample --checkpoint "$whole/best.bin" --prompt "" --tokens 20 --json --tol 1e-4 |
        field nfe_mean)
    awk "BEGIN { exit !($loose < $tight) }"
}

@test "the default solver leaks exactly nothing, a mixing one does" {
    line=$("$DEQ" eval "$whole/best.bin" --json --check-causality --nfe 3,6 | tail -1)
    [[ "$line" == *'"leak":0,'* ]]
    [[ "$line" != *'"leak":0.'* && "$line" != *'"leak":null'* && "$line" != *'"leak":1'* ]]
    line=$("$DEQ" eval "$whole/best.bin" --json --check-causality --nfe 4 \
        --set solver.forward.scope=sequence | tail -1)
    [[ "$line" != *'"leak":0,'* ]]
}

@test "eval lengths may differ from training" {
    "$DEQ" eval "$whole/best.bin" --batch 1 --tgt-len 40 --mem-len 40
    "$DEQ" eval "$whole/best.bin" --batch 3 --tgt-len 1 --mem-len 0
}

@test "eval refuses damaged and foreign files" {
    head -c 2000 "$whole/best.bin" > "$BATS_TEST_TMPDIR/short.bin"
    run "$DEQ" eval "$BATS_TEST_TMPDIR/short.bin"
    [ "$status" -eq 65 ]
    run "$DEQ" eval "$config"
    [ "$status" -eq 65 ]
    run "$DEQ" eval /nonexistent
    [ "$status" -eq 66 ]
    : > "$BATS_TEST_TMPDIR/empty.bin"
    run "$DEQ" eval "$BATS_TEST_TMPDIR/empty.bin"
    [ "$status" -eq 65 ]
}

@test "shards of another vocabulary are refused" {
    echo "some other words here" > "$BATS_TEST_TMPDIR/other"
    for i in $(seq 200); do echo "some other words here $i"; done > "$BATS_TEST_TMPDIR/other"
    "$DEQ" tokenize --train "$BATS_TEST_TMPDIR/other" --valid "$BATS_TEST_TMPDIR/other" \
        --out "$BATS_TEST_TMPDIR/otherdata"
    run "$DEQ" eval "$whole/best.bin" --data "$BATS_TEST_TMPDIR/otherdata"
    [ "$status" -eq 65 ]
    [[ "$output" == *"another vocabulary"*"deq tokenize --vocab $whole/best.bin" ]]
    run "$DEQ" train --config "$config" --set data.dir="$BATS_TEST_TMPDIR/otherdata" --out "$whole"
    [ "$status" -ne 0 ]
    # the remedy
    "$DEQ" info --vocab "$whole/best.bin" > "$BATS_TEST_TMPDIR/vocab"
    cmp "$data/vocab.txt" "$BATS_TEST_TMPDIR/vocab"
    "$DEQ" tokenize --train "$BATS_FILE_TMPDIR/valid" --valid "$BATS_FILE_TMPDIR/valid" \
        --vocab "$BATS_TEST_TMPDIR/vocab" --out "$BATS_TEST_TMPDIR/again"
    "$DEQ" eval "$whole/best.bin" --data "$BATS_TEST_TMPDIR/again"
    run "$DEQ" info --vocab "$data/train-00000.bin"
    [ "$status" -eq 65 ]
    [[ "$output" == *"train-00000.bin: --vocab: not a checkpoint"* ]]
    run "$DEQ" info --vocab --json "$whole/best.bin"
    [ "$status" -eq 64 ]
}

@test "sample: the same seed gives the same text, another one another" {
    a=$("$DEQ" sample --checkpoint "$whole/best.bin" --prompt "the king" --tokens 30 --seed 5)
    b=$("$DEQ" sample --checkpoint "$whole/best.bin" --prompt "the king" --tokens 30 --seed 5)
    c=$("$DEQ" sample --checkpoint "$whole/best.bin" --prompt "the king" --tokens 30 --seed 6)
    [ "$a" = "$b" ]
    [ "$a" != "$c" ]
    [[ "$a" == "the king"* ]]
}

@test "sample: greedy, top-k 1 and a tiny top-p are the same" {
    a=$("$DEQ" sample --checkpoint "$whole/best.bin" --prompt "the" --tokens 20 --temperature 0)
    b=$("$DEQ" sample --checkpoint "$whole/best.bin" --prompt "the" --tokens 20 --top-k 1)
    c=$("$DEQ" sample --checkpoint "$whole/best.bin" --prompt "the" --tokens 20 --top-p 1e-6)
    [ "$a" = "$b" ]
    [ "$a" = "$c" ]
}

@test "sample: the newest best checkpoint is found and named" {
    cd "$BATS_TEST_TMPDIR"
    run "$DEQ" sample --prompt "the" --tokens 3
    [ "$status" -eq 66 ]
    mkdir -p runs/old runs/new
    cp "$whole/best.bin" runs/old/
    cp "$whole/best.bin" runs/new/
    touch -d '2001-01-01' runs/old/best.bin
    run "$DEQ" sample --prompt "the" --tokens 3
    [ "$status" -eq 0 ]
    [[ "$output" == *"runs/new/best.bin"* ]]
}

@test "sample: a word that is not in the vocabulary is named, with the nearest" {
    run "$DEQ" sample --checkpoint "$whole/best.bin" --prompt "the kign"
    [ "$status" -eq 65 ]
    [[ "$output" == *'"kign"'*'"king"'* ]]
}

@test "sample: an empty prompt, a long one, and JSON" {
    "$DEQ" sample --checkpoint "$whole/best.bin" --prompt "" --tokens 5
    long=$(for i in $(seq 40); do printf 'the king said '; done)
    "$DEQ" sample --checkpoint "$whole/best.bin" --prompt "$long" --tokens 5
    line=$("$DEQ" sample --checkpoint "$whole/best.bin" --prompt "the" --tokens 5 --json | tail -1)
    [[ "$line" == '{"text":"the '* ]]
}

@test "sample: a reader that leaves ends the text quietly" {
    out=$("$DEQ" sample --checkpoint "$whole/best.bin" --prompt the --tokens 100000 2>&1 | head -c 50)
    [ "${#out}" -ge 40 ]
}

# One configuration a line: other cells and explicit networks, with the same trainer.
kinds()
{
    cat <<END
trellis --set model.cell=trellis --set model.nhid=12 --set model.nout=16 --set model.wdrop=0.1 --set model.emb_dropout=0.1 --set model.dropouth=0.1
trellis-layers --set model.cell=trellis --set model.nhid=12 --set model.nout=16 --set model.layers=6 --set gradient.recompute=2
tied --set model.layers=5
untied --set model.layers=3 --set model.tie_layers=false --set gradient.recompute=2
modern --set model.cell=modern --set model.norm=rms --set model.n_kv_head=1
around --set model.cell=modern --set model.prelude=1 --set model.coda=1 --set model.blocks=2 --set model.ffn=relu2
modern-layers --set model.cell=modern --set model.layers=3 --set model.tie_layers=false
END
}

@test "a trellis, modern cells and explicit networks train, resume bit for bit, evaluate without a leak, sample" {
    kinds | while read -r name options; do
        # shellcheck disable=SC2086
        set -- train -q --config "$config" $options --set train.accumulate=2 --out "$BATS_TEST_TMPDIR/$name"
        "$DEQ" "$@"
        run=$BATS_TEST_TMPDIR/$name
        first=$(grep '"step":1,"loss"' "$run/log.jsonl" | sed 's/.*"loss":\([0-9.]*\).*/\1/')
        last=$(grep '"step":24,"loss"' "$run/log.jsonl" | sed 's/.*"loss":\([0-9.]*\).*/\1/')
        awk "BEGIN { exit !($last < $first - 0.1) }"
        want=$(digest "$run/last.bin")
        cp "$run/step-00000016.bin" "$BATS_TEST_TMPDIR/middle.bin"
        "$DEQ" "$@-again" --resume "$BATS_TEST_TMPDIR/middle.bin"
        [ "$(digest "$run-again/last.bin")" = "$want" ]
        result=$("$DEQ" eval --json --check-causality "$run/best.bin" | tail -1)
        [[ "$result" == *'"leak":0,'* ]]
        "$DEQ" sample --checkpoint "$run/best.bin" --prompt "the king" --tokens 5
    done
}

@test "an explicit network has no table of evaluations, and no residual" {
    run "$DEQ" train --config "$config" --set model.layers=2 --set model.start=linear \
        --set train.steps=2 --out "$BATS_TEST_TMPDIR/x"
    [[ "$status" -eq 0 && "$output" == *"2.0 evaluations, leak 0.0e+00"* ]]
    grep -q '"start": "zero"' "$BATS_TEST_TMPDIR/x/config.json"
    run "$DEQ" eval "$BATS_TEST_TMPDIR/x/last.bin"
    [[ "$status" -eq 0 && "$output" == *"2.00 computed)"* && "$output" != *residual* ]]
    run "$DEQ" eval "$BATS_TEST_TMPDIR/x/last.bin" --nfe 2,4
    [ "$status" -eq 64 ]
    [[ "$output" == *"explicit network of 2 layers"* ]]
}

@test "copy memory: every sequence starts afresh, and its recall is reported" {
    copy=$BATS_TEST_TMPDIR/copy
    "$DEQ" tokenize --task copy-memory --delay 4 --out "$copy"
    set -- --config "$config" --set data.dir="$copy" --set train.tgt_len=24 --set eval.tgt_len=24
    run "$DEQ" train -q --config "$config" --set data.dir="$copy" --out "$BATS_TEST_TMPDIR/short"
    [ "$status" -eq 78 ]
    [[ "$output" == *"set train.tgt_len and eval.tgt_len to 24"* ]]
    # with a memory that could reach the sequence before, and without: the same
    "$DEQ" train -q "$@" --set train.mem_len=0 --set eval.mem_len=0 --out "$BATS_TEST_TMPDIR/none"
    "$DEQ" train -q "$@" --set train.mem_len=30 --set eval.mem_len=30 --out "$BATS_TEST_TMPDIR/some"
    [ "$(digest "$BATS_TEST_TMPDIR/none/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/some/last.bin")" ]
    grep -q '"nll_recall":' "$BATS_TEST_TMPDIR/none/log.jsonl"
    result=$("$DEQ" eval --json --split test "$BATS_TEST_TMPDIR/none/best.bin" | tail -1)
    [[ "$result" == *'"nll_recall":'*'"recalled":'*'"tokens":48000,'* ]]
    [[ "$result" == *'"token":"symbol",'*'"ppl_word":null,"bits_per_byte":null,'* ]]
}

@test "the rewritten line fits the window, whatever its width" {
    command -v script >/dev/null || skip "no script (util-linux)"
    script -qec true /dev/null </dev/null >/dev/null 2>&1 ||
        skip "no pseudo-terminal here: is devpts mounted on /dev/pts?"
    cd "$BATS_TEST_TMPDIR"
    for width in 100 60 40 25; do
        rm -rf "$BATS_TEST_TMPDIR/run"
        NO_COLOR='' script -qec "stty cols $width; '$DEQ' train --config $config --out $BATS_TEST_TMPDIR/run" \
            /dev/null </dev/null >"$BATS_TEST_TMPDIR/screen"
        # what stands behind a clearing of the line, up to the next one or the end of the line
        tr '\r' '\n' <"$BATS_TEST_TMPDIR/screen" | sed -n 's/^\x1b\[K//p' | grep . >lines
        grep -q '^step 24/24' lines
        grep -q '^step 24: validation ppl' lines
        awk -v width=$width 'length($0) >= width { exit 1 }' lines || { cat lines; return 1; }
        [ "$width" -lt 60 ] || grep -q '^step 24/24  100 %  loss [0-9.]*  ppl [0-9.]*.*  ETA 0:00$' lines
        [ "$width" -ne 40 ] || grep -q '^step 24/24  100 %  loss [0-9.]*  ETA 0:00$' lines
    done
}

@test "the end repeats the result and names commands that work" {
    cd "$BATS_TEST_TMPDIR"
    cp -r "$whole" "it's a run"
    run "$DEQ" train --config "$config" --set train.steps=26 --out "it's a run"
    [ "$status" -eq 0 ]
    echo "$output"
    end=$(sed -n '/^done: it.s a run$/,$p' <<<"$output")
    [[ "$end" == *"  best validation perplexity "*" at step "*", "*" bits per byte"* ]]
    [[ "$end" == *" s, peak memory "*" MiB"* ]]
    [ "$(grep -c '^  deq ' <<<"$end")" -eq 2 ]
    while read -r _ command; do
        eval "'$DEQ' $command" >/dev/null
    done < <(grep '^  deq ' <<<"$end")
    # A run that has ended says the same.
    run "$DEQ" train "it's a run"
    [[ "$output" == *"best validation perplexity "*" bits per byte"* ]]
    # Without validation text there is no best checkpoint.
    "$DEQ" tokenize --train "$BATS_FILE_TMPDIR/train" --out alone
    run "$DEQ" train --config "$config" --set data.dir=alone --out alone-run
    [[ "$output" == *"deq eval alone-run/last.bin --split train"* ]]
    [[ "$output" != *"best validation"* ]]
    "$DEQ" eval alone-run/last.bin --split train >/dev/null
    run "$DEQ" train -q --config "$config" --out quiet
    [ -z "$output" ]
}

@test "the log says when, by whom and on what each event happened" {
    cd "$BATS_TEST_TMPDIR"
    "$DEQ" train -q --config "$config" --out run --set train.steps=8
    "$DEQ" train -q run --set train.steps=9
    "$DEQ" train -q run # nothing to do is no start
    [ "$(grep -c '"event":"start"' run/log.jsonl)" -eq 2 ]
    time='"time":"20[0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]\{3\}Z"'
    [ "$(grep -vc "$time" run/log.jsonl)" -eq 0 ]
    line=$(head -n 1 run/log.jsonl)
    for want in '"event":"start","after_step":0,"version":"'"$("$DEQ" version | cut -d' ' -f2)"'"' \
        "\"command\":\"deq train -q --config $config --out run --set train.steps=8\"" \
        '"processor":"' '"device":"' '"threads":1,"ranks":1' '"unknown":0,'; do
        [[ "$line" == *"$want"* ]] || { echo "$line lacks $want"; return 1; }
    done
    digests() { grep '"event":"start"' run/log.jsonl | grep -o "\"$1_digest\":\"[0-9a-f]\{16\}\"" | sort -u | wc -l; }
    [ "$(digests config)" -eq 2 ]
    [ "$(digests data)" -eq 1 ]
    grep '"event":"evaluation"' run/log.jsonl | grep -q '"bits_per_byte":[0-9.]*,"unknown":0,'
    # the wall clock does not run backwards
    sed 's/.*"time":"\([^"]*\)".*/\1/' run/log.jsonl | sort -c
}

@test "unknown words in the training text are counted and warned of" {
    cd "$BATS_TEST_TMPDIR"
    "$DEQ" tokenize --train "$BATS_FILE_TMPDIR/train" --valid "$BATS_FILE_TMPDIR/valid" \
        --max-vocab 8 --out few
    run "$DEQ" train --config "$config" --set data.dir=few --set train.steps=8 --out run
    [ "$status" -eq 0 ]
    share=$(sed -n 's/.*training tokens, \([0-9.]*\) % of them <unk>.*/\1/p' <<<"$output")
    words=$(wc -w <"$BATS_FILE_TMPDIR/train")
    known=$(tr ' ' '\n' <"$BATS_FILE_TMPDIR/train" | grep -cxFf few/vocab.txt)
    lines=$(wc -l <"$BATS_FILE_TMPDIR/train")
    awk "BEGIN { d = $share - 100 * ($words - $known) / ($words + $lines); exit !(d * d < 1e-4) }"
    [[ "$output" == *"deq train: warning: "*" % of the training tokens are <unk>"* ]]
    [[ "$output" == *"validation ppl "*" % <unk>"* ]]
    [[ "$output" != *"bits per byte"* ]]
    grep '"event":"evaluation"' run/log.jsonl |
        grep -q '"bits_per_byte":null,"bits_per_byte_known":[0-9.]*,"unknown":0\.[0-9]*,'
}
