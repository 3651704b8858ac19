#!/usr/bin/env bats
# A text in subwords, from the text to a sample and back.

bats_require_minimum_version 1.5.0

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    awk 'BEGIN {
        srand(3)
        n = split("king queen walk talk say well know dom un go see caf\303\251 12 \342\226\201 the of a", part, " ")
        m = split("ing,ed,ly,er,s,, ,\t,!", end, ",")
        for (i = 0; i < 600; i++) {
            for (j = 0; j < 9; j++)
                printf "%s%s%s ", part[1 + int(rand() * n)], part[1 + int(rand() * n)],
                    end[1 + int(rand() * m)]
            print ""
        }
    }' >text
    head -n 80 text >valid
    cat >tiny.json <<'CONFIG'
{ "model": { "d_model": 8, "n_head": 2, "d_inner": 16, "init_std": 0.1 },
  "train": { "steps": 20, "batch": 2, "tgt_len": 16, "mem_len": 4, "pretrain_steps": 1,
             "warmup_steps": 2, "lr": 0.01, "eval_every": 0, "checkpoint_every": 0 },
  "eval": { "batch": 2, "tgt_len": 16, "mem_len": 4, "max_iter": 4 } }
CONFIG
    built=no
    if "$DEQ" tokenize --train text --valid valid --subwords 320 --out data >data.log 2>&1; then
        built=yes
        "$DEQ" train -q --config tiny.json --set data.dir="$home/data" --out run
    fi
    export built
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
    [ "$built" = yes ] || grep -q "built without SentencePiece" "$home/data.log"
}

# Most tests need the library, and this file says so where it is missing.
need()
{
    [ "$built" = yes ] || skip "built without SentencePiece (scripts/deps.sh subwords)"
}

# field NAME OBJECT: a number, word or null of a JSON object.
field()
{
    sed -n "s/.*\"$1\":\"\{0,1\}\([^,}\"]*\).*/\1/p" <<<"$2"
}

@test "without the library --subwords says which package is missing" {
    [ "$built" = no ] || skip "built with SentencePiece"
    run "$DEQ" tokenize --train "$home/text" --subwords 320 --out data
    [ "$status" -eq 69 ]
    [[ "$output" == *"libsentencepiece-dev"* ]]
    [ ! -e data ]
}

@test "a text is made subwords, and says how long they are" {
    need
    grep -q "^vocabulary  320 subwords, trained on " "$home/data.log"
    grep -q "^train       [0-9]* tokens of [0-9.]* bytes" "$home/data.log"
    head -n 1 "$home/data/vocab.txt" | grep -qx '# split: subwords, [0-9a-f]\{16\}'
    [ "$(wc -l <"$home/data/vocab.txt")" -eq 321 ]
    [ -s "$home/data/tokenizer.model" ]
    run --separate-stderr "$DEQ" tokenize --train "$home/text" --valid "$home/valid" --subwords 330 \
        --model-type bpe --out bpe --json
    [ "$status" -eq 0 ]
    [ -z "$stderr" ]
    [ "$(field split "$output")" = subwords ]
    [ "$(field vocab "$output")" -eq 330 ]
    [ "$(field lossless "$output")" = true ]
    [ "$(field sampled "$output")" -gt 10000 ]
    awk -v b="$(field train_bytes_per_token "$output")" -v t="$(field train_tokens "$output")" \
        -v size="$(wc -c <"$home/text")" 'BEGIN { exit !(b > 1.5 && b * t > size - 1 && b * t < size + 1) }'
}

@test "the same text gives the same pieces, on any number of threads" {
    need
    for threads in 1 3; do
        "$DEQ" tokenize --train "$home/text" --valid "$home/valid" --subwords 320 --threads $threads \
            --out "on-$threads"
        cmp "on-$threads/tokenizer.model" "$home/data/tokenizer.model"
        cmp "on-$threads/valid-00000.bin" "$home/data/valid-00000.bin"
    done
}

