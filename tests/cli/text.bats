#!/usr/bin/env bats
# Texts, vocabularies and prompts as editors and other programs leave them, and what of a text a
# figure is about.

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    awk 'BEGIN { for (i = 0; i < 300; i++) print "the king said to the son of the king " i % 7 }' >text
    "$DEQ" tokenize --train text --valid text --unk map --out data >/dev/null
    "$DEQ" tokenize --train text --valid text --out plain >/dev/null
    "$DEQ" tokenize --train text --valid text --bytes --out bytes >/dev/null
    cat >tiny.json <<'CONFIG'
{ "model": { "d_model": 8, "n_head": 2, "d_inner": 16, "init_std": 0.1 },
  "train": { "steps": 20, "batch": 2, "tgt_len": 8, "mem_len": 4, "pretrain_steps": 1,
             "warmup_steps": 2, "lr": 0.01, "eval_every": 0, "checkpoint_every": 0 },
  "eval": { "batch": 2, "tgt_len": 16, "mem_len": 4, "max_iter": 4 } }
CONFIG
    for data in data plain bytes; do
        "$DEQ" train -q --config tiny.json --set data.dir="$home/$data" --out run-$data
    done
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

# sampled DATA deq-arguments...: the text that a greedy sample has.
sampled()
{
    local data=$1
    shift
    "$DEQ" sample --checkpoint "$home/run-$data/last.bin" --temperature 0 --tokens 4 --json "$@" |
        sed 's/.*"text":"//; s/","tokens":.*//'
}

@test "a mark, line ends of CR LF and a missing last newline make no other tokens" {
    # shellcheck disable=SC2059
    sed 's/$/\r/' "$home/text" | { printf '\xef\xbb\xbf'; cat; } | head -c -2 >edited
    "$DEQ" tokenize --train edited --unk map --out a
    cmp a/train-00000.bin "$home/data/train-00000.bin" 2>/dev/null ||
        [ "$("$DEQ" info a/train-00000.bin | grep checksum)" = \
            "$("$DEQ" info "$home/data/train-00000.bin" | grep checksum)" ]
    cmp a/vocab.txt "$home/data/vocab.txt"
    sed 's/$/\r/' "$home/data/vocab.txt" | { printf '\xef\xbb\xbf'; cat; } | head -c -2 >words
    "$DEQ" tokenize --train edited --vocab words --out b
    cmp b/vocab.txt "$home/data/vocab.txt"
    cmp b/train-00000.bin a/train-00000.bin
    # a folder whose list of words was edited is still that of its shards, and trains
    cp -r "$home/data" edited-data
    cp words edited-data/vocab.txt
    "$DEQ" train -q --config "$home/tiny.json" --set data.dir=edited-data --out run
    "$DEQ" info run/last.bin --vocab | cmp - "$home/data/vocab.txt"
    "$DEQ" eval run/last.bin --data "$home/data"
}

@test "a line of many blocks" {
    yes 'the king said' | tr '\n' ' ' | head -c 20000000 >line
    printf 'the end\n' >>line
    "$DEQ" tokenize --train line --vocab "$home/data/vocab.txt" --out data --json >json
    [ "$(field train_tokens "$(tail -n 1 json)")" -eq $(($(wc -w <line) + 1)) ]
}

@test "NUL bytes and bytes that are no UTF-8 are refused wherever words are read, with the place" {
    printf 'the\nki\0ng\n' >nul
    run "$DEQ" tokenize --train nul --out none
    [ "$status" -eq 65 ]
    [[ "$output" == *"nul:2: NUL byte 0x00 (byte 6 "* ]]
    run "$DEQ" tokenize --train "$home/text" --vocab nul --out none
    [ "$status" -eq 65 ]
    [[ "$output" == *"nul:2: NUL byte (byte 6 "* ]]
    run "$DEQ" sample --checkpoint "$home/run-data/last.bin" --prompt-file nul
    [ "$status" -eq 65 ]
    [[ "$output" == *"nul: line 2: NUL byte 0x00 (byte 6)"* ]]
    run "$DEQ" sample --checkpoint "$home/run-data/last.bin" --prompt $'the\xff'
    [ "$status" -eq 65 ]
    [[ "$output" == *"--prompt: line 1: invalid UTF-8 byte 0xFF"* ]]
    "$DEQ" sample --checkpoint "$home/run-bytes/last.bin" --prompt-file nul --tokens 1 >out
    cmp -n 9 nul out
}

@test "lines of a prompt end as those of a text, from wherever it comes" {
    want=$(sampled data --prompt "the king <eos> said <eos> the")
    [[ "$want" == 'the king\nsaid\nthe '* ]]
    [ "$(sampled data --prompt $'the king\nsaid\nthe')" = "$want" ]
    [ "$(sampled data --prompt $'the king\r\nsaid\r\nthe')" = "$want" ]
    printf '\xef\xbb\xbfthe king\nsaid\nthe' >prompt
    [ "$(sampled data --prompt-file prompt)" = "$want" ]
    [ "$(sampled data --prompt - <prompt)" = "$want" ]
    [[ "$(sampled data --prompt $'the king\n')" == 'the king\n'* ]]
    [ "$(sampled data --prompt '' </dev/null)" = "$(sampled data --prompt - </dev/null)" ]
    # bytes are taken as they come
    [[ "$(sampled bytes --prompt-file prompt)" == $'\xef\xbb\xbfthe king\\nsaid\\nthe'* ]]
    # larger than a command line
    yes the | head -n 50000 >many
    "$DEQ" sample --checkpoint "$home/run-data/last.bin" --tokens 1 --prompt-file many >out
    [ "$(wc -w <out)" -ge 50000 ]
}

