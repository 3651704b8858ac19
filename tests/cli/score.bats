#!/usr/bin/env bats
# Scores of lines, tokens and pairs, and evaluations of any text, compared with each other.

bats_require_minimum_version 1.5.0

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    awk 'BEGIN { for (i = 0; i < 300; i++) print "the king said to the son of the king " i % 7 }' >text
    "$DEQ" tokenize --train text --valid text --unk map --split blanks --out words >/dev/null 2>&1
    "$DEQ" tokenize --train text --valid text --bytes --out bytes >/dev/null
    for data in words bytes; do
        "$DEQ" train -q --out run-$data --set data.dir="$home/$data" --config <(cat <<'CONFIG'
{ "model": { "d_model": 16, "n_head": 2, "d_inner": 32, "init_std": 0.1 },
  "train": { "steps": 60, "batch": 4, "tgt_len": 16, "mem_len": 8, "pretrain_steps": 20,
             "warmup_steps": 2, "lr": 0.005, "eval_every": 0, "checkpoint_every": 0 },
  "jacobian": { "weight": 1, "probability": 1 },
  "eval": { "batch": 2, "tgt_len": 12, "mem_len": 12, "max_iter": 30 } }
CONFIG
        )
    done
    {
        printf 'the king said\n\nof the son of zebra the king\n'
        printf 'the king said to the son of the king 3 said to the son of the king 4 the son of '
        printf 'the king 5 of the king 6 to the son to the king\nking\r\nthe son'
    } >lines
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
}

# field NAME OBJECT: a number or null of a JSON object.
field()
{
    sed -n "s/.*\"$1\":\([^,}]*\)[,}].*/\1/p" <<<"$2"
}

# near A B: two numbers that differ by a millionth at most.
near()
{
    awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; if (d < 0) d = -d; m = a < 0 ? -a : a
                                     exit !(a != "" && d <= 1e-6 * m) }' ||
        { echo "$1 is not $2"; return 1; }
}

# score DATA deq-arguments...: the objects of deq score for a model of words or bytes.
score()
{
    data=$1
    shift
    "$DEQ" score "$home/run-$data/last.bin" "$@" --json 2>err
}

@test "every line counts, and so does every token of it" {
    score words "$home/lines" >o
    [ "$(wc -l <o)" -eq 7 ] # six lines and the total
    # words and a line end each; an empty line is a line end
    [ "$(sed -n 's/^{"line":[0-9]*,.*"tokens":\([0-9]*\),.*/\1/p' o | xargs)" = "4 1 8 35 2 3" ]
    [ "$(sed -n 's/^{"line":[0-9]*,.*"unknown":\([0-9]*\),.*/\1/p' o | xargs)" = "0 0 1 0 0 0" ]
    [ "$(field tokens "$(tail -n 1 o)")" -eq 53 ]
    near "$(field logprob "$(tail -n 1 o)")" \
        "$(sed -n 's/^{"line":[0-9]*,"logprob":\([^,]*\),.*/\1/p' o | awk '{ s += $1 } END { printf "%.10f", s }')"
    # without the line ends
    score words "$home/lines" --no-eos >o
    [ "$(field tokens "$(tail -n 1 o)")" -eq 47 ]
}

@test "a line has the same score in other batches and segment lengths" {
    score words "$home/lines" >o
    for how in "--batch 1 --tgt-len 1" "--batch 4 --tgt-len 5" "--batch 6 --tgt-len 40"; do
        # shellcheck disable=SC2086
        score words "$home/lines" $how >p
        [ "$(field unconverged "$(tail -n 1 p)")" -eq 0 ]
        for line in 1 2 3 4 5 6 7; do
            near "$(field logprob "$(sed -n ${line}p o)")" "$(field logprob "$(sed -n ${line}p p)")"
        done
    done
    # lines by themselves, from standard input
    near "$(field logprob "$(sed -n 4p o)")" \
        "$(field logprob "$(sed -n 4p "$home/lines" | score words - | head -n 1)")"
}

@test "the reference in float64 agrees to 1e-5" {
    for data in words bytes; do
        a=$(field logprob "$(score $data "$home/lines" | tail -n 1)")
        b=$(field logprob "$(score $data "$home/lines" --device ref --tol 1e-9 --max-iter 1000 | tail -n 1)")
        awk -v a="$a" -v b="$b" 'BEGIN { d = (a - b) / b; exit !(d < 1e-5 && d > -1e-5) }'
    done
}

