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
        "--train train.txt --out out --split words" "--train train.txt --out out --bytes --split blanks" \
        "--train train.txt --out out --vocab v --split blanks" "--train train.txt --out out --seed 3" \
        "--train train.txt --valid valid.txt --out out --valid-share 5%" \
        "--train train.txt --out out --valid-share 5" "--train train.txt --out out --valid-share 60%" \
        "--train train.txt --out out --valid-share 0" "--train train.txt --out out --test-share 5%%" \
        "--train train.txt --out out --test-share -5%" "--train train.txt --out out --valid-share x" \
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
    for option in train valid test valid-share test-share split out words bytes lower min-count max-vocab vocab unk \
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
    run "$DEQ" tokenize --train train.txt --train . --out out
    [ "$status" -eq 66 ]
    [[ "$output" == "deq tokenize: .: a folder, not a text" ]]
    [ ! -e out ]
}

# same_data DIR DIR: the same vocabulary and shards.
same_data()
{
    diff -r "$1" "$2"
}

@test "pipes, standard input, several files and compressed ones are the text that they hold" {
    cat train.txt train.txt valid.txt > whole
    "$DEQ" tokenize --train whole --valid valid.txt --out want
    run "$DEQ" tokenize --train <(cat whole) --valid <(cat valid.txt) --out pipes --json
    [ "$status" -eq 0 ]
    [ "$(field valid_tokens)" -eq 3 ]
    [ "$(field bytes)" -eq $(($(stat -c %s whole) + 8)) ]
    same_data want pipes
    "$DEQ" tokenize --train - --valid valid.txt --out stdin < whole
    same_data want stdin
    "$DEQ" tokenize --train whole --valid - --out valid < valid.txt
    same_data want valid
    "$DEQ" tokenize --train train.txt --train train.txt --train valid.txt --valid valid.txt --out three
    same_data want three
    gzip -k train.txt valid.txt
    "$DEQ" tokenize --train train.txt.gz --train - --train valid.txt --valid valid.txt.gz --out gz < train.txt
    same_data want gz
    # a file without a last newline, one with a mark, one with CR LF, and one without a byte
    head -c -1 train.txt > open
    { printf '\xef\xbb\xbf'; sed 's/$/\r/' train.txt; } > marked
    : > empty
    "$DEQ" tokenize --train open --train empty --train marked --train valid.txt --valid valid.txt \
        --out edited --json > json
    output=$(cat json)
    [ "$(field train_tokens)" -eq 23 ]
    cmp want/vocab.txt edited/vocab.txt
    payload() { tail -c +129 "$1/train-00000.bin" | cksum; }
    [ "$(payload want)" = "$(payload edited)" ]
    # bytes are taken as they come
    "$DEQ" tokenize --train open --train marked --out bytes --bytes --json > json
    output=$(cat json)
    [ "$(field train_tokens)" -eq "$(cat open marked | wc -c)" ]
    run "$DEQ" tokenize --train empty --train empty --out none
    [ "$status" -eq 65 ]
    [[ "$output" == "deq tokenize: empty and 1 more: empty: a text is needed" ]]
    run "$DEQ" tokenize --train - --valid - --out none < whole
    [ "$status" -eq 64 ]
    run "$DEQ" tokenize --train - --out none < /dev/null
    [ "$status" -eq 65 ]
    [ "$output" = "deq tokenize: standard input: empty: a text is needed" ]
    run bash -c '"$0" tokenize --train - --out none <&-' "$DEQ"
    [ "$status" -eq 74 ]
    [ ! -e none ]
}

