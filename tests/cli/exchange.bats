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
    weights() { "$DEQ" info "$1" --tensors | sed -n 's/ w:/ /; /^  F32.*[a-z_]\.[a-z_]/p' | sort; }
    [ "$(weights "$GOLDEN/eval.safetensors" | wc -l)" -eq 16 ]
    [ "$(weights "$GOLDEN/eval.safetensors")" = "$(weights dump.safetensors)" ]
}

@test "sizes of normalised matrices, and of convolutions of several taps" {
    "$DEQ" export run-transformer/last.bin --out n.safetensors
    "$DEQ" info n.safetensors --tensors >n.list
    grep -q '\[48,16,1\] .* func.dec_attn.qkv_net.weight_v$' n.list
    grep -q '\[48,1,1\] .* func.dec_attn.qkv_net.weight_g$' n.list
    grep -q '\[32,1\] .* func.pos_ff.ff1_net.weight_g$' n.list
    "$DEQ" export run-trellis/last.bin --out t.safetensors
    "$DEQ" info t.safetensors --tensors | grep -q '\[80,20,2\] .* trellisnet.func.full_conv.weight_v$'
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
    refused 65 "e.safetensors: func.pos_ff.ff1_net.weight_v has the shape [32,16], the configuration asks for [24,16]" \
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
    [[ "$output" == *"start.bias: a value of "*"nan, which is no finite float32" ]]
    [ ! -e none.bin ]
}

# edit PYTHON [RUN]: changes what a run exports, given as `h` (the header) and `data`, to
# edited.safetensors.
edit() {
    "$DEQ" export "${2:-run-transformer}/last.bin" --out trained.safetensors --force >/dev/null
    python3 - "$1" <<'END'
import json, struct, sys
raw = open("trained.safetensors", "rb").read()
n, = struct.unpack("<Q", raw[:8])
h, data = json.loads(raw[8:8 + n]), raw[8 + n:]
def add(name, dtype, shape, more):
    global data
    h[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(more)]}
    data += more
def rename(change):
    global h
    h = {(k if k == "__metadata__" else change(k)): v for k, v in h.items()}
exec(sys.argv[1])
text = json.dumps(h).encode()
open("edited.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
END
}

@test "a weight of another shape is refused, whatever its count of numbers" {
    command -v python3 >/dev/null || skip "no python3"
    edit 'h["func.pos_ff.ff2_net.bias"]["shape"] = [2, 8]'
    run "$DEQ" import edited.safetensors --out none.bin
    [ "$status" -eq 65 ] || { echo "$output"; return 1; }
    [[ "$output" == *"func.pos_ff.ff2_net.bias has the shape [2,8], the configuration asks for [16]" ]]
    edit 'h["func.pos_ff.ff1_net.weight_v"]["shape"].reverse()'
    run "$DEQ" import edited.safetensors --out none.bin
    [ "$status" -eq 65 ] || { echo "$output"; return 1; }
    [[ "$output" == *"func.pos_ff.ff1_net.weight_v has the shape [16,32], the configuration asks for [32,16]: it is transposed" ]]
    [ ! -e none.bin ]
    # a size of 1 at the end moves nothing
    edit 'h["start.bias"]["shape"].append(1)'
    "$DEQ" import edited.safetensors --out ones.bin
    [ "$(digest ones.bin)" = "$(digest run-transformer/last.bin)" ]
}

@test "tensors that are not needed may be of any type, weights must be real numbers" {
    command -v python3 >/dev/null || skip "no python3"
    edit 'add("a", "I16", [3], b"123456"); add("b", "F8_E5M2", [2], b"12"); add("c", "F4", [4], b"12")'
    "$DEQ" import edited.safetensors --out types.bin --force
    [ "$(digest types.bin)" = "$(digest run-transformer/last.bin)" ]
    "$DEQ" info edited.safetensors --tensors | grep -q '^  F8_E5M2 \[2\] '
    for type in I32 U32 F9_X; do
        edit "h['start.bias']['dtype'] = '$type'"
        run "$DEQ" import edited.safetensors --out none.bin
        [ "$status" -eq 65 ] || { echo "$output"; return 1; }
        [[ "$output" == *"start.bias is of type $type; weights are read as F64, F32, F16 or BF16"* ]]
    done
    [ ! -e none.bin ]
}

