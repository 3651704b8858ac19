#!/usr/bin/env bats
# deq export and deq import: weights to other programs and back.

setup_file() {
    export OMP_NUM_THREADS=1
    DEQ=$(realpath "${DEQ:-build/deq}")
    GOLDEN=$(realpath "$BATS_TEST_DIRNAME/../golden")
    export DEQ GOLDEN
    cd "$BATS_FILE_TMPDIR"
    awk 'BEGIN { srand(7); for (i = 0; i < 300; i++) { line = ""
        for (j = 0; j < 9; j++) line = line " w" int(rand() * rand() * 20); print line } }' >text
    "$DEQ" tokenize --train text --valid text --out data
    common="--set data.dir=data --set train.steps=4 --set train.batch=4 --set train.tgt_len=12
        --set train.mem_len=8 --set train.warmup_steps=2 --set train.pretrain_steps=2
        --set train.eval_every=0 --set train.checkpoint_every=0 --set eval.tgt_len=12
        --set eval.mem_len=8"
    echo '{"model": {"d_model": 16, "n_head": 2, "d_inner": 32, "init_std": 0.1, "start": "linear",
        "cutoffs": [5, 12], "div_val": 2}}' >transformer.json
    echo '{"model": {"cell": "trellis", "nhid": 12, "nout": 8, "d_embed": 8, "init_std": 0.1}}' \
        >trellis.json
    for name in transformer trellis; do
        "$DEQ" train -q --config $name.json $common --out run-$name
    done
}

setup() {
    cd "$BATS_FILE_TMPDIR"
}

digest() {
    "$DEQ" info "$1" --json | tail -1 | grep -o '"weights_digest":"[^"]*"'
}

ppl() {
    "$DEQ" eval "$1" --json 2>/dev/null | tail -1 | grep -o '"ppl":[^,]*'
}

@test "weights that were exported and imported are the same, bit for bit, in either cell" {
    for name in transformer trellis; do
        "$DEQ" export run-$name/last.bin --out $name.safetensors
        run "$DEQ" import $name.safetensors --out $name.bin
        [ "$status" -eq 0 ]
        [[ "$output" == *"$name.bin: "*" tensors, "*" numbers" ]]
        [ "$(digest $name.bin)" = "$(digest run-$name/last.bin)" ]
        [ "$(ppl $name.bin)" = "$(ppl run-$name/last.bin)" ]
        [[ "$("$DEQ" info $name.bin --json | tail -1)" == *'"step":0,'* ]]
    done
}

@test "a training goes on from imported weights" {
    "$DEQ" export run-transformer/last.bin --out on.safetensors
    "$DEQ" import on.safetensors --out on.bin
    "$DEQ" train -q --config run-transformer/config.json --resume on.bin --out run-on
    [[ "$("$DEQ" info run-on/last.bin --json | tail -1)" == *'"step":4,'* ]]
    [ "$(digest run-on/last.bin)" != "$(digest on.bin)" ]
}

@test "names and sizes are those of a dump of the published code" {
    for i in $(seq 0 199); do echo "w$i"; done >vocab.txt
    run "$DEQ" import "$GOLDEN/eval.safetensors" --data . --config transformer.json --out dump.bin \
        --set model.start=zero --set model.wnorm=false --set model.div_val=1 \
        --set "model.cutoffs=[50,120]" --set model.d_model=64 --set model.n_head=4 \
        --set model.d_inner=128
    [ "$status" -eq 0 ]
    [[ "$output" == *"12 tensors are no weights of this model, the first "* ]]
    "$DEQ" export dump.bin --out dump.safetensors
    weights() { "$DEQ" info "$1" | sed -n 's/ w:/ /; /^  F32.*[a-z_]\.[a-z_]/p' | sort; }
    [ "$(weights "$GOLDEN/eval.safetensors" | wc -l)" -eq 16 ]
    [ "$(weights "$GOLDEN/eval.safetensors")" = "$(weights dump.safetensors)" ]
}

