#!/usr/bin/env bats
# A tokenizer.json beside the token files of another program: samples and scores speak text.

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    mkdir gpt2 llama unigram
    # As of GPT-2: U+0120 is a blank, U+010A a line end, U+00C3 U+00A9 the two bytes of e acute, and
    # U+00E2 U+0138 U+0123 those of U+2581.
    cat >gpt2/tokenizer.json <<'JSON'
{ "version": "1.0",
  "added_tokens": [ { "id": 9, "content": "<|end|>", "special": true },
                    { "id": 10, "content": "  ", "special": false } ],
  "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false },
  "decoder": { "type": "ByteLevel" },
  "model": { "type": "BPE", "merges": [],
             "vocab": { "the": 0, "\u0120the": 1, "\u010a": 2, "\u00c3": 3, "\u00a9": 4, "\u0120": 5,
                        "\u0120\u0120": 6, "<0x41>": 7, "\u00e2\u0138\u0123": 8, "\u0120king": 13 } } }
JSON
    # As of Llama: U+2581 is a blank, bytes are pieces, and the first blank of a text is none of it.
    cat >llama/tokenizer.json <<'JSON'
{ "added_tokens": [ { "id": 0, "content": "<unk>", "special": true },
                    { "id": 1, "content": "<s>", "special": true } ],
  "normalizer": { "type": "Sequence", "normalizers": [ { "type": "Prepend", "prepend": "\u2581" } ] },
  "decoder": { "type": "Sequence", "decoders": [
      { "type": "Replace", "pattern": { "String": "\u2581" }, "content": " " },
      { "type": "ByteFallback" }, { "type": "Fuse" },
      { "type": "Strip", "content": " ", "start": 1, "stop": 0 } ] },
  "model": { "type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "merges": [],
             "vocab": { "<unk>": 0, "<s>": 1, "<0x0A>": 2, "<0xC3>": 3, "<0xA9>": 4, "\u2581the": 5,
                        "\u2581king": 6, "s": 7, "\u2581": 8 } } }
JSON
    cat >unigram/tokenizer.json <<'JSON'
{ "decoder": { "type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always" },
  "model": { "type": "Unigram", "unk_id": 0,
             "vocab": [ [ "<unk>", 0 ], [ "\u2581the", -1.5 ], [ "\u2581king", -2 ], [ "s", -3 ],
                        [ "\n", -4 ] ] } }
JSON
    tokens 2000 13 >train.ids
    for kind in gpt2 llama unigram; do
        most=5
        [ $kind = unigram ] || most=9
        awk -v most=$most '{ print $1 % most }' train.ids | words >$kind/train.bin
        head -c 1200 $kind/train.bin >$kind/val.bin
        echo "{ \"data\": { \"dir\": \"$home/$kind\" },
          \"model\": { \"d_model\": 8, \"n_head\": 2, \"d_inner\": 16 },
          \"train\": { \"steps\": 4, \"batch\": 2, \"tgt_len\": 8, \"mem_len\": 4, \"pretrain_steps\": 1,
                       \"warmup_steps\": 2, \"eval_every\": 4, \"checkpoint_every\": 0 },
          \"eval\": { \"batch\": 2, \"tgt_len\": 16, \"mem_len\": 4, \"max_iter\": 4 } }" >$kind.json
        "$DEQ" train -q --config $kind.json --out run-$kind
    done
}

# tokens N MODULUS
tokens() { awk -v n="$1" -v m="$2" 'BEGIN { for (i = 0; i < n; i++) print x = (x * 211 + 7) % m }'; }

# The numbers of the lines in two bytes each, little endian.
words()
{
    local text
    text=$(awk '{ printf "\\x%02x\\x%02x", $1 % 256, int($1 / 256) }')
    # shellcheck disable=SC2059
    printf "$text"
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
}

# text RUN NUMBERS: what the tokens say.
text() { "$DEQ" sample "$home/run-$1" --prompt "$2" --tokens 0; }

refused()
{
    run "$DEQ" "${@:3}"
    echo "$output"
    [ "$status" -eq "$1" ] || return 1
    [[ $output == *"$2"* ]] || return 1
}

@test "byte-level tokens are bytes by GPT-2's table" {
    [ "$(text gpt2 "0 1 13")" = "the the king" ]
    [ "$(text gpt2 "0 3 4 2 1")" = $'the\xc3\xa9\n the' ]
    # U+2581 is no blank here, two blanks are two tokens, and <0x41> is six characters.
    [ "$(text gpt2 "8 5 0 6 0 10 0 7")" = $'\xe2\x96\x81 the  the  the<0x41>' ]
    # A special token, and an id that the file leaves out, add nothing.
    [ "$(text gpt2 "0 9 11 12 1")" = "the the" ]
}