@test "names are understood with what wrappers of a training add" {
    command -v python3 >/dev/null || skip "no python3"
    for change in '"model._orig_mod." + k' '"module.module." + k' '"_forward_module.net." + k' \
        'k.replace("func.", "func._fsdp_wrapped_module.")' \
        'k.replace("weight_g", "parametrizations.weight.original0").replace("weight_v", "parametrizations.weight.original1")'; do
        edit "rename(lambda k: $change)"
        "$DEQ" import edited.safetensors --out wrapped.bin --force
        [ "$(digest wrapped.bin)" = "$(digest run-transformer/last.bin)" ]
    done
    # the model's own name goes before a copy's; of two copies neither is taken
    edit 'add("module.start.bias", "F32", [16], bytes(64))'
    "$DEQ" import edited.safetensors --out wrapped.bin --force
    [ "$(digest wrapped.bin)" = "$(digest run-transformer/last.bin)" ]
    edit 'add("module.start.bias", "F32", [16], bytes(64)); rename(lambda k: "model." + k if k == "start.bias" else k)'
    run "$DEQ" import edited.safetensors --out none.bin
    [ "$status" -eq 65 ] || { echo "$output"; return 1; }
    [[ "$output" == *"both model.start.bias and module.start.bias could be the weight start.bias"* ]]
    [ ! -e none.bin ]
}

@test "weights of TorchDEQ's language model are refused with the reason" {
    command -v python3 >/dev/null || skip "no python3"
    edit 'rename(lambda k: k.replace("dec_attn.", "dec_attn.0.")); add("module.func.dec_attn.0.ln2.weight", "F32", [16], bytes(64))'
    run "$DEQ" import edited.safetensors --out none.bin
    [ "$status" -eq 65 ] || { echo "$output"; return 1; }
    [[ "$output" == *"weights of TorchDEQ's DEQ-LM: its blocks normalise before W_o"* ]]
    [ ! -e none.bin ]
}

@test "files of other programs are told by name, with what to do" {
    "$DEQ" export run-transformer/last.bin --out trained.safetensors --force
    for ending in pt PTH ckpt npz gguf; do
        run "$DEQ" export run-transformer/last.bin --out w.$ending
        [ "$status" -eq 64 ]
        [[ "$output" == *"name it w.safetensors, which safetensors.torch.load_file reads"* ]]
        run "$DEQ" import trained.safetensors --out w.$ending
        [ "$status" -eq 64 ]
        [[ "$output" == *"name it w.bin, which deq eval"* ]]
        [ ! -e w.$ending ]
    done
    run "$DEQ" import trained.safetensors --out w.safetensors
    [ "$status" -eq 64 ]
    printf 'PK\003\004 an archive of torch.save' >made.pt
    run "$DEQ" import made.pt --out none.bin
    [ "$status" -eq 65 ] || { echo "$output"; return 1; }
    [[ "$output" == *"a zip archive, as torch.save"*"safetensors.torch.save_file"* ]]
    run "$DEQ" import run-transformer/last.bin --out none.bin
    [ "$status" -eq 65 ] || { echo "$output"; return 1; }
    [[ "$output" == *"a checkpoint; deq export"* ]]
}

@test "weights that are not finite are not exported, evaluated or sampled" {
    tool=$(dirname "$DEQ")/tests/tools/poison
    [ -x "$tool" ] || skip "$tool is not built (make tests)"
    "$tool" run-transformer/last.bin poisoned.bin w:start.bias
    run "$DEQ" export poisoned.bin --out none.safetensors
    [ "$status" -eq 65 ] || { echo "$output"; return 1; }
    [[ "$output" == *"poisoned.bin: the weight start.bias has a value of "*"use an earlier checkpoint"* ]]
    [ ! -e none.safetensors ]
    run "$DEQ" eval poisoned.bin
    [ "$status" -eq 65 ] || { echo "$output"; return 1; }
    run "$DEQ" sample --checkpoint poisoned.bin --prompt w1
    [ "$status" -eq 65 ] || { echo "$output"; return 1; }
    run "$DEQ" info poisoned.bin --check
    [ "$status" -eq 1 ]
    [[ "$output" == *"start.bias has a value of "* ]]
    "$tool" run-transformer/last.bin fine.bin m:start.bias
    "$DEQ" eval fine.bin
}

@test "a weight of two names must have one value" {
    command -v python3 >/dev/null || skip "no python3"
    "$DEQ" train -q --config transformer.json --set data.dir=data --set train.steps=1 --set train.pretrain_steps=0 --set train.batch=4 \
        --set train.tgt_len=12 --set train.mem_len=8 --set train.eval_every=0 --set model.compat=true \
        --out run-compat
    edit 'pass' run-compat
    "$DEQ" import edited.safetensors --out two.bin
    [ "$(digest two.bin)" = "$(digest run-compat/last.bin)" ]
    edit 'at = h["crit.out_projs.1.weight"]["data_offsets"][0]; data = data[:at] + b"\0\0\x80\x3f" + data[at + 4:]' \
        run-compat
    run "$DEQ" import edited.safetensors --out none.bin
    [ "$status" -eq 65 ] || { echo "$output"; return 1; }
    [[ "$output" == *"crit.out_projs.1.weight differs from word_emb.emb_projs.1.weight, but the configuration asks for one weight"* ]]
    edit 'del h["crit.out_projs.1.weight"]["shape"][1:]; h["crit.out_projs.1.weight"]["shape"][0] = 128' run-compat
    run "$DEQ" import edited.safetensors --out none.bin
    [ "$status" -eq 65 ]
    [ ! -e none.bin ]
}
