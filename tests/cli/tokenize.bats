#!/usr/bin/env bats
# deq tokenize: options, exit codes, what is printed and what is left in folders.

setup() {
    DEQ=${DEQ:-build/deq}
    DEQ=$(realpath "$DEQ")
    SHARED=$(realpath "${DEQ_SHARED:-../shared}" 2>/dev/null || true)
    cd "$BATS_TEST_TMPDIR"
    printf 'the cat sat\n\nthe dog sat down\n' > train.txt
    printf 'the cat\n' > valid.txt
}

# One field of the JSON object in $output's last line.
field() {
    tail -n 1 <<< "$output" | grep -o "\"$1\":[0-9.]*" | cut -d: -f2
}

@test "words: vocabulary, counts, files" {
    run "$DEQ" tokenize --train train.txt --valid valid.txt --test valid.txt --out out --json
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 1 ]
    [ "$(field vocab)" -eq 6 ]
    [ "$(field train_tokens)" -eq 10 ]
    [ "$(field valid_tokens)" -eq 3 ]
    [ "$(field test_tokens)" -eq 3 ]
    [ "$(field bytes)" -eq 46 ]
    [ "$(field shards)" -eq 3 ]
    printf '%s\n' '<eos>' the sat cat dog down | diff - out/vocab.txt
    [ "$(ls out | tr '\n' ' ')" = "test-00000.bin train-00000.bin valid-00000.bin vocab.txt " ]
    run "$DEQ" tokenize --train train.txt --out plain
    [ "$status" -eq 0 ]
    [[ "$output" == *"vocabulary  6 words"*"train       10 tokens"*"1 shards in plain"* ]]
}

@test "the same bytes on every run, and with the vocabulary given" {
    "$DEQ" tokenize --train train.txt --out a
    "$DEQ" tokenize --train train.txt --out b --vocab a/vocab.txt
    cmp a/train-00000.bin b/train-00000.bin
    cmp a/vocab.txt b/vocab.txt
}

@test "bytes" {
    run "$DEQ" tokenize --train /bin/true --out out --bytes --json
    [ "$status" -eq 0 ]
    [ "$(field vocab)" -eq 256 ]
    [ "$(field train_tokens)" -eq "$(stat -L -c %s /bin/true)" ]
    [ "$(wc -l < out/vocab.txt)" -eq 256 ]
    [ "$(head -n 1 out/vocab.txt)" = "<0x00>" ]
}

@test "min-count, max-vocab, lower, shard-tokens" {
    run "$DEQ" tokenize --train train.txt --out a --min-count 2 --json
    [ "$(field vocab)" -eq 4 ]
    run "$DEQ" tokenize --train train.txt --out b --max-vocab 3 --json
    printf '%s\n' '<eos>' '<unk>' the | diff - b/vocab.txt
    printf 'The the THE\n' > t.txt
    run "$DEQ" tokenize --train t.txt --out c --lower --json
    [ "$(field vocab)" -eq 2 ]
    run "$DEQ" tokenize --train train.txt --out d --shard-tokens 4 --json
    [ "$(field shards)" -eq 3 ]
    [ -e d/train-00002.bin ]
}

@test "wrong command lines: exit 64, and a pointer" {
    for words in "" "--train train.txt" "--out out" "--train train.txt --out out extra" \
        "--train train.txt --out out --words --bytes" "--train train.txt --out out --min-count 0" \
        "--train train.txt --out out --min-count 2x" "--train train.txt --out out --max-vocab 1" \
        "--train train.txt --out out --bytes --max-vocab 9" "--train train.txt --out out --unk x" \
        "--train train.txt --out out --bytes --unk map" "--train train.txt --out" \
        "--train train.txt --out out --vocab v --min-count 2" "--train train.txt --out out --tset x" \
        "--train train.txt --out out --shard-tokens -1" "--train train.txt --out out --json=1"; do
        run "$DEQ" tokenize $words
        [ "$status" -eq 64 ]
        [[ "$output" == "deq tokenize: "* ]]
        [ "${#lines[@]}" -eq 1 ]
        [ ! -e out ]
    done
}

@test "help on stdout, exit 0" {
    run "$DEQ" tokenize --help
    [ "$status" -eq 0 ]
    for option in train valid test out words bytes lower min-count max-vocab vocab unk \
        shard-tokens force json; do
        [[ "$output" == *"--$option"* ]]
    done
    run "$DEQ" help tokenize
    [ "$status" -eq 0 ]
}

@test "a byte order mark and line ends of CR LF are no part of a word" {
    printf 'the king\nthe son\n' > plain
    printf '\xef\xbb\xbfthe king\r\nthe son\r\n' > marked
    "$DEQ" tokenize --train plain --out out
    "$DEQ" tokenize --train marked --out out2
    cmp out/vocab.txt out2/vocab.txt
    same() { tail -c +129 "$1/train-00000.bin" | cksum; } # the ids after the header
    [ "$(same out)" = "$(same out2)" ]
}

@test "missing files: exit 66; nothing made" {
    run "$DEQ" tokenize --train none.txt --out out
    [ "$status" -eq 66 ]
    [[ "$output" == "deq tokenize: none.txt: "* ]]
    run "$DEQ" tokenize --train train.txt --valid none.txt --out out
    [ "$status" -eq 66 ]
    run "$DEQ" tokenize --train train.txt --vocab none.txt --out out
    [ "$status" -eq 66 ]
    run "$DEQ" tokenize --train <(cat train.txt) --out out
    [ "$status" -eq 66 ]
    [[ "$output" == *"not a plain file, but it has to be read twice"* ]]
    [ ! -e out ]
}