@test "a compressed file that is cut short or damaged, and a bad byte in any of the files" {
    seq 5000 | gzip > numbers.gz
    head -c 9000 numbers.gz > cut.gz
    run "$DEQ" tokenize --train cut.gz --out out
    [ "$status" -eq 65 ]
    [[ "$output" == 'deq tokenize: cut.gz: damaged or cut short: zlib says "'*"unexpected end of file"* ]]
    { head -c 5000 numbers.gz; printf xxxxxxxx; tail -c +5009 numbers.gz; } > bad.gz
    run "$DEQ" tokenize --train train.txt --train bad.gz --out out
    [ "$status" -eq 65 ]
    [[ "$output" == 'deq tokenize: bad.gz: damaged or cut short: zlib says "'* ]]
    printf 'a\nb\xff' > byte
    run "$DEQ" tokenize --train train.txt --train byte --out out
    [ "$status" -eq 65 ]
    [[ "$output" == "deq tokenize: byte:2: invalid UTF-8 byte 0xFF (byte 3 of the file)"* ]]
    # a character that is cut at the end of a file
    printf 'a \xe2\x82' > character
    run "$DEQ" tokenize --train character --train train.txt --out out
    [ "$status" -eq 65 ]
    [[ "$output" == "deq tokenize: character:1: invalid UTF-8 byte 0xE2 (byte 2 "* ]]
    printf 'a\n\0' | gzip > nul.gz
    run "$DEQ" tokenize --train nul.gz --out out
    [[ "$output" == "deq tokenize: nul.gz:2: NUL byte 0x00 (byte 2 of the file)"* ]]
    [ ! -e out ]
    # --bytes takes them
    "$DEQ" tokenize --train nul.gz --train byte --bytes --out bytes --json > json
    output=$(cat json)
    [ "$(field train_tokens)" -eq 7 ]
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

# prose N: N paragraphs of two lines, each with its number.
prose()
{
    awk -v n="$1" 'BEGIN {
        for (i = 0; i < n; i++) {
            printf "Citizen %d:\nWe are, as they say, \"well-known\" (all %d of us).\n\n", i, i } }'
}

@test "shares: whole paragraphs, none lost or twice, the same with the same seed" {
    prose 400 > text
    "$DEQ" tokenize --train text --out bytes --bytes --valid-share 5% --test-share 0.1 > said
    grep -q '^drawn       20 of 400 paragraphs for validation, .* of the bytes, with seed 1111$' said
    grep -q '^drawn       40 of 400 paragraphs for the test' said
    text_of() { tail -qc +129 "$1"/"$2"-*.bin | LC_ALL=C tr -d '\0'; } # ids of 2 bytes each
    for split in train valid test; do text_of bytes $split > $split; done
    # every paragraph is in one of the parts, whole, in its order
    for split in train valid test; do
        awk 'BEGIN { RS = "" } { gsub(/\n/, "|"); print }' $split > $split.units
        sed 's/[^0-9]*\([0-9]*\):.*/\1/' $split.units | sort -nc
    done
    [ "$(wc -l < valid.units)" -eq 20 ]
    [ "$(wc -l < test.units)" -eq 40 ]
    awk 'BEGIN { RS = "" } { gsub(/\n/, "|"); print }' text | sort > want
    sort train.units valid.units test.units | diff - want
    # one of each stretch of twenty
    sed 's/[^0-9]*\([0-9]*\):.*/\1/' valid.units | awk '{ if (int($1 / 20) != NR - 1) exit 1 }'
    "$DEQ" tokenize --train text --out again --bytes --valid-share 5% --test-share 10%
    same_data bytes again
    "$DEQ" tokenize --train text --out other --bytes --valid-share 5% --test-share 10% --seed 5
    if cmp -s bytes/valid-00000.bin other/valid-00000.bin; then false; fi
    # words, a pipe and files are drawn from alike
    "$DEQ" tokenize --train text --valid-share 5% --test-share 10% --out words > said
    grep -q "^next        deq train --data words$" said
    head -n 600 text > one
    tail -n +601 text | gzip > two.gz
    "$DEQ" tokenize --train one --train two.gz --valid-share 5% --test-share 10% --out files
    same_data words files
    "$DEQ" tokenize --train - --valid-share 5% --test-share 10% --out stdin < text
    same_data words stdin
    [ "$(find words files stdin | grep -c tmp)" -eq 0 ]
}

@test "shares: lines where paragraphs are few, and texts that are too short" {
    seq 1000 > text
    run "$DEQ" tokenize --train text --out out --valid-share 2% --json
    [ "$status" -eq 0 ]
    [ "$(field valid_tokens)" -eq 40 ]
    [[ "$output" == *'"units":"lines"'* ]]
    head -c -1 text > open # a last line without a newline is one too
    "$DEQ" tokenize --train open --out open-out --valid-share 50% --json > json
    output=$(cat json)
    [ $(($(field train_tokens) + $(field valid_tokens))) -eq 2000 ]
    printf 'one line without an end' > line
    run "$DEQ" tokenize --train line --out none --valid-share 50%
    [ "$status" -eq 65 ]
    [[ "$output" == *"line: a text of 1 line: too short to draw 50 % of them;"*"--valid FILE" ]]
    run "$DEQ" tokenize --train train.txt --out none --valid-share 5%
    [ "$status" -eq 65 ]
    run "$DEQ" tokenize --train text --out none --valid-share 50% --test-share 50%
    [ "$status" -eq 65 ]
    [ ! -e none ]
}