@test "the tokens of a line add up to it, with ranks from 1 and evaluations" {
    for data in words bytes; do
        score $data "$home/lines" >o
        score $data "$home/lines" --tokens >p
        for line in 1 3 4 6; do
            sum=$(sed -n ${line}p p | sed 's/.*"pieces"//' | grep -o '"logprob":[^,]*' | cut -d: -f2 |
                awk '{ s += $1 } END { printf "%.10f", s }')
            near "$(field logprob "$(sed -n ${line}p o)")" "$sum"
        done
        if grep -q '"rank":0\|"nfe":0' p; then false; fi
    done
    score words "$home/lines" --tokens | sed -n 3p >p
    grep -q '{"text":"zebra","unknown":true,"logprob":' p
    # the table has a row for each token
    "$DEQ" score "$home/run-words/last.bin" "$home/lines" --tokens 2>err >p
    [ "$(wc -l <p)" -eq 55 ]
    grep -q 'zebra (unknown)$' p
    awk -F '\t' 'NF < 3 { exit 1 } NR > 1 && NR < 55 && NF != 5 { exit 1 }' p
}

@test "an evaluation of a text is the score of it as one line" {
    for data in words bytes; do
        sed -n 4p "$home/lines" >one
        a=$("$DEQ" eval "$home/run-$data/last.bin" --text one --json)
        b=$(score $data one | tail -n 1)
        [ "$(field tokens "$a")" = "$(field tokens "$b")" ]
        near "$(awk -v x="$(field nll "$a")" -v n="$(field tokens "$a")" 'BEGIN { printf "%.10f", -x * n }')" \
            "$(field logprob "$b")"
        [ "$(field leak "$a")" = null ]
    done
    # one token and its line end, and nothing at all
    [ "$(field tokens "$(echo king | "$DEQ" eval "$home/run-words/last.bin" --text - --json)")" -eq 2 ]
    run -65 "$DEQ" eval "$home/run-words/last.bin" --text /dev/null
    [[ "$output" == *"holds no token"* ]]
}

@test "an evaluation of a text is that of shards, token by token and at a batch of 1" {
    head -n 40 "$home/text" >part
    { echo; cat part; } >behind-a-line # of shards the first token is context alone
    "$DEQ" tokenize --train part --valid behind-a-line --vocab "$home/words/vocab.txt" --out part-words >/dev/null 2>&1
    "$DEQ" tokenize --train part --valid behind-a-line --bytes --out part-bytes >/dev/null
    for data in words bytes; do
        a=$("$DEQ" eval "$home/run-$data/last.bin" --data "part-$data" --decode --batch 1 --tol 1e-6 \
            --set eval.max_iter=200 --json)
        b=$("$DEQ" eval "$home/run-$data/last.bin" --text part --json)
        [ "$(field tokens "$a")" = "$(field tokens "$b")" ]
        near "$(field nll "$a")" "$(field nll "$b")"
    done
    # and of a split in one segment without memory, which a window holds
    head -n 2 "$home/text" >part
    { echo; cat part; } >behind-a-line
    "$DEQ" tokenize --train part --valid behind-a-line --vocab "$home/words/vocab.txt" --out two --force >/dev/null 2>&1
    near "$(field nll "$("$DEQ" eval "$home/run-words/last.bin" --data two --batch 1 --tgt-len 24 --mem-len 0 \
        --tol 1e-6 --set eval.max_iter=200 --json)")" \
        "$(field nll "$("$DEQ" eval "$home/run-words/last.bin" --text part --json)")"
}

@test "bits per byte are those of all bytes, or named as those of the known words" {
    b=$(score bytes "$home/lines" | tail -n 1)
    [ "$(field tokens "$b")" -eq "$(wc -c <"$home/lines")" ]
    near "$(field bits_per_byte "$b")" "$(awk -v l="$(field logprob "$b")" -v n="$(wc -c <"$home/lines")" \
        'BEGIN { printf "%.10f", -l / log(2) / n }')"
    [ -z "$(field bits_per_byte_known "$b")" ]
    b=$(score words "$home/lines")
    grep -q '"bits_per_byte":' <<<"$(sed -n 1p <<<"$b")"
    grep -q '"bits_per_byte_known":' <<<"$(sed -n 3p <<<"$b")"
    if grep -q '"bits_per_byte":' <<<"$(sed -n 3p <<<"$b")"; then false; fi
    near "$(field bits_per_byte "$(sed -n 1p <<<"$b")")" \
        "$(awk -v l="$(field logprob "$(sed -n 1p <<<"$b")")" 'BEGIN { printf "%.10f", -l / log(2) / 14 }')"
    # above 5 % unknown words there is a warning that says what to do
    echo "zebra the king" | "$DEQ" score "$home/run-words/last.bin" 2>err >/dev/null
    grep -q "warning: 25.0 % of the scored tokens are <unk>.*--bytes" err
}