@test "a tokenizer, a folder and a checkpoint give the same tokens" {
    need
    "$DEQ" tokenize --train "$home/text" --tokenizer "$home/data/tokenizer.model" --out a
    "$DEQ" tokenize --train "$home/text" --vocab "$home/data" --out b
    "$DEQ" tokenize --train "$home/text" --vocab "$home/run" --out c
    gzip -c "$home/text" >text.gz
    "$DEQ" tokenize --train text.gz --vocab "$home/data/vocab.txt" --out d
    for folder in a b c d; do
        cmp $folder/train-00000.bin "$home/data/train-00000.bin"
        cmp $folder/vocab.txt "$home/data/vocab.txt"
        cmp $folder/tokenizer.model "$home/data/tokenizer.model"
    done
    # words in the same folder leave no tokenizer behind
    "$DEQ" tokenize --train "$home/text" --out a --force
    [ ! -e a/tokenizer.model ]
}

@test "shares of a text from a pipe" {
    need
    "$DEQ" tokenize --train - --valid-share 10% --subwords 320 --out drawn --json <"$home/text" >log
    [ "$(field valid_tokens "$(cat log)")" -gt 100 ]
    [ -s drawn/tokenizer.model ]
}

@test "a model is trained on subwords, evaluated, and pays for every byte" {
    need
    run --separate-stderr "$DEQ" eval "$home/run" --json
    [ "$status" -eq 0 ]
    [ "$(field token "$output")" = subword ]
    [ "$(field unknown "$output")" = 0 ]
    total=$(field tokens "$("$DEQ" info "$home/data/valid-00000.bin" --json)")
    words=$(awk '{ n += NF } END { print n }' "$home/valid")
    # the sum of losses, over the bytes and over the words of the whole text
    awk -v nll="$(field nll "$output")" -v bits="$(field bits_per_byte "$output")" \
        -v word="$(field ppl_word "$output")" -v total="$total" -v words="$words" \
        -v size="$(wc -c <"$home/valid")" 'BEGIN {
            want = nll * total / log(2) / size
            if (bits < want * (1 - 1e-6) || bits > want * (1 + 1e-6)) exit 1
            want = nll * total / words
            exit !(log(word) > want * (1 - 1e-6) && log(word) < want * (1 + 1e-6))
        }'
}

@test "a sample is text, also where the tokenizer is only in the checkpoint" {
    need
    cp "$home/run/last.bin" alone.bin
    prompt=$(printf '▁caf\303\251  the\tking\n said')
    run --separate-stderr "$DEQ" sample --checkpoint alone.bin --prompt "$prompt" --tokens 8 --seed 2
    [ "$status" -eq 0 ]
    [[ "$output" == "$prompt"* ]]
    run --separate-stderr "$DEQ" sample --checkpoint alone.bin --prompt "$prompt" --tokens 8 --seed 2 --json
    [[ "$output" == *'"text":"▁café  the\tking\n said'* ]]
}

@test "exported and imported weights come with the tokenizer" {
    need
    "$DEQ" export "$home/run" --out w.safetensors
    "$DEQ" import w.safetensors --data "$home/data" --out w.bin
    a=$("$DEQ" sample --checkpoint "$home/run" --prompt "the king" --tokens 6 --temperature 0)
    b=$("$DEQ" sample --checkpoint w.bin --prompt "the king" --tokens 6 --temperature 0)
    [ "$a" = "$b" ]
}

@test "a text that is scored and one that is evaluated pay for the same bytes" {
    need
    head -n 5 "$home/valid" >lines
    "$DEQ" score "$home/run" lines --json >scores 2>/dev/null
    total=$(tail -n 1 scores)
    awk -v logp="$(field logprob "$total")" -v bits="$(field bits_per_byte "$total")" \
        -v size="$(wc -c <lines)" 'BEGIN {
            want = -logp / log(2) / size
            exit !(bits > want * (1 - 1e-6) && bits < want * (1 + 1e-6)) }'
    "$DEQ" score "$home/run" lines --tokens --json 2>/dev/null | grep '"pieces"' |
        grep -o '"text":"[^"]*"' | sed 's/^"text":"//; s/"$//' | tr -d '\n' >texts
    # the bytes of U+2581 are tokens by themselves
    sed 's/▁/<0xE2><0x96><0x81>/g; s/\t/\\t/g; s/$/\\n/' lines | tr -d '\n' | cmp - texts
}

