#!/usr/bin/env bats
# Token files of llm.c, nanoGPT and NumPy as data: the same training as from shards of the same
# tokens, and one clear message for what does not fit.

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    # A text of numbers below 300, and the vocabulary of ids, make shards of the same tokens.
    tokens 3000 1 >train.ids
    tokens 900 2 >valid.ids
    { echo "# split: ids, end 299" && seq 0 299; } >ids.txt
    "$DEQ" tokenize --train train.ids --valid valid.ids --vocab ids.txt --out shards >/dev/null
    mkdir nanogpt llmc wide npy
    words 2 train.ids >nanogpt/train.bin
    words 2 valid.ids >nanogpt/val.bin
    { llmc_head 20240520 1 2000 && head -n 2000 train.ids | words 2; } >llmc/x_train_000001.bin
    { llmc_head 20240520 1 1000 && tail -n 1000 train.ids | words 2; } >llmc/x_train_000002.bin
    { llmc_head 20240520 1 900 && words 2 valid.ids; } >llmc/x_val_000000.bin
    { llmc_head 20240801 7 3000 && words 4 train.ids; } >wide/train.bin
    { llmc_head 20240801 7 900 && words 4 valid.ids; } >wide/val.bin
    { npy_head u2 3000 && words 2 train.ids; } >npy/train.npy
    { npy_head u2 900 && words 2 valid.ids; } >npy/valid.npy
    cat >tiny.json <<'CONFIG'
{ "data": { "end_of_text": 299 },
  "model": { "d_model": 8, "n_head": 2, "d_inner": 16, "init_std": 0.1, "vocab_size": 300 },
  "train": { "steps": 6, "batch": 2, "tgt_len": 8, "mem_len": 4, "pretrain_steps": 1,
             "warmup_steps": 2, "lr": 0.01, "eval_every": 6, "checkpoint_every": 0 },
  "eval": { "batch": 2, "tgt_len": 16, "mem_len": 4, "max_iter": 4 } }
CONFIG
    "$DEQ" train -q --config tiny.json --set data.dir="$home/shards" --out run-shards
    "$DEQ" train -q --config tiny.json --set data.dir="$home/nanogpt" --out run-nanogpt
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
}

# tokens N SEED: N numbers below 300, one a line.
tokens()
{
    awk -v n="$1" -v x="$2" 'BEGIN { for (i = 0; i < n; i++) print x = (x * 211 + 7) % 299 }'
}

# words WIDTH [FILE]: the numbers of the lines in WIDTH bytes each, little endian.
words()
{
    local text
    text=$(awk -v width="$1" '{
        for (i = 0; i < width; i++) {
            printf "\\x%02x", $1 % 256
            $1 = int($1 / 256)
        }
    }' "${@:2}")
    # shellcheck disable=SC2059
    printf "$text"
}

# llmc_head MAGIC VERSION COUNT: the header of a file of llm.c.
llmc_head()
{
    printf '%s\n' "$@" | words 4
    head -c 1012 /dev/zero
}

# npy_head TYPE COUNT: the header of a NumPy array, of 128 bytes.
npy_head()
{
    printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' \
        "{'descr': '<$1', 'fortran_order': False, 'shape': ($2,), }"
}

# digest RUN
digest()
{
    "$DEQ" info "$1" --json | tail -n 1 | grep -o '"weights_digest":"[^"]*"'
}

# refused CODE MESSAGE deq-arguments...
refused()
{
    run "$DEQ" "${@:3}"
    echo "$output"
    [ "$status" -eq "$1" ] || return 1
    [[ $output == *"$2"* ]] || return 1
}

@test "the same tokens give the same weights, whatever file they lie in" {
    want=$(digest "$home/run-shards/last.bin")
    [ -n "$want" ]
    for form in nanogpt llmc wide npy; do
        "$DEQ" train -q --config "$home/tiny.json" --set data.dir="$home/$form" --out run-$form
        [ "$(digest run-$form/last.bin)" = "$want" ] || return 1
        [ -f run-$form/best.bin ]
    done
}

@test "raw tokens of 32 bits are read when the configuration says so" {
    mkdir raw
    words 4 "$home/train.ids" >raw/train.bin
    words 4 "$home/valid.ids" >raw/val.bin
    "$DEQ" train -q --config "$home/tiny.json" --set data.dir=raw --set data.format=u32 --out run
    [ "$(digest run/last.bin)" = "$(digest "$home/run-shards/last.bin")" ]
}