@test "a pair is greedy where deq sample would have said it" {
    best=$home/run-words/last.bin
    for context in "the king said to" "the son of" "of" "king 3"; do
        "$DEQ" sample "$best" --prompt "$context" --temperature 0 --tol 1e-6 --tokens 1 --raw 2>/dev/null >said
        word=$(head -n 1 said | awk '{ print $NF }')
        [ "$(wc -l <said)" -eq 1 ] || continue
        printf '{"context":"%s","continuation":" %s"}\n{"context":"%s","continuation":" son"}\n' \
            "$context" "$word" "$context" >pairs
        score words --pairs pairs >o
        [ "$(field greedy "$(sed -n 1p o)")" = true ]
        [ "$word" = son ] || [ "$(field greedy "$(sed -n 2p o)")" = false ]
        [ "$(field pairs "$(tail -n 1 o)")" -eq 2 ]
    done
    # the chain rule, and a line's beginning as the context of nothing
    printf '{"context":"","continuation":"the king"}\n{"continuation":" said","context":"\\nthe king"}
{"context":"","continuation":"the king said"}\n\n{"context":"the","continuation":""}\n' >pairs
    score words --pairs - <pairs >o
    near "$(field logprob "$(sed -n 3p o)")" \
        "$(awk -v a="$(field logprob "$(sed -n 1p o)")" -v b="$(field logprob "$(sed -n 2p o)")" \
            'BEGIN { printf "%.10f", a + b }')"
    [ "$(field tokens "$(sed -n 4p o)")" -eq 0 ]
}

@test "what is no text, no pair or no checkpoint is named with its line" {
    best=$home/run-words/last.bin
    printf 'the king\nthe \xff king\n' >bad
    run -65 "$DEQ" score "$best" bad
    [[ "$output" == *"bad:2: invalid UTF-8 byte 0xFF"* ]]
    printf 'the king\n\n\0\n' | run -65 "$DEQ" score "$best"
    printf 'the king\n\n\0\n' >nul
    run -65 "$DEQ" score "$best" - <nul
    [[ "$output" == *"standard input:3: NUL byte"* ]]
    printf 'x\n\0\xff\n' | "$DEQ" score "$home/run-bytes/last.bin" | grep -q "total"
    printf '{"context":"a","continuation":"b"}\n{"context":"a"}\n' >pairs
    run -65 "$DEQ" score "$best" --pairs pairs
    [[ "$output" == *"pairs:2"*"continuation"* ]]
    printf '[1]\n' >pairs
    run -65 "$DEQ" score "$best" --pairs pairs
    run -66 "$DEQ" score "$best" missing
    run -66 "$DEQ" score missing "$home/lines"
    run -64 "$DEQ" score "$best" "$home/lines" --pairs pairs
    run -64 "$DEQ" eval "$best" --text "$home/lines" --batch 3
    [[ "$output" == *"--text and --batch"* ]]
    # a mark at the start is no word, and CR LF no other token
    { printf '\xef\xbb\xbf'; sed 's/$/\r/' "$home/text"; } >edited
    near "$(field logprob "$(score words "$home/text" | tail -n 1)")" \
        "$(field logprob "$(score words edited | tail -n 1)")"
}

@test "several checkpoints make a table, and one that fails is named" {
    run -66 --separate-stderr "$DEQ" eval "$home/run-words/last.bin" missing "$home/run-bytes/last.bin" \
        --text - <"$home/lines"
    [ "${#lines[@]}" -ge 4 ]
    [[ "${lines[2]}" == *"missing: failed" ]]
    [[ "${lines[3]}" == *"run-bytes/last.bin" ]]
    [[ "$stderr" == *"1 of 3 checkpoints could not be evaluated" ]]
    run -0 --separate-stderr "$DEQ" eval "$home/run-words/last.bin" "$home/run-words" --text "$home/lines" --json
    [[ "$output" == '{"checkpoints":[{"checkpoint":'*'},{"checkpoint":'*'}]}' ]]
    # of one, the fields are outside too
    run -0 --separate-stderr "$DEQ" eval "$home/run-words/last.bin" --text "$home/lines" --json
    [[ "$output" == '{"checkpoint":'*'"checkpoints":[{"checkpoint":'*'}]}' ]]
}

@test "a split that is too short for the batch is read as one stream" {
    printf 'king\n' >short
    "$DEQ" tokenize --train "$home/text" --valid short --vocab "$home/words/vocab.txt" --out short-data >/dev/null 2>&1
    run -0 --separate-stderr "$DEQ" eval "$home/run-words/last.bin" --data short-data --set eval.max_iter=9
    [[ "$stderr" == *"a batch of 1 in place of 2"* ]]
    [[ "$output" == *"1 of 2; 1 streams"* ]]
    run -65 "$DEQ" eval "$home/run-words/last.bin" --data short-data --batch 3
    [[ "$output" == *"too few for a batch of 3"* ]]
}