@test "token files of other programs take the tokenizer.model beside them" {
    need
    mkdir raw
    tail -c +129 "$home/data/train-00000.bin" >raw/train.bin # as nanoGPT has them
    tail -c +129 "$home/data/valid-00000.bin" >raw/val.bin
    cp "$home/data/tokenizer.model" raw
    "$DEQ" train -q --config "$home/tiny.json" --data raw --set train.steps=2 --out run-raw
    run --separate-stderr "$DEQ" sample run-raw --prompt "the king" --tokens 4
    [ "$status" -eq 0 ]
    [[ "$output" == "the king"* ]]
}

@test "a lost or another tokenizer is said" {
    need
    cp -r "$home/data" lost
    rm lost/tokenizer.model
    run "$DEQ" tokenize --train "$home/text" --vocab lost --out x
    [ "$status" -eq 65 ]
    [[ "$output" == *"without the tokenizer.model"* ]]
    "$DEQ" train -q --config "$home/tiny.json" --set data.dir=lost --set train.steps=2 --out trained
    run "$DEQ" sample --checkpoint trained --prompt a
    [ "$status" -eq 65 ]
    [[ "$output" == *"without its tokenizer.model"* ]]
    "$DEQ" tokenize --train "$home/text" --subwords 330 --model-type bpe --out other
    cp other/tokenizer.model lost
    run "$DEQ" train -q --config "$home/tiny.json" --set data.dir=lost --out never
    [ "$status" -eq 65 ]
    [[ "$output" == *"lost/tokenizer.model: not the model that the vocabulary was made from"* ]]
    cp "$home/text" no.model
    run "$DEQ" tokenize --train "$home/text" --tokenizer no.model --out x
    [ "$status" -eq 65 ]
    [[ "$output" == *"no.model: not a model of SentencePiece"* ]]
    [ ! -e x ]
}

@test "too many and too few pieces: one line each, with a number that does" {
    need
    run "$DEQ" tokenize --train "$home/text" --subwords 100000 --out x
    [ "$status" -eq 65 ]
    [ "${#lines[@]}" -eq 1 ]
    most=$(sed -n 's/.*at most \([0-9]*\), or more text$/\1/p' <<<"$output")
    "$DEQ" tokenize --train "$home/text" --subwords "$most" --out most
    run "$DEQ" tokenize --train "$home/text" --subwords 257 --out x
    [ "$status" -eq 65 ]
    [ "${#lines[@]}" -eq 1 ]
    least=$(sed -n 's/.*at least \([0-9]*\)$/\1/p' <<<"$output")
    "$DEQ" tokenize --train "$home/text" --subwords "$least" --out least
    [ ! -e x ]
}

@test "another kind of text, and options that do not go together" {
    need
    awk 'BEGIN { for (i = 0; i < 300; i++) print "\316\261\316\262\316\263 \316\264\316\265" }' >greek
    run "$DEQ" tokenize --train greek --vocab "$home/data" --out greek-data
    [ "$status" -eq 0 ]
    [[ "$output" == *"warning: greek: "*" % of the tokens are single bytes"* ]]
    for options in "--subwords 320 --bytes" "--subwords 320 --lower" "--model-type bpe" \
        "--subwords 320 --vocab $home/data" "--subwords 320 --min-count 2" \
        "--tokenizer $home/data/tokenizer.model --model-type bpe"; do
        # shellcheck disable=SC2086
        run "$DEQ" tokenize --train greek --out y $options
        [ "$status" -eq 64 ]
        [ ! -e y ]
    done
}