@test "a prompt comes from one place, and a file of it must be there" {
    run "$DEQ" sample --prompt a --prompt-file b
    [ "$status" -eq 64 ]
    [[ "$output" == *"want --prompt TEXT, --prompt - "*"--prompt-file FILE"* ]]
    run "$DEQ" sample --checkpoint "$home/run-data/last.bin" --prompt-file none
    [ "$status" -eq 66 ]
    [[ "$output" == *"none: cannot open the prompt"* ]]
    run "$DEQ" sample --checkpoint "$home/run-data/last.bin" --prompt-file .
    [ "$status" -eq 74 ]
}

@test "unknown words of a prompt are <unk> where there is one, and told" {
    run "$DEQ" sample --device cpu --checkpoint "$home/run-data/last.bin" --tokens 1 --prompt 'the kign went'
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" == *'warning: --prompt: "kign" is not in the vocabulary and becomes <unk>; did you mean "king"? (2 are unknown)' ]]
    [[ "${lines[1]}" == "the <unk> <unk> "* ]]
    run "$DEQ" sample --device cpu --checkpoint "$home/run-plain/last.bin" --tokens 1 --prompt 'the kign'
    [ "$status" -eq 65 ]
    [[ "$output" == *'--prompt: "kign" is not in the vocabulary; did you mean "king"?' ]]
}

@test "the output of sample ends with one newline" {
    for data in data bytes; do
        for tokens in 0 1 2 3 9 20; do
            for prompt in 'the king' $'the king\n' ''; do
                "$DEQ" sample --checkpoint "$home/run-$data/last.bin" --tokens $tokens --seed 3 \
                    --prompt "$prompt" >out
                [ -z "$prompt$(tr -d '\n' <out)" ] || [ "$(tail -c 1 out | od -An -tx1)" = " 0a" ]
            done
        done
    done
    "$DEQ" sample --checkpoint "$home/run-data/last.bin" --tokens 0 --prompt $'the king\n' >out
    printf 'the king\n' | cmp - out
}

@test "eval counts <unk>, and bits per byte are of bytes that were paid for" {
    out=$("$DEQ" eval --device cpu "$home/run-data/last.bin" --json 2>err | tail -n 1)
    [ "$(field unknown "$out")" = 0 ]
    [ ! -s err ]
    [[ "$(field bits_per_byte "$out")" == [0-9]* && "$out" != *bits_per_byte_known* ]]
    # one token of 55, and two of 11
    awk '{ if (NR % 5 == 0) sub("son", "daughter"); print }' "$home/text" >few
    awk '{ gsub("king", "queen"); print }' "$home/text" >half
    for text in few half; do
        "$DEQ" tokenize --train $text --valid $text --vocab "$home/data/vocab.txt" --out $text-data \
            --json >$text.json 2>$text.err
    done
    [ ! -s few.err ]
    grep -q "warning: half: 18.2 % of the tokens became <unk>: the vocabulary is that of another" half.err
    awk "BEGIN { x = 11 * $(field valid_unknown "$(tail -n 1 half.json)"); exit !(x > 1.999 && x < 2.001) }"
    [ "$(field test_unknown "$(tail -n 1 half.json)")" = 0 ]
    out=$("$DEQ" eval --device cpu "$home/run-data/last.bin" --data few-data --json 2>err | tail -n 1)
    awk "BEGIN { x = $(field unknown "$out"); exit !(x > 0.015 && x < 0.025) }"
    [ ! -s err ]
    [ "$(field bits_per_byte "$out")" = null ]
    [[ "$(field bits_per_byte_known "$out")" == [0-9]* ]]
    out=$("$DEQ" eval --device cpu "$home/run-data/last.bin" --data half-data 2>err)
    grep -q "warning: 18\.[0-9] % of the scored tokens are <unk>.*--bytes" err
    [[ "$out" == *"bits per byte of known words"*"unknown        "*" % of the scored tokens are <unk>"* ]]
}

@test "bits per byte of known words are those of all words where all are known" {
    # The same figures by another way: a text with an <unk> of its own that is scored once.
    { cat "$home/text"; echo "the <unk> king"; } >with
    "$DEQ" tokenize --train with --valid with --vocab "$home/data/vocab.txt" --out with-data
    known=$(field bits_per_byte_known "$("$DEQ" eval --device cpu "$home/run-data/last.bin" --data with-data \
        --set eval.batch=1 --json | tail -n 1)")
    all=$(field bits_per_byte "$("$DEQ" eval --device cpu "$home/run-data/last.bin" --set eval.batch=1 --json | tail -n 1)")
    awk "BEGIN { r = $known / $all; print r; exit !(r > 0.99 && r < 1.01) }"
}