@test "a model of bare ids is evaluated, and its samples are ids" {
    run "$DEQ" eval "$home/run-nanogpt" --json
    [ "$status" -eq 0 ]
    [[ ${lines[-1]} == *'"token":"id"'*'"bits_per_byte":null'* ]]
    run "$DEQ" eval "$home/run-nanogpt"
    [[ $output == *"per token"* && $output != *" nan"* && $output != *"bits per byte"* ]]
    run "$DEQ" sample --checkpoint "$home/run-nanogpt/last.bin" --prompt "3 4 299 5" --tokens 8
    [ "$status" -eq 0 ]
    [[ ${lines[-1]} =~ ^3\ 4\ 299\ 5(\ [0-9]+){8}$ ]]
    refused 65 '"7x" is not in the vocabulary' sample --checkpoint "$home/run-nanogpt/last.bin" \
        --prompt "3 7x"
}

@test "shards of words are not evaluated with a model of ids, and the other way round" {
    awk 'BEGIN { for (i = 0; i < 300; i++) print "the king said to the son " i % 7 }' >text
    "$DEQ" tokenize --train text --valid text --out data >/dev/null
    refused 65 "trained on another vocabulary" eval "$home/run-nanogpt" --data data
    "$DEQ" train -q --config "$home/tiny.json" --set model.vocab_size=0 --set data.dir=data --out run
    refused 65 "in a vocabulary of" eval run --data "$home/nanogpt"
}

@test "what does not fit is told with file and place" {
    refused 78 "set model.vocab_size" train --config "$home/tiny.json" --set model.vocab_size=0 \
        --set data.dir="$home/nanogpt" --out run
    refused 65 "nanogpt/train.bin: token id 2" train \
        --config "$home/tiny.json" --set model.vocab_size=200 --set data.end_of_text=-1 \
        --set data.dir="$home/nanogpt" --out run
    refused 78 "data.end_of_text: 300 where model.vocab_size is 300" train \
        --config "$home/tiny.json" --set data.end_of_text=300 --set data.dir="$home/nanogpt" \
        --out run
    mkdir short
    head -c 2000 "$home/llmc/x_train_000001.bin" >short/train.bin
    refused 65 "short/train.bin: 2000 bytes where its header says 5024: cut short" train \
        --config "$home/tiny.json" --set data.dir=short --out run
    refused 65 "nanogpt/train.bin: does not begin as a token file of llm.c" train \
        --config "$home/tiny.json" --set data.format=llmc --set data.dir="$home/nanogpt" --out run
    [ ! -e run/last.bin ]
    # A prompt is wanted where nothing ends a text.
    "$DEQ" train -q --config "$home/tiny.json" --set data.end_of_text=-1 \
        --set data.dir="$home/nanogpt" --out open
    refused 65 "names no id that ends a text" sample --checkpoint open/last.bin --prompt " "
}

@test "token files train without a configuration, from any folder" {
    run "$DEQ" train --data "$home/nanogpt" --set model.vocab_size=300 --dry-run
    [ "$status" -eq 0 ]
    [[ $output == *"preset small"*"3,000 training tokens"* ]]
    refused 78 "set model.vocab_size" train --data "$home/nanogpt" --dry-run
}

@test "tokens are copied to the form of llm.c and back" {
    "$DEQ" tokenize --from "$home/shards" --to llmc --out llmc
    cmp llmc/train_000000.bin <({ llmc_head 20240520 1 3000 && words 2 "$home/train.ids"; })
    cmp llmc/vocab.txt "$home/shards/vocab.txt"
    "$DEQ" tokenize --from llmc --out back --json | grep -q '"train_tokens":3000,"valid_tokens":900,'
    "$DEQ" train -q --config "$home/tiny.json" --set data.dir=back --out run
    [ "$(digest run/last.bin)" = "$(digest "$home/run-shards/last.bin")" ]
    # Tokens without a vocabulary, and one that another folder has.
    refused 78 "--vocab-size N says" tokenize --from "$home/nanogpt" --out ids
    "$DEQ" tokenize --from "$home/nanogpt" --vocab-size 300 --out ids
    [ "$(tail -n 1 ids/vocab.txt)" = 299 ]
    "$DEQ" tokenize --from "$home/nanogpt" --vocab "$home/shards" --out named
    cmp named/vocab.txt "$home/shards/vocab.txt"
    refused 73 "ids: not empty" tokenize --from "$home/nanogpt" --vocab-size 300 --out ids
    refused 64 "--from takes tokens that are there" tokenize --from "$home/shards" \
        --train "$home/train.ids" --out other
    refused 64 "are those of --from DIR" tokenize --train "$home/train.ids" --to llmc --out other
    refused 66 "none/vocab.txt" tokenize --from none --out other
    [ ! -e other ]
}
