#!/usr/bin/env bats
# The smallest vocabularies, models, texts and batches, and numbers at the ends of float32: all work,
# or are refused in one line.

setup_file()
{
    export OMP_NUM_THREADS=1
    cd "$BATS_FILE_TMPDIR"
    for i in $(seq 150); do echo; echo '<eos>'; done >one
    for i in $(seq 150); do echo to; done >two
    for i in $(seq 100); do echo to be "$((i % 3))" or; done >some
    for text in one two some; do
        "$DEQ" tokenize --train $text --valid $text --out data-$text >/dev/null
    done
    "$DEQ" tokenize --train two --valid two --bytes --out data-bytes >/dev/null
    cat >tiny.json <<'CONFIG'
{ "data": { "dir": "data-some" },
  "model": { "d_model": 8, "n_head": 2, "d_inner": 16, "init_std": 0.1 },
  "train": { "steps": 4, "batch": 2, "tgt_len": 8, "mem_len": 4, "pretrain_steps": 1, "warmup_steps": 1,
             "eval_every": 2, "checkpoint_every": 2 },
  "eval": { "batch": 2, "tgt_len": 8, "mem_len": 4, "max_iter": 4 } }
CONFIG
}

setup()
{
    cd "$BATS_FILE_TMPDIR"
}

# works DATA KEY=VALUE...: all that one does with a model.
works()
{
    local data=$1 set=()
    shift
    for key in "$@"; do set+=(--set "$key"); done
    rm -rf run
    "$DEQ" train -q --config tiny.json --set data.dir="$data" "${set[@]}" --out run
    "$DEQ" info run/last.bin --check >/dev/null
    run "$DEQ" eval run/last.bin --json
    [ "$status" -eq 0 ] && [[ "$output" == *'"ppl":'[0-9]* ]] || { echo "$output"; return 1; }
    "$DEQ" eval run/last.bin --decode >/dev/null
    "$DEQ" sample --checkpoint run/last.bin --prompt "" --tokens 3 --unk >/dev/null
    "$DEQ" export run/last.bin --out w.safetensors --force >/dev/null
    "$DEQ" import w.safetensors --out w.bin --force >/dev/null
    cmp <("$DEQ" eval run/last.bin | sed -n 2p) <("$DEQ" eval w.bin | sed -n 2p)
}

# refused STATUS TEXT deq-arguments...
refused()
{
    local want=$1 text=$2
    shift 2
    run "$DEQ" "$@"
    [ "$status" -eq "$want" ] && [[ "${lines[-1]}" == *"$text"* ]] || { echo "$output"; return 1; }
}

@test "a vocabulary of one word and of two" {
    grep -c . data-one/vocab.txt | grep -qx 1
    grep -c . data-two/vocab.txt | grep -qx 2
    works data-one
    "$DEQ" eval run/last.bin | grep -q "nothing to test, since a vocabulary of one word"
    works data-two
    "$DEQ" eval run/last.bin | grep -q "leak .* positions tested"
    for data in data-one data-two; do
        works $data model.cell=trellis model.nhid=4 model.nout=2
        works $data model.tie_weights=false solver.forward.method=broyden
    done
    refused 78 "model.cutoffs: 1 must be below the vocabulary of 1 tokens" train -q \
        --config tiny.json --set data.dir=data-one --set model.cutoffs=1 --out none
    works data-two model.cutoffs=1
}

@test "a width of one, a batch of one, segments of one token" {
    works data-some model.d_model=1 model.n_head=1 model.d_inner=1 model.d_head=0 model.d_embed=0
    works data-some model.cell=trellis model.nhid=1 model.nout=1 model.d_embed=1
    works data-some train.batch=1 train.tgt_len=1 train.mem_len=0 eval.batch=1 eval.tgt_len=1
    works data-bytes train.batch=1 train.tgt_len=1 eval.batch=1 eval.tgt_len=1 eval.mem_len=0
}

@test "texts of one token and fewer" {
    printf 'a' >a
    printf '\n\n' >lines
    printf ' \t' >blank
    : >empty
    refused 65 "empty: empty: a text is needed" tokenize --train empty --out none
    refused 65 "empty: empty: a text is needed" tokenize --train empty --out none --bytes
    refused 65 "lines: no words in it" tokenize --train lines --out none
    refused 65 "blank: no words in it" tokenize --train blank --out none
    "$DEQ" tokenize --train a --valid a --bytes --out data-byte
    refused 65 "the split train has 1 tokens: at least 2 are needed" train -q --config tiny.json \
        --set data.dir=data-byte --out none
    # one word and its <eos>
    "$DEQ" tokenize --train a --valid a --out data-a
    refused 65 "too few for a batch of 2: at most 1" train -q --config tiny.json \
        --set data.dir=data-a --out none
    works data-a train.batch=1 eval.batch=1
    [ ! -e none ]
}

@test "a number that float32 makes 0, infinite or the end of an open range is refused" {
    for set in train.eps=1e-46 train.eps=1e-400 train.lr=2e-50 solver.forward.tol=1e-60 \
        train.weight_decay=1e-46 train.weight_decay=1e-999 solver.forward.ridge=3e-320; do
        refused 78 "--set: ${set%=*}: want " train --config tiny.json --set $set --out none
        [[ "$output" == *"is 0 in float"* ]]
    done
    refused 78 "train.clip: want at least 0, got 1e+39, which is infinite in float32" \
        train --config tiny.json --set train.clip=1e39 --out none
    for key in train.beta1 train.beta2 model.dropout; do
        refused 78 "$key: want 0 <= x < 1, got 0.999999999, which is the upper end in float32" \
            train --config tiny.json --set $key=0.999999999 --out none
    done
    sed 's/"steps": 4/"steps": 4, "eps": 0.00001e-41/' tiny.json >file.json
    refused 78 "file.json:3: train.eps: want 0 < x <= 1, got 1e-46, which is 0" \
        train --config file.json --out none
    [ ! -e none ]
    # the smallest numbers that float32 has
    works data-some train.eps=2e-45 train.weight_decay=0 solver.forward.ridge=0.0e-99
    for x in 1e-46 0.0e-1 1e-400 0e-400; do
        want=0
        [[ $x == 0* ]] || want=64
        run "$DEQ" sample --checkpoint run/last.bin --prompt to --tokens 1 --temperature $x
        [ "$status" -eq $want ]
    done
}
