#!/usr/bin/env bats
# Where a message names a remedy, the remedy works: it is taken from the message and followed.

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    awk 'BEGIN { for (i = 0; i < 300; i++) print "the king said to the son of the king " i % 7 }' >text
    "$DEQ" tokenize --train text --valid text --out data >/dev/null
    cat >tiny.json <<CONFIG
{ "data": { "dir": "$home/data" },
  "model": { "d_model": 8, "n_head": 2, "d_inner": 16, "init_std": 0.1 },
  "train": { "steps": 2, "batch": 2, "tgt_len": 8, "mem_len": 4, "pretrain_steps": 1,
             "eval_every": 0, "checkpoint_every": 0 },
  "eval": { "batch": 8, "tgt_len": 16, "mem_len": 4, "max_iter": 4 } }
CONFIG
    "$DEQ" train -q --config tiny.json --out run
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
}

# told STATUS TEXT deq-arguments...: fails so, with that text in the message.
told()
{
    local want=$1 text=$2
    shift 2
    run "$DEQ" "$@"
    [ "$status" -eq "$want" ] && [[ "$output" == *"$text"* ]] || { echo "$output"; return 1; }
}

@test "--force replaces what is there" {
    "$DEQ" export "$home/run/best.bin" --out w
    told 73 "--force replaces it" export "$home/run/best.bin" --out w
    "$DEQ" export "$home/run/best.bin" --out w --force
    "$DEQ" import w --out c.bin
    told 73 "--force replaces it" import w --out c.bin
    "$DEQ" import w --out c.bin --force
    cp -r "$home/data" data
    told 73 "--force" tokenize --train "$home/text" --out data
    "$DEQ" tokenize --train "$home/text" --out data --force
}

@test "text for another model is tokenized with the vocabulary that deq info prints" {
    for i in $(seq 200); do echo "the son of the king $i"; done >other
    "$DEQ" tokenize --train other --valid other --out otherdata
    told 65 "tokenize the text with --vocab FILE, which " eval "$home/run/best.bin" --data otherdata
    command=$(grep -o 'deq info --vocab [^ ]*' <<<"$output")
    # shellcheck disable=SC2086
    "$DEQ" ${command#deq } >vocab.txt
    "$DEQ" tokenize --train other --valid other --out otherdata --vocab vocab.txt --force --unk map ||
        "$DEQ" tokenize --train "$home/text" --valid "$home/text" --out otherdata \
            --vocab vocab.txt --force
    "$DEQ" eval "$home/run/best.bin" --data otherdata
}

@test "data that moved is named by --data" {
    cp -r "$home/data" moved
    sed "s#$home/data#$PWD/gone#" "$home/tiny.json" >c.json
    cp -r "$home/data" gone
    "$DEQ" train -q --config c.json --out run
    rm -r gone
    told 66 "--data names another)" eval run/best.bin
    "$DEQ" eval run/best.bin --data moved
}

@test "a training that does not fit is planned again with the train.accumulate that is named" {
    big="--config wikitext103 --set model.vocab_size=267735 --set train.batch=1024 --device a100-40"
    cd "$BATS_TEST_DIRNAME/../.."
    # shellcheck disable=SC2086
    told 1 "--set train.accumulate=" plan $big
    remedy=$(grep -o 'train.accumulate=[0-9]*' <<<"$output" | tail -n 1)
    # shellcheck disable=SC2086
    "$DEQ" plan $big --set "$remedy"
}

@test "--set model.vocab_size names a vocabulary that is not known yet" {
    cd "$BATS_TEST_DIRNAME/../.."
    told 78 "--set model.vocab_size=N" plan --config wikitext103 --set data.dir=nowhere --device h100
    "$DEQ" plan --config wikitext103 --set data.dir=nowhere --device h100 --set model.vocab_size=267735
    told 78 "--set model.vocab_size=N" bench solve --config wikitext103
    run "$DEQ" info --config wikitext103 --set data.dir=nowhere
    [[ "$output" == *"--set model.vocab_size=N names"* ]]
    run "$DEQ" info --config wikitext103 --set data.dir=nowhere --set model.vocab_size=1000000
    [[ "$output" == *"for a vocabulary of 1000000"* ]]
}

@test "a head whose width does not fit is derived when it is set to 0" {
    cd "$BATS_TEST_DIRNAME/../.."
    told 78 "set d_head to 0 to have it derived" info --config kjv --set model.d_model=512
    "$DEQ" info --config kjv --set model.d_model=512 --set model.d_head=0 | grep '"d_head": *128'
}

@test "weights without a configuration are read with --config" {
    file=$BATS_TEST_DIRNAME/../golden/eval.safetensors
    told 64 "name the model's with --config" import "$file" --out c.bin
    "$DEQ" export "$home/run/best.bin" --out w
    "$DEQ" import w --config "$home/tiny.json" --out c.bin
}

@test "bench takes a tool in front of its options" {
    told 64 "deq bench solve ..." bench --steps 1 solve
    "$DEQ" bench solve --steps 1 --set model.d_model=16 --set model.n_head=2 --set train.batch=2 \
        --set model.d_inner=32 --set train.tgt_len=8 --set train.mem_len=8 --set model.vocab_size=50
}

@test "a configuration is shown by deq info --config, as the message says" {
    told 65 "for a configuration: deq info --config FILE" info "$home/tiny.json"
    "$DEQ" info --config "$home/tiny.json"
}

@test "a checkpoint to sample from is named by --checkpoint" {
    told 66 "name one with --checkpoint" sample --prompt the
    "$DEQ" sample --prompt the --checkpoint "$home/run/best.bin"
    told 64 "so quote it" sample --prompt the king --checkpoint "$home/run/best.bin"
    "$DEQ" sample --prompt "the king" --checkpoint "$home/run/best.bin"
}

@test "an unknown option is answered with one that exists" {
    while read -r command wrong; do
        run "$DEQ" "$command" "$wrong"
        [ "$status" -eq 64 ]
        remedy=${output##*did you mean }
        [[ "$("$DEQ" help "$command")" == *"${remedy%\?}"* ]]
    done <<'END'
eval --chek-causality
sample --temprature
train --confg
tokenize --min-coutn
END
}
