#!/usr/bin/env bats
# Where a message names a remedy, the remedy works: it is taken from the message and followed.

load tiny_run

setup_file()
{
    tiny_run
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

@test "text for another model is tokenized with the vocabulary of its checkpoint" {
    for i in $(seq 200); do echo "the son of the king $i"; done >other
    "$DEQ" tokenize --train other --valid other --out otherdata
    told 65 "tokenize the text with deq tokenize --vocab " eval "$home/run/best.bin" --data otherdata
    vocab=$(grep -o 'deq tokenize --vocab [^ ]*' <<<"$output")
    "$DEQ" tokenize --train "$home/text" --valid "$home/text" --out otherdata \
        --vocab "${vocab##* }" --force
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

# remedied KEY=VALUE...: the configuration is refused with a key and a value to set it to, and then is
# right.
remedied()
{
    local set=()
    for key in "$@"; do set+=(--set "$key"); done
    told 78 "set it to " info --config "$home/tiny.json" "${set[@]}"
    key=$(grep -oE '[a-z_]+(\.[a-z_]+)+: ' <<<"${output#*tiny.json: }" | head -n 1)
    value=$(sed 's/.*set it to \([a-z0-9]*\).*/\1/' <<<"$output")
    "$DEQ" info --config "$home/tiny.json" "${set[@]}" --set "${key%: }=$value" >/dev/null
}

@test "a key is set to what the message says" {
    remedied model.layers=2 model.tie_layers=false model.blocks=2
    remedied gradient.recompute=1 model.blocks=2
    remedied model.div_val=2
    remedied solver.forward.line_search=true
    remedied jacobian.weight=1 model.layers=2
    remedied correction.weight=1 model.layers=2
    remedied correction.weight=1 correction.at=[2] gradient.method=unroll
    remedied correction.weight=1 correction.at=[2] gradient.method=reversible gradient.damping=0.5
    remedied model.cell=trellis model.blocks=2
    remedied model.cell=trellis model.nhid=4 model.nout=2 model.layers=2 model.tie_layers=false
}

@test "unknown words: --unk map where the vocabulary can have <unk>, else what makes one that can" {
    for i in $(seq 20); do echo the son of the king; done >train
    echo the daughter of the king >new
    told 65 "--unk map makes it <unk>" tokenize --train train --valid new --out counted
    "$DEQ" tokenize --train train --valid new --unk map --out counted
    told 65 "--unk map makes it <unk>" tokenize --train new --vocab counted/vocab.txt --unk error --out given
    "$DEQ" tokenize --train new --vocab counted/vocab.txt --unk map --out given
    "$DEQ" info "$home/run/best.bin" --vocab >words
    for unk in "" "--unk map" "--unk error"; do
        # shellcheck disable=SC2086
        told 65 "has no <unk>: a model of these words can read no others; for another model leave out --vocab and give --unk map, or --bytes" \
            tokenize --train new --vocab words $unk --out none
    done
    told 64 "leave one out" tokenize --train new --vocab words --min-count 2 --out none
    "$DEQ" tokenize --train new --min-count 2 --out none
    "$DEQ" tokenize --train new --unk map --out none --force
    "$DEQ" tokenize --train new --bytes --out none --force
}

@test "a text that is none, and a model or a list of words of bytes, are read with --bytes" {
    printf 'the\0king\n' >nul
    head -c 3000000 /dev/zero | tr '\0' a >long
    told 65 "read it with --bytes" tokenize --train nul --out bytes
    told 65 "--bytes reads any file" tokenize --train long --out bytes
    "$DEQ" tokenize --train long --valid nul --bytes --out bytes
    told 65 "use it with --bytes" tokenize --train nul --vocab bytes/vocab.txt --out more
    "$DEQ" tokenize --train "$home/text" --valid "$home/text" --vocab bytes/vocab.txt --bytes --out more
    told 65 "leave out --bytes" tokenize --train "$home/text" --vocab "$home/data/vocab.txt" --bytes --out none
    "$DEQ" tokenize --train "$home/text" --vocab "$home/data/vocab.txt" --out none
    "$DEQ" train -q --config "$home/tiny.json" --set data.dir=more --out run
    told 65 "a model of bytes, and the shards in $home/data are of words; tokenize the text with --bytes" \
        eval run/best.bin --data "$home/data"
    "$DEQ" tokenize --train "$home/text" --valid "$home/text" --bytes --out other
    "$DEQ" eval run/best.bin --data other
}

@test "an output gets the name that the message has, and a file the program that it names" {
    told 64 "name it w.safetensors, which" export "$home/run/best.bin" --out w.pt
    "$DEQ" export "$home/run/best.bin" --out "$(grep -o 'w\.safetensors' <<<"$output" | head -n 1)"
    told 64 "name it c.bin, which deq eval, deq sample and deq train read" import w.safetensors --out c.ckpt
    told 64 "a checkpoint, as --out c.bin; deq export" import w.safetensors --out c.safetensors
    "$DEQ" import w.safetensors --out c.bin
    "$DEQ" eval c.bin
    "$DEQ" sample --checkpoint c.bin --prompt the
    "$DEQ" train -q --config "$home/tiny.json" --resume c.bin --out run
    told 65 "a checkpoint; deq export makes one of it" import c.bin --out d.bin
    "$DEQ" export c.bin --out v.safetensors
    "$DEQ" import v.safetensors --out d.bin
    "$DEQ" train -q --config "$home/tiny.json" --set model.start=linear --out linear
    "$DEQ" export linear/last.bin --out l.safetensors
    sed 's/"start\.bias"/"xtart.bias"/' l.safetensors >renamed.safetensors
    told 65 "wants --set model.start=zero" import renamed.safetensors --out e.bin
    "$DEQ" import renamed.safetensors --out e.bin --set model.start=zero
}

@test "a prompt comes from where the message says" {
    told 64 "--prompt TEXT, --prompt - for standard input, or --prompt-file FILE" sample \
        --checkpoint "$home/run/best.bin" --prompt the --prompt-file prompt
    echo the >prompt
    "$DEQ" sample --checkpoint "$home/run/best.bin" --prompt the
    "$DEQ" sample --checkpoint "$home/run/best.bin" --prompt - <prompt
    "$DEQ" sample --checkpoint "$home/run/best.bin" --prompt-file prompt
    told 65 'did you mean "king"' sample --checkpoint "$home/run/best.bin" --prompt kingg
    "$DEQ" sample --checkpoint "$home/run/best.bin" --prompt king
}
