#!/usr/bin/env bats
# Bad input of every kind, given to every command that reads it: one clear error, the right exit code,
# nothing lost, nothing overwritten. Where the program was built with sanitizers too (make asan),
# that one runs: a leak or a bad access is then an exit code of its own.

setup_file()
{
    export OMP_NUM_THREADS=1
    export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1}
    export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1}
    sane=$(dirname "$DEQ")-asan/deq
    [ ! -x "$sane" ] || DEQ=$sane
    export DEQ
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    awk 'BEGIN { for (i = 0; i < 300; i++) print "the king said to the son of the king " i % 7 }' > text
    "$DEQ" tokenize --train text --valid text --out data
    cat > tiny.json <<CONFIG
{ "data": { "dir": "$home/data" },
  "model": { "d_model": 8, "n_head": 2, "d_inner": 16, "init_std": 0.1 },
  "train": { "steps": 4, "batch": 2, "tgt_len": 8, "mem_len": 4, "pretrain_steps": 1,
             "eval_every": 4, "checkpoint_every": 2, "keep_last": 1 },
  "eval": { "batch": 8, "tgt_len": 16, "mem_len": 4, "max_iter": 4 } }
CONFIG
    "$DEQ" train -q --config tiny.json --out run
    cp "$BATS_TEST_DIRNAME/../golden/solver_tanh.safetensors" dump.safetensors
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
}

# Names and content of all files in a folder.
fingerprint()
{
    (cd "$1" && find . | sort && find . -type f | sort | xargs -r cat | cksum)
}

# refused CODE TEXT deq-arguments...: exit code CODE, nothing on stdout, on stderr one line that names
# the subcommand and holds TEXT; the files in the current folder stay as they are.
refused()
{
    code=$1 text=$2
    shift 2
    before=$(fingerprint .)
    status=0
    "$DEQ" "$@" > "$BATS_TEST_TMPDIR.out" 2> "$BATS_TEST_TMPDIR.err" || status=$?
    if [ "$status" -ne "$code" ] || [ -s "$BATS_TEST_TMPDIR.out" ] ||
        [ "$(wc -l < "$BATS_TEST_TMPDIR.err")" -ne 1 ] ||
        [[ "$(cat "$BATS_TEST_TMPDIR.err")" != "deq $1: "*"$text"* ]]; then
        echo "deq $*: exit code $status, want $code and a line with \"$text\"; it said:"
        cat "$BATS_TEST_TMPDIR.out" "$BATS_TEST_TMPDIR.err"
        return 1
    fi
    [ "$(fingerprint .)" = "$before" ] || { echo "deq $*: files changed"; return 1; }
}