@test "the split is chosen by the text, and said" {
    chosen() { "$DEQ" tokenize --train "$1" --out out --force --json | grep -o '"split":"[a-z]*"' | cut -d'"' -f4; }
    prose 50 > text
    [ "$(chosen text)" = punctuation ]
    [ "$(head -n 1 out/vocab.txt)" = "# split: punctuation" ]
    run "$DEQ" tokenize --train text --out out --force
    [[ "$output" == *"split       at blanks and punctuation, since punctuation of the text is attached to words"* ]]
    [[ "$output" == *"no valid    "*"--valid-share 5% draws one"* ]]
    printf 'Hello , world . \n It is " so " ; a well @-@ known U.S. word ! \n' > apart
    [ "$(chosen apart)" = blanks ]
    [ "$(head -n 1 out/vocab.txt)" = "<eos>" ]
    { cat text; echo 'the <unk> king'; } > unk
    [ "$(chosen unk)" = blanks ]
    [ "$(chosen train.txt)" = blanks ]
    printf 'well-known don\047t\n' > plain
    [ "$(chosen plain)" = blanks ]
    printf '\xe4\xbd\xa0\xe5\xa5\xbd\xe3\x80\x82\n' > chinese
    [ "$(chosen chinese)" = punctuation ]
    "$DEQ" tokenize --train text --split blanks --out blanks
    grep -qx 'well-known"' <(tr -d '(' < blanks/vocab.txt) || grep -qx '"well-known"' blanks/vocab.txt
    "$DEQ" tokenize --train text --split punctuation --lower --out lower
    [ "$(head -n 1 lower/vocab.txt)" = "# split: punctuation, lower" ]
    # the rule of a vocabulary is that of its texts
    "$DEQ" tokenize --train text --valid text --vocab lower/vocab.txt --out given
    cmp given/vocab.txt lower/vocab.txt
    cmp given/train-00000.bin lower/train-00000.bin
    "$DEQ" tokenize --train text --vocab blanks/vocab.txt --out given --force
    cmp given/train-00000.bin blanks/train-00000.bin
    sed 's/punctuation/syllables/' lower/vocab.txt > later
    run "$DEQ" tokenize --train text --vocab later --out none
    [ "$status" -eq 65 ]
    [[ "$output" == *'later:1: "# split: syllables, lower" is no rule that this program knows'* ]]
}

@test "prose has <unk>, and a minimum count by its size" {
    prose 50 > text
    run "$DEQ" tokenize --train text --out out --json
    [ "$(field min_count)" -eq 2 ]
    grep -qx '<unk>' out/vocab.txt
    # words that validation alone has are no error
    printf 'Nebuchadnezzar!\n' > new
    "$DEQ" tokenize --train text --valid new --out new-out
    run "$DEQ" tokenize --train text --valid new --unk error --out none
    [ "$status" -eq 65 ]
    # 100000 words once, and as many four times: at most 25 * sqrt(tokens) stay
    awk 'BEGIN { for (i = 0; i < 200000; i++) for (k = 0; k < (i % 2 ? 4 : 1); k++) print "w" i "." }' > many
    run "$DEQ" tokenize --train many --out many-out --json
    [ "$(field min_count)" -eq 5 ]
    run "$DEQ" tokenize --train many --out many-out --force --min-count 4 --json
    [ "$(field min_count)" -eq 4 ]
    [ "$(field vocab)" -gt 100000 ]
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

@test "killed while it works: nothing under a final name, and the next one cleans up" {
    mkfifo endless # nobody writes: it waits there, with the shards of train.txt under way
    "$DEQ" tokenize --train train.txt --valid endless --out out &
    pid=$!
    for i in $(seq 15000); do # five minutes, in case it hangs
        ls out/*.tmp-* >/dev/null 2>&1 && break
        sleep 0.02
    done
    # it has the folder for itself
    run "$DEQ" tokenize --train train.txt --out out --force
    [ "$status" -eq 73 ]
    [[ "$output" == "deq tokenize: out: another deq tokenize is at work there"* ]]
    kill -9 "$pid"
    wait "$pid" || true
    ls out/*.tmp-* >/dev/null
    [ ! -e out/vocab.txt ]
    [ ! -e out/train-00000.bin ]
    # what another one left stays, as it may have been made on another machine
    touch "out/train-00000.bin.tmp-$$-0" out/train-00000.bin.tmp-old
    run "$DEQ" tokenize --train train.txt --out out
    [ "$status" -eq 73 ]
    [ "$(ls out | wc -l)" -eq 2 ]
    rm out/*
    touch "out/train-00000.bin.tmp-$pid-0"
    "$DEQ" tokenize --train train.txt --out out
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