@test "sizes of normalised matrices, and of convolutions of several taps" {
    "$DEQ" export run-transformer/last.bin --out n.safetensors
    "$DEQ" info n.safetensors >n.list
    grep -q '\[48,16,1\] .* func.dec_attn.qkv_net.weight_v$' n.list
    grep -q '\[48,1,1\] .* func.dec_attn.qkv_net.weight_g$' n.list
    grep -q '\[32,1\] .* func.pos_ff.ff1_net.weight_g$' n.list
    "$DEQ" export run-trellis/last.bin --out t.safetensors
    "$DEQ" info t.safetensors | grep -q '\[80,20,2\] .* trellisnet.func.full_conv.weight_v$'
}

@test "the file opens with nothing but its format's description" {
    command -v python3 >/dev/null || skip "no python3"
    "$DEQ" export run-trellis/last.bin --out p.safetensors
    python3 - <<'END'
import json, struct
data = open("p.safetensors", "rb").read()
size, = struct.unpack("<Q", data[:8])
header = json.loads(data[8:8 + size])
meta = header.pop("__metadata__")
assert meta["format"] == "pt" and meta["step"] == "4", meta
config = json.loads(meta["deq_config"])
assert config["model"]["nhid"] == 12
end = 0
for name, t in sorted(header.items(), key=lambda x: x[1]["data_offsets"]):
    first, last = t["data_offsets"]
    count = 1
    for n in t["shape"]:
        count *= n
    assert t["dtype"] == "F32" and first == end and last - first == 4 * count, name
    end = last
assert 8 + size + end == len(data)
END
}

@test "what is there is not replaced without --force" {
    "$DEQ" export run-trellis/last.bin --out f.safetensors
    cp f.safetensors before
    run "$DEQ" export run-transformer/last.bin --out f.safetensors
    [ "$status" -eq 73 ]
    [[ "$output" == *"deq export: f.safetensors: is there already; --force replaces it" ]]
    cmp f.safetensors before
    run "$DEQ" import f.safetensors --out before
    [ "$status" -eq 73 ]
    cmp f.safetensors before
    "$DEQ" export run-transformer/last.bin --out f.safetensors --force
    ! cmp -s f.safetensors before
}

@test "weights that do not fit the configuration: one line, no file" {
    "$DEQ" export run-transformer/last.bin --out e.safetensors
    refused() { # STATUS TEXT OPTION...
        local want=$1 text=$2
        shift 2
        run "$DEQ" import "$@" --out none.bin
        [ "$status" -eq "$want" ]
        [[ "${lines[-1]}" == "deq import: "*"$text"* ]]
        [ ! -e none.bin ]
    }
    refused 65 "e.safetensors: func.pos_ff.ff1_net.weight_v has 512 numbers, the configuration asks for 384" \
        e.safetensors --set model.d_inner=24
    refused 65 "no tensor func.blocks.0.dec_attn.qkv_net.weight_v, which the configuration asks for" \
        e.safetensors --set model.blocks=2
    refused 66 "nowhere/vocab.txt: cannot open" e.safetensors --data nowhere
    head -9 data/vocab.txt >vocab.txt
    refused 65 "./vocab.txt: 9 words, the model has" e.safetensors --data .
    refused 64 "holds no configuration" "$GOLDEN/eval.safetensors"
    refused 66 "nowhere.safetensors" nowhere.safetensors
    refused 65 "run-trellis/last.bin" run-trellis/last.bin
    run "$DEQ" export e.safetensors --out none.bin
    [ "$status" -eq 65 ]
    [ ! -e none.bin ]
}

@test "weights without learned starts say what to set; numbers that are none are refused" {
    "$DEQ" export run-transformer/last.bin --out s.safetensors
    sed 's/"start\.bias"/"xtart.bias"/' s.safetensors >renamed.safetensors
    run "$DEQ" import renamed.safetensors --out none.bin
    [ "$status" -eq 65 ]
    [[ "$output" == *"no tensor start.bias"*"--set model.start=zero" ]]
    # the last number of the file becomes a NaN
    cp s.safetensors nan.safetensors
    printf '\377\377\377\377' | dd of=nan.safetensors bs=1 conv=notrunc status=none \
        seek=$(($(stat -c %s nan.safetensors) - 4))
    run "$DEQ" import nan.safetensors --out none.bin
    [ "$status" -eq 65 ]
    [[ "$output" == *"start.bias: a value of "*nan ]]
    [ ! -e none.bin ]
}