@test "a pipe is fine where a text is read once" {
    run "$DEQ" tokenize --train train.txt --valid <(cat valid.txt) --out out --json
    [ "$status" -eq 0 ]
    [ "$(field valid_tokens)" -eq 3 ]
    [ "$(field bytes)" -eq 38 ]
}

@test "bad text: exit 65 with file and line; nothing made" {
    : > empty
    run "$DEQ" tokenize --train empty --out out
    [ "$status" -eq 65 ]
    printf 'a\nb\0c\n' > nul
    run "$DEQ" tokenize --train nul --out out
    [ "$status" -eq 65 ]
    [[ "$output" == "deq tokenize: nul:2: NUL byte 0x00 (byte 3 of the file)"* ]]
    printf 'a\nb \377\n' > latin1
    run "$DEQ" tokenize --train train.txt --valid latin1 --out out
    [ "$status" -eq 65 ]
    [[ "$output" == "deq tokenize: latin1:2: invalid UTF-8"* ]]
    printf 'the\nbird\n' > new
    run "$DEQ" tokenize --train train.txt --valid new --out out
    [ "$status" -eq 65 ]
    [[ "$output" == 'deq tokenize: new:2: "bird" is not in the vocabulary'* ]]
    printf 'a\na\n' > twice
    run "$DEQ" tokenize --train train.txt --vocab twice --out out
    [ "$status" -eq 65 ]
    [[ "$output" == 'deq tokenize: twice:2: "a" again'* ]]
    [ ! -e out ]
}

@test "a folder that is not empty: exit 73, --force replaces only our files" {
    "$DEQ" tokenize --train train.txt --valid valid.txt --out out --shard-tokens 2
    echo mine > out/notes
    run "$DEQ" tokenize --train train.txt --out out
    [ "$status" -eq 73 ]
    [[ "$output" == "deq tokenize: out: not empty"*"--force"* ]]
    "$DEQ" tokenize --train train.txt --out out --force
    [ "$(ls out | tr '\n' ' ')" = "notes train-00000.bin vocab.txt " ]
    run "$DEQ" tokenize --train train.txt --out train.txt
    [ "$status" -eq 73 ]
}

@test "a full disk: exit 74; the old files stay" {
    "$DEQ" tokenize --train train.txt --out out
    cp -r out before
    head -c 100000 /dev/zero | tr '\0' 'a' | fold -w 5 > large.txt
    run bash -c 'ulimit -f 8; exec "$0" tokenize --train large.txt --out out --force' \
        "$DEQ"
    [ "$status" -eq 74 ]
    [[ "$output" == "deq tokenize: out/train-00000.bin: file size limit reached"* ]]
    diff -r before out
}

@test "killed while it works: nothing under a final name, --force cleans up" {
    mkfifo endless # nobody writes: it waits there, with the shards of train.txt under way
    "$DEQ" tokenize --train train.txt --valid endless --out out &
    pid=$!
    for i in $(seq 15000); do # five minutes, in case it hangs
        ls out/*.tmp-* >/dev/null 2>&1 && break
        sleep 0.02
    done
    kill -9 "$pid"
    wait "$pid" || true
    ls out/*.tmp-* >/dev/null
    [ ! -e out/vocab.txt ]
    [ ! -e out/train-00000.bin ]
    run "$DEQ" tokenize --train train.txt --out out
    [ "$status" -eq 73 ]
    "$DEQ" tokenize --train train.txt --out out --force
    [ "$(ls out | tr '\n' ' ')" = "train-00000.bin vocab.txt " ]
}

@test "the published counts of the King James text" {
    kjv=$SHARED/corpus/kjv
    [ -r "$kjv/train.tokens" ] || skip "no corpus: set DEQ_SHARED to the folder that holds corpus/"
    run "$DEQ" tokenize --train "$kjv/train.tokens" --valid "$kjv/valid.tokens" \
        --test "$kjv/test.tokens" --out out --json
    [ "$status" -eq 0 ]
    [ "$(field vocab)" -eq 7070 ]
    [ "$(field train_tokens)" -eq 862666 ]
    [ "$(field valid_tokens)" -eq 45587 ]
    [ "$(field test_tokens)" -eq 46644 ]
}

@test "copy memory: 20000, 400 and 2000 sequences, the same on every run" {
    run "$DEQ" tokenize --task copy-memory --delay 7 --out a --json
    [ "$status" -eq 0 ]
    [ "$(field vocab)" -eq 10 ]
    [ "$(field train_tokens)" -eq $((20000 * 27)) ]
    [ "$(field valid_tokens)" -eq $((400 * 27)) ]
    [ "$(field test_tokens)" -eq $((2000 * 27)) ]
    "$DEQ" tokenize --task copy-memory --delay 7 --out b
    cmp a/train-00000.bin b/train-00000.bin
    "$DEQ" tokenize --task copy-memory --delay 7 --seed 5 --out c
    run cmp -s a/train-00000.bin c/train-00000.bin
    [ "$status" -eq 1 ]
    run "$DEQ" info --check a/train-00000.bin
    [[ "$output" == *"of 27 inputs and as many targets, the last 10 recalled"* ]]
}

@test "a task takes no texts, and texts no delay" {
    for options in "--task copy-memory --train train.txt" "--task copy-memory --bytes" \
        "--task adding" "--train train.txt --delay 5" "--train train.txt --seed 5" \
        "--task copy-memory --delay 0"; do
        # shellcheck disable=SC2086
        run "$DEQ" tokenize $options --out out
        [ "$status" -eq 64 ]
        [ ! -e out ]
    done
}