# poke FILE OFFSET BYTES: overwrites bytes, given as for printf.
poke()
{
    printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# flip FILE OFFSET: changes the lowest bit of that byte.
flip()
{
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    poke "$1" "$2" "\\x$(printf '%02x' $((byte ^ 1)))"
}

# bad_copies FILE: beside it empty, cut (half), foreign and folder, none of them what it was.
bad_copies()
{
    : > empty
    head -c $(($(stat -c %s "$1") / 2)) "$1" > cut
    { echo 'This is a poem'; cat /bin/true; } > foreign
    mkdir folder
}

# A fresh copy of the data set, and a configuration in conf.json that trains on it into a new folder.
copy_data()
{
    rm -rf data
    cp -r "$home/data" data
    sed 's|"dir": "[^"]*"|"dir": "data"|' "$home/tiny.json" > conf.json
}

# --- command line ----------------------------------------------------------------------------------

@test "an empty value, as an unset variable of a script leaves it" {
    refused 64 "--out: the value is empty" train -q --config "$home/tiny.json" --out ""
    refused 64 "--resume: the value is empty" train -q --config "$home/tiny.json" --resume ""
    refused 64 "--config: the value is empty" train --config ""
    refused 64 "--data: the value is empty" eval "$home/run/best.bin" --data ""
    refused 64 "--train: the value is empty" tokenize --train "" --out out
    refused 64 "--checkpoint: the value is empty" sample --prompt the --checkpoint ""
}

@test "a long option with one dash" {
    refused 64 "-json: unknown option; did you mean --json?" tokenize --train x --force -json
    refused 64 "-config: unknown option; did you mean --config?" train -config tiny.json
    refused 64 "-set=train.steps=3: unknown option; did you mean --set?" train -q -set=train.steps=3
    refused 64 "-x: unknown option; see --help" train -q -x
    refused 64 "-j: unknown option; see --help" train --dry-run -j 2
    refused 64 "-?: unknown option; see --help" train --dry-run -\?
    refused 64 "--dry-run: takes no value" train --dry-run=yes
    refused 64 "--config: wants a value" train --dry-run --config
}

@test "more threads than can be" {
    refused 64 "--threads: want an integer in 1..4096" eval "$home/run/best.bin" --threads 1000000
    OMP_NUM_THREADS=1000000 refused 64 "OMP_NUM_THREADS: want at most 4096 threads, got 1000000" \
        eval "$home/run/best.bin"
}

@test "a checkpoint where none is expected, and a word where one is" {
    refused 64 "want one checkpoint" sample "$home/run/best.bin" --checkpoint "$home/run/best.bin"
    refused 64 '"tiny.json": a configuration is named by --config' train tiny.json
    refused 66 "king: no such checkpoint; a prompt is one argument, so quote it" sample --prompt the king
    refused 64 "a prompt is one argument, so quote it" sample --prompt the king said
    refused 66 "--resume: want auto, never or a checkpoint; Auto: No such file" \
        train -q --config "$home/tiny.json" --resume Auto --out run
}

# --- configuration ---------------------------------------------------------------------------------

@test "configuration: missing, empty, cut, foreign, a folder" {
    bad_copies "$home/tiny.json"
    for command in train info; do
        refused 66 "none.json: no such configuration" "$command" --config ./none.json
        refused 78 "empty:1:1: " "$command" --config empty
        refused 78 "cut:" "$command" --config cut
        refused 78 "foreign:1:1: " "$command" --config foreign
        refused 66 "folder: a folder; give a configuration in it" "$command" --config ./folder
    done
    refused 78 "best.bin:1:1: " train --config "$home/run/best.bin"
}

@test "configuration: unknown and duplicate keys, wrong types, values out of range" {
    check() {
        echo "$1" > a.json
        refused 78 "$2" train --config a.json --out run
        refused 78 "$2" info --config a.json
    }
    check '{"model": {"d_modle": 8}}' 'a.json:1: model.d_modle: unknown key; the nearest known one is model.d_model'
    check '{"modle": {}}' 'a.json:1: modle: unknown key'
    check '{"train": {"lr": 1, "lr": 2}}' 'a.json:1:21: lr: given twice'
    check '{"train": {"steps": "many"}}' 'a.json:1: train.steps: want '
    check '{"train": {"steps": 1.5}}' 'a.json:1: train.steps: want '
    check '{"train": {"steps": -1}}' 'a.json:1: train.steps: want '
    check '{"train": {"steps": 1e400}}' 'a.json:1:21: '
    check '{"train": {"lr": NaN}}' 'a.json:1:18: '
    check '{"train": []}' 'a.json:1: train: want an object, got an array'
    check '{"model": {"wnorm": 1}}' 'a.json:1: model.wnorm: want true or false'
    check '{"model": {"cutoffs": [1, "2"]}}' 'a.json:1: model.cutoffs'
    check '{"model": {"norm": "bacth"}}' 'a.json:1: model.norm: want '
    check '{"solver": {"forward": {"history": 65}}}' 'a.json:1: solver.forward.history: want 1..64, got 65'
    check '[]' 'a.json:1:1: want an object {...}, got an array'
    check '{} {}' 'a.json:1:4: '
}

@test "configuration: sizes that do not fit each other" {
    check() {
        echo "$1" > a.json
        refused 78 "$2" train --config a.json --out run
        refused 78 "$2" info --config a.json
    }
    check '{"model": {"d_model": 100, "n_head": 8}}' 'a.json: model.n_head: 8 does not divide model.d_model 100'
    check '{"model": {"cutoffs": [20, 10]}}' 'a.json: model.cutoffs'
    check '{"train": {"batch": 6, "accumulate": 4}}' 'a.json: train.accumulate'
    # against the data
    copy_data
    refused 78 "model.vocab_size" train --config conf.json --set model.vocab_size=5 --out run
    refused 78 "model.cutoffs" train --config conf.json --set model.cutoffs=5000 --out run
    refused 65 "data: the split train has 3300 tokens, too few for a batch of 2000: at most 1650" \
        train -q --config conf.json --set train.batch=2000 --out run
}

# --- text ------------------------------------------------------------------------------------------

@test "text: missing, empty, a folder, NUL, invalid UTF-8" {
    : > empty
    mkdir folder
    printf 'a\nb\0c\n' > nul
    printf 'a\nb \377\n' > latin1
    printf 'a\nb \355\240\200\n' > surrogate
    printf 'a\nb \342\202' > cut
    refused 66 "none: cannot read the text" tokenize --train none --out out
    refused 65 "empty: " tokenize --train empty --out out
    refused 66 "folder: " tokenize --train folder --out out
    for name in nul latin1 surrogate cut; do
        refused 65 "$name:2: " tokenize --train $name --out out
        refused 65 "$name:2: " tokenize --train "$home/text" --valid $name --out out
    done
}

@test "text: a word outside the vocabulary" {
    printf 'the king\nthe bird\n' > new
    refused 65 'new:2: "bird" is not in the vocabulary' tokenize --train new --out out \
        --vocab "$home/data/vocab.txt"
    refused 65 'new:2: "bird" is not in the vocabulary' tokenize --train "$home/text" --valid new --out out
}

@test "shard: there, but cannot be opened" {
    copy_data
    ln -sf valid-00000.bin data/valid-00000.bin # a link to itself
    refused 74 "data/valid-00000.bin: cannot open: Too many levels" train -q --config conf.json --out run
    refused 74 "data/valid-00000.bin: cannot open: Too many levels" eval "$home/run/best.bin" --data data
}

@test "shard: a folder or split that is not there" {
    refused 66 "nowhere/valid-00000.bin: No such file or directory; make it with deq tokenize" \
        eval "$home/run/best.bin" --data nowhere
    refused 66 "test-00000.bin: No such file or directory; make it with deq tokenize ($home/data is where it was trained; --data names another)" \
        eval "$home/run/best.bin" --split test
}

# --- vocabulary ------------------------------------------------------------------------------------

@test "vocabulary: missing, empty, cut, flipped, foreign, a folder" {
    bad_copies "$home/data/vocab.txt"
    printf 'the\nthe\n' > twice
    printf 'the king\n' > spaced
    for check in "66 none:" "65 empty:" "65 foreign:" "66 folder:" "65 twice:2:" "65 spaced:1:" \
        "65 cut:"; do
        name=${check#* }
        name=${name%%:*}
        text=${check#* }
        # half a vocabulary is a vocabulary, but the text has more words
        [ "$name" != cut ] || text="is not in the vocabulary"
        refused "${check% *}" "$text" tokenize --train "$home/text" --vocab $name --out out
    done
    # beside shards it is known by its hash, whatever is changed
    for change in "rm data/vocab.txt" ": > data/vocab.txt" "cp cut data/vocab.txt" \
        "flip data/vocab.txt 8" "cp foreign data/vocab.txt" "echo more >> data/vocab.txt"; do
        copy_data
        eval "$change"
        code=65
        [ -e data/vocab.txt ] || code=66
        refused $code data/ train -q --config conf.json --out run
        refused $code data/ eval "$home/run/best.bin" --data data
    done
}

# --- shards ----------------------------------------------------------------------------------------

@test "shard: missing, empty, cut, flipped, another version, foreign, a folder" {
    bad_copies "$home/data/train-00000.bin"
    size=$(stat -c %s "$home/data/train-00000.bin")
    for change in "rm FILE" ": > FILE" "cp cut FILE" "head -c 100 cut > FILE" "flip FILE 40" \
        "flip FILE 200" "flip FILE $((size - 1))" "poke FILE 8 '\\2'" "cp foreign FILE" \
        "echo >> FILE" "rm FILE && mkdir FILE" "cp data/vocab.txt FILE" "cp '$home/run/last.bin' FILE"; do
        copy_data
        for split in train valid; do
            file=data/$split-00000.bin
            eval "${change//FILE/$file}"
        done
        code=65
        [ -e data/train-00000.bin ] || code=66
        refused $code data/train-00000.bin train -q --config conf.json --out run
        refused $code data/valid-00000.bin eval "$home/run/best.bin" --data data
        [ ! -d data/train-00000.bin ] || code=66
        [ "$code" -eq 66 ] || code=1
        # a checkpoint is whole, only not what its name says
        [[ "$change" == *last.bin* ]] ||
            refused $code data/train-00000.bin info --check data/train-00000.bin
    done
    cp "$home/data/train-00000.bin" version
    poke version 8 '\2'
    refused 65 "version 2" info version
}

@test "shard: a token outside the vocabulary, though all checksums agree" {
    tool=$(dirname "$DEQ")/tests/tools/forge_shard
    [ -x "$tool" ] || skip "$tool is not built (make tests)"
    copy_data
    words=$(wc -l < data/vocab.txt)
    "$tool" data
    refused 65 "data/train-00000.bin: token id $words in a vocabulary of $words" \
        train -q --config conf.json --out run
    mv data/train-00000.bin data/valid-00000.bin
    refused 65 "data/valid-00000.bin: token id $words in a vocabulary of $words" \
        eval "$home/run/best.bin" --data data
}

@test "shards of another vocabulary, and of another split" {
    copy_data
    awk 'BEGIN { for (i = 0; i < 300; i++) print "some other words" }' > other
    "$DEQ" tokenize --train other --valid other --out otherdata > log
    refused 65 "another vocabulary" eval "$home/run/best.bin" --data otherdata
    cp otherdata/train-00000.bin data/
    refused 65 "data/train-00000.bin: made with another vocabulary" train -q --config conf.json --out run
    "$DEQ" tokenize --train "$home/text" --out many --shard-tokens 1000 > log
    rm many/train-00001.bin
    refused 66 "many/train-00001.bin: missing: the split has 4 shards" \
        train -q --config conf.json --set data.dir=many --set train.eval_every=0 --out run
    cp many/train-00002.bin many/train-00001.bin
    refused 65 "many/train-00001.bin: not part 1" \
        train -q --config conf.json --set data.dir=many --set train.eval_every=0 --out run
}

@test "a pipe in the place of a file that is read in pieces does not block" {
    copy_data
    rm data/vocab.txt
    mkfifo data/vocab.txt
    refused 66 data/vocab.txt train -q --config conf.json --out run
    copy_data
    rm data/train-00000.bin
    mkfifo data/train-00000.bin pipe
    refused 65 data/train-00000.bin train -q --config conf.json --out run
    refused 66 pipe eval pipe
    refused 66 pipe verify pipe
    refused 66 pipe info pipe
}

# --- checkpoint ------------------------------------------------------------------------------------

# checkpoint_refused CODE FILE: by everything that reads one.
checkpoint_refused()
{
    refused "$1" "$2" eval "$2"
    refused "$1" "$2" sample --checkpoint "$2" --prompt the
    refused "$1" "$2" train -q --config "$home/tiny.json" --resume "$2" --out run
    refused "$1" "$2" info "$2" || [ "$3" = "lazily" ]
}

@test "checkpoint: missing, empty, cut, flipped, another version, foreign, a folder" {
    bad_copies "$home/run/last.bin"
    checkpoint_refused 66 none
    checkpoint_refused 66 ./folder
    checkpoint_refused 65 empty
    checkpoint_refused 65 cut
    checkpoint_refused 65 foreign
    checkpoint_refused 65 "$home/data/train-00000.bin" lazily
    checkpoint_refused 65 "$home/dump.safetensors" lazily
    size=$(stat -c %s "$home/run/last.bin")
    for at in 0 9 30 60 70 1000 $((size / 2)) $((size - 100)) $((size - 1)); do
        cp "$home/run/last.bin" flipped
        flip flipped "$at"
        refused 1 flipped info --check flipped
        refused 65 flipped train -q --config "$home/tiny.json" --resume flipped --out run
    done
    cp "$home/run/last.bin" version
    poke version 8 '\7'
    checkpoint_refused 65 version
    refused 65 "version 7" info version
}

@test "checkpoint: a damaged last.bin stops the run and is kept" {
    cp -r "$home/run" run
    rm run/step-* run/best.bin # no other one to fall back to
    flip run/last.bin 2000
    refused 65 run/last.bin train -q --config "$home/tiny.json" --set train.steps=6 --out run
}

@test "checkpoint: of another model" {
    refused 78 "was made with model.d_inner 16, not 32" train -q --config "$home/tiny.json" \
        --set model.d_inner=32 --resume "$home/run/last.bin" --out run
}

# --- safetensors -----------------------------------------------------------------------------------

@test "safetensors: missing, empty, cut, flipped, foreign, a folder" {
    bad_copies "$home/dump.safetensors"
    refused 66 none verify none
    refused 66 folder verify folder
    for name in empty cut foreign "$home/data/train-00000.bin" "$home/run/last.bin"; do
        refused 65 "$name:" verify "$name"
    done
    # its header is text: a changed length, brace or offset
    for at in 0 4 7 8 9; do
        cp "$home/dump.safetensors" flipped
        flip flipped $at
        refused 65 "flipped:" verify flipped
    done
    echo > longer
    cat "$home/dump.safetensors" longer > long
    refused 65 "long: " verify long
}

# --- log -------------------------------------------------------------------------------------------

@test "log: what is no log line is dropped and said, the run goes on" {
    cp -r "$home/run" run
    printf '{"event":"step","st\0\0' >> run/log.jsonl
    before=$(grep -c '"event":"step"' "$home/run/log.jsonl")
    "$DEQ" train --config "$home/tiny.json" --set train.steps=6 --out run 2> err
    grep -q "log.jsonl: 1 lines dropped" err
    [ "$(grep -c '"event":"step"' run/log.jsonl)" -eq $((before + 2)) ]
}

# --- prompt ----------------------------------------------------------------------------------------

@test "prompt: words outside the vocabulary" {
    refused 65 '--prompt: "bird" is not in the vocabulary' sample --checkpoint "$home/run/best.bin" \
        --prompt "the bird"
    refused 65 'did you mean "king"?' sample --checkpoint "$home/run/best.bin" --prompt "the kign"
    refused 65 'is not in the vocabulary' sample --checkpoint "$home/run/best.bin" \
        --prompt "$(head -c 100000 /dev/zero | tr '\0' a)"
    refused 65 '--prompt: line 1: invalid UTF-8 byte 0xFF (byte 4)' sample \
        --checkpoint "$home/run/best.bin" --prompt "$(printf 'the \377\376')"
}

# A model of a vocabulary that has no <eos>: a text of bytes has none, nor a list made by hand.
@test "prompt: an empty one, where the vocabulary has no <eos>" {
    printf 'the\nking\nsaid\n' > vocab
    printf 'the king said' > text
    run "$DEQ" tokenize --train text --vocab vocab --out data
    # either the tokenizer refuses such a list, or the sampler such a prompt
    if [ "$status" -eq 0 ]; then
        "$DEQ" train -q --config "$home/tiny.json" --set data.dir=data --set train.batch=1 \
            --set train.tgt_len=1 --set train.eval_every=0 --out run
        refused 65 "--prompt: empty" sample --checkpoint run/last.bin --prompt ""
        refused 65 "--prompt: empty" sample --checkpoint run/last.bin --prompt "  "
    else
        [[ "$output" == *"<eos>"* ]]
    fi
}

# --- folders and disks -----------------------------------------------------------------------------

@test "existing output folders are not touched" {
    mkdir mine
    echo precious > mine/notes
    echo precious > plain
    refused 73 "mine: not empty" tokenize --train "$home/text" --out mine
    cp "$home/run/last.bin" mine
    refused 73 "mine: holds last.bin but no config.json" train -q --config "$home/tiny.json" --out mine
    refused 73 "plain: " tokenize --train "$home/text" --out plain
    refused 73 "plain: " train -q --config "$home/tiny.json" --out plain
    refused 73 "plain/deeper: " train -q --config "$home/tiny.json" --out plain/deeper
    cp -r "$home/run" run
    refused 73 "run: holds a run already" train -q --config "$home/tiny.json" --out run --resume never
}

# on_full_disk KILOBYTES: trains on and tokenizes anew on a small disk with so much free space.
on_full_disk()
{
    mkdir disk
    mount -t tmpfs -o size=256k none disk 2>/dev/null || skip "no right to mount a small file system"
    cp -r "$home/run" "$home/data" disk
    free=$(df --output=avail -k disk | tail -1)
    head -c $(((free - $1) * 1024)) /dev/zero > disk/ballast
    status=0 status2=0
    "$DEQ" train -q --config "$home/tiny.json" --set train.steps=8 --out disk/run 2> err || status=$?
    for file in disk/run/*.bin; do
        "$DEQ" info --check "$file" > checked || status=99
    done
    "$DEQ" tokenize --force --train "$home/text" --out disk/data > printed 2>> err || status2=$?
    diff -r "$home/data" disk/data || status2=98
    left=$(find disk -name '*.tmp-*')
    # with space again the same command goes on
    rm disk/ballast
    "$DEQ" train -q --config "$home/tiny.json" --set train.steps=8 --out disk/run || status=97
    digest=$("$DEQ" info --json disk/run/last.bin | sed 's/.*"weights_digest":"\([0-9a-f]*\)".*/\1/')
    umount disk
    rmdir disk
    cat err
    [ "$status" -eq 74 ]
    [ "$status2" -eq 74 ]
    [ -z "$left" ]
    [ "$(grep -c ": disk full after [0-9]* bytes: free space there\|No space left.*free space there" err)" -eq 2 ]
    [ "$(wc -l < err)" -eq 2 ]
    echo "$digest" >> digests
}

@test "a full disk: exit 74, the files of before are whole, the run goes on when there is space" {
    cp -r "$home/run" never_full
    "$DEQ" train -q --config "$home/tiny.json" --set train.steps=8 --out never_full
    "$DEQ" info --json never_full/last.bin | sed 's/.*"weights_digest":"\([0-9a-f]*\)".*/\1/' > digests
    for free in 0 4 8; do
        on_full_disk $free
    done
    [ "$(sort -u digests | wc -l)" -eq 1 ]
}