@test "tokens as of SentencePiece are text with U+2581 for blanks" {
    [ "$(text llama "5 6 7")" = "the kings" ]
    # Only the first blank of a text is left out.
    [ "$(text llama "1 5 2 5 8 6 3 4")" = $'the\n the  king\xc3\xa9' ]
    [ "$(text llama "7 0 7")" = $'s \xe2\x81\x87 s' ]
    [ "$(text unigram "1 2 3 4 1 2")" = $'the kings\n the king' ]
}

@test "the vocabulary travels in the checkpoint and in shards" {
    run bash -c "'$DEQ' info '$home/run-llama' --vocab 2>/dev/null"
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" == "# split: subwords, "*", prefix, numbers" ]]
    [ "${lines[6]}" = $'\xe2\x96\x81the' ]
    "$DEQ" tokenize --from "$home/gpt2" --out shards >/dev/null
    grep -qx $'20\thex\|20\traw\|\xe2\x96\x81' shards/vocab.txt
    "$DEQ" eval "$home/run-gpt2" --data shards
    "$DEQ" train -q --config "$home/gpt2.json" --set data.dir=shards --out run
    [ "$("$DEQ" info run --json | grep -o '"weights_digest":"[^"]*"')" = \
        "$("$DEQ" info "$home/run-gpt2" --json | grep -o '"weights_digest":"[^"]*"')" ]
}

@test "scores tell the text of tokens, and what a byte costs" {
    printf '0 1 13\n5 3 4 2\n' >lines
    run "$DEQ" score "$home/run-gpt2" lines --tokens --json
    [ "$status" -eq 0 ]
    [[ $output == *'"the"'* && $output == *'" king"'* ]]
    run "$DEQ" eval "$home/run-gpt2" --text lines --json
    [ "$status" -eq 0 ]
    # the the king are 12 bytes, and the second line 4.
    [[ "${lines[-1]}" =~ \"nll\":([0-9.]+) ]]
    nll=${BASH_REMATCH[1]}
    [[ "${lines[-1]}" =~ \"bits_per_byte\":([0-9.]+) ]]
    bits=${BASH_REMATCH[1]}
    echo "$nll $bits"
    awk -v nll="$nll" -v bits="$bits" -v log2=0.69314718056 'BEGIN {
        sum = bits * 16 * log2 / nll
        exit !(sum > 5.99 && sum < 7.01) }'
    [ "$("$DEQ" sample "$home/run-gpt2" --prompt "0 1" --tokens 0 --json | grep -o '"text":"the the"' | head -n 1)" = '"text":"the the"' ]
}

@test "the end of a training names a prompt of numbers, and info says what the vocabulary is" {
    run "$DEQ" train --config "$home/gpt2.json" --out run
    [ "$status" -eq 0 ]
    [ "${lines[-1]}" = "  deq sample run/best.bin --prompt 0" ]
    "$DEQ" sample run/best.bin --prompt 0 --tokens 2
    run "$DEQ" info run
    [[ "$output" == *"vocabulary  14 tokens of a tokenizer.json, for writing texts"* ]]
}

@test "text is refused where only numbers can be read" {
    refused 65 '"the": the vocabulary is a tokenizer.json' sample "$home/run-gpt2" --prompt "0 the"
    refused 65 'give tokens by their numbers, 0 to 13' sample "$home/run-gpt2" --prompt "0 14"
    printf '0 1\nthe\n' >lines
    refused 65 'lines:2: "the": the vocabulary is a tokenizer.json' score "$home/run-gpt2" lines
    refused 65 'read them with --from' tokenize --train lines --vocab "$home/gpt2/tokenizer.json" --out data
}

@test "another tokenizer, and a damaged one, are refused by one message" {
    mkdir other
    cp "$home"/gpt2/*.bin other
    sed 's/"decoder": { "type": "ByteLevel" }/"decoder": { "type": "WordPiece" }/' \
        "$home/gpt2/tokenizer.json" >other/tokenizer.json
    refused 65 "other/tokenizer.json:5:3: another kind of tokenizer than are understood" train \
        --config "$home/gpt2.json" --set data.dir=other --out run
    [[ $output == *"as of GPT-2"*"as of SentencePiece"* ]]
    sed 's/"decoder": { "type": "ByteLevel" },//' "$home/gpt2/tokenizer.json" >other/tokenizer.json
    refused 65 "another kind of tokenizer" train --config "$home/gpt2.json" --set data.dir=other --out run
    echo '{ "model": { "type": "BPE" }, "decoder": { "type": "ByteLevel" } }' >other/tokenizer.json
    refused 65 'no "vocab"' train --config "$home/gpt2.json" --set data.dir=other --out run
    sed 's/"the": 0/"the": 1/' "$home/gpt2/tokenizer.json" >other/tokenizer.json
    refused 65 'id 1 again' train --config "$home/gpt2.json" --set data.dir=other --out run
    echo '{ "model"' >other/tokenizer.json
    refused 65 'other/tokenizer.json:' train --config "$home/gpt2.json" --set data.dir=other --out run
    rm other/tokenizer.json
    refused 78 "or put its tokenizer.model or tokenizer.json beside them" train \
        --config "$home/gpt2.json" --set data.dir=other --out run
}
