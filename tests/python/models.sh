#!/bin/sh
# Makes the small models that tests/python compare: trained checkpoints, their exported folders, and
# the losses and gradients that deq computes for them.
#
#   tests/python/models.sh DEQ SEGMENTS FOLDER [NAME]...
#
# SEGMENTS is tests/tools/segments. Each model gets FOLDER/NAME.bin, NAME-hf, NAME.eval and NAME.train
# (.safetensors). models lists their names. With NAMEs only these are made.
set -eu
deq=$1 segments=$2 folder=$3
shift 3
only=" $* "
mkdir -p "$folder"
cd "$folder"
export OMP_NUM_THREADS=1
awk 'BEGIN { srand(7); for (i = 0; i < 600; i++) { line = ""
    for (j = 0; j < 9; j++) line = line " w" int(rand() * rand() * 20); print line } }' >text
"$deq" tokenize --train text --valid text --out words --split blanks --force >/dev/null
awk '{ gsub(/w1 w2/, "w1, \"w2\""); gsub(/w3 w/, "(w3)-w"); gsub(/ w0 /, " W0\47s   "); print $0 "." }' \
    text >marked
"$deq" tokenize --train marked --valid marked --out marks --split punctuation --lower --unk map \
    --force >/dev/null
"$deq" tokenize --train marked --valid marked --out bytes --bytes --force >/dev/null
"$deq" tokenize --train marked --valid marked --out pieces --subwords 281 --force >/dev/null 2>&1 || :
awk 'BEGIN { srand(3); for (s = 0; s < 2; s++) { for (i = 0; i < 34; i++) printf "%d ", rand() * 21
    print "" } }' >ids
tight="solver.forward.stop=rel solver.forward.tol=2e-7 solver.forward.max_iter=100
    solver.backward.stop=rel solver.backward.tol=2e-7 solver.backward.max_iter=100"
: >models

# NAME JSON [DATA]: trains for some steps, exports, and computes losses and gradients at tight solves.
model()
{
    name=$1
    [ "$only" = "  " ] || [ "${only#* "$name" }" != "$only" ] || return 0
    data=${3:-words}
    rm -rf "run-$name"
    echo "$2" >"$name.json"
    "$deq" train -q --config "$name.json" --set "data.dir=$data" --set train.steps=40 \
        --set train.batch=4 --set train.tgt_len=12 --set train.mem_len=16 --set train.lr=3e-3 \
        --set train.warmup_steps=2 --set train.pretrain_steps=2 --set train.eval_every=0 \
        --set train.checkpoint_every=0 --set train.seed=5 --set eval.tgt_len=12 \
        --set eval.mem_len=16 --out "run-$name"
    cp "run-$name/last.bin" "$name.bin"
    "$deq" export "$name.bin" --format hf --out "$name-hf" --force >/dev/null
    # shellcheck disable=SC2086
    for mode in eval train; do
        "$segments" "$name.bin" $mode 2 12 16 ids "$name.$mode.safetensors" $tight
    done
    echo "$name" >>models
}

small='"d_model": 16, "n_head": 2, "d_inner": 32, "init_std": 0.2, "dropout": 0.1'
model plain "{\"model\": {$small}}"
model guess "{\"model\": {$small, \"start\": \"linear\", \"cutoffs\": [5, 12], \"div_val\": 2}}"
model shared "{\"model\": {$small, \"cutoffs\": [5, 12], \"d_embed\": 12}}"
model free "{\"model\": {$small, \"tie_weights\": false, \"cutoffs\": [4, 9], \"d_embed\": 20,
    \"tie_projs\": [true, false, true], \"wnorm\": false}}"
model pre "{\"model\": {$small, \"pre_lnorm\": true, \"layers\": 3}}"
model broyden "{\"model\": {$small}, \"solver\": {\"forward\": {\"method\": \"broyden\"}}}"
model rms "{\"model\": {$small, \"norm\": \"rms\", \"local_size\": 9}}"
model prerms "{\"model\": {$small, \"norm\": \"rms\", \"pre_lnorm\": true, \"layers\": 2}}"
model stack "{\"model\": {$small, \"blocks\": 2}}"
model published "{\"model\": {$small, \"compat\": true, \"cutoffs\": [5, 12], \"div_val\": 2},
    \"solver\": {\"forward\": {\"method\": \"broyden\", \"scope\": \"batch\"},
    \"backward\": {\"method\": \"broyden\", \"scope\": \"batch\"}}}"
model prepublished "{\"model\": {$small, \"compat\": true, \"pre_lnorm\": true}}"
model tied "{\"model\": {$small, \"layers\": 4}}"
model tiedstack "{\"model\": {$small, \"layers\": 3, \"blocks\": 2}}"
model layers "{\"model\": {$small, \"layers\": 3, \"tie_layers\": false}}"
model prelayers "{\"model\": {$small, \"layers\": 3, \"tie_layers\": false, \"pre_lnorm\": true,
    \"norm\": \"rms\"}}"
model phantom "{\"model\": {$small}, \"gradient\": {\"method\": \"phantom\", \"steps\": 3}}"
model onestep "{\"model\": {$small}, \"gradient\": {\"method\": \"one-step\"}}"
model unroll "{\"model\": {$small}, \"gradient\": {\"method\": \"unroll\", \"steps\": 5}}"
model reversible "{\"model\": {$small, \"start\": \"linear\"},
    \"gradient\": {\"method\": \"reversible\", \"steps\": 3, \"damping\": 0.5}}"
model truncated "{\"model\": {$small, \"start\": \"linear\"}, \"gradient\": {\"method\": \"truncated\",
    \"steps\": 3, \"mean\": 7, \"draw\": \"fixed\"}}"
model picard "{\"model\": {$small}, \"solver\": {\"forward\": {\"method\": \"picard\", \"damping\": 0.8},
    \"backward\": {\"method\": \"picard\"}}}"
model prefix "{\"model\": {$small}, \"solver\": {\"backward\": {\"method\": \"broyden\", \"scope\": \"prefix\"},
    \"forward\": {\"scope\": \"token\", \"ridge_mode\": \"abs\"}}}"
cell='"cell": "trellis", "nhid": 12, "nout": 8, "d_embed": 8, "init_std": 0.2, "dropout": 0.1'
model trellis "{\"model\": {$cell}}"
model wide "{\"model\": {$cell, \"ksize\": 3, \"dilation\": 2, \"wdrop\": 0.2, \"dropouth\": 0.1,
    \"dropouti\": 0.1, \"emb_dropout\": 0.1, \"cutoffs\": [5, 12], \"div_val\": 2}}"
model oldtrellis "{\"model\": {$cell, \"compat\": true, \"ksize\": 2, \"dilation\": 2, \"wnorm\": false,
    \"cutoffs\": [5, 12]}}"
model tiedtrellis "{\"model\": {$cell, \"layers\": 5, \"tie_weights\": false}}"
new='"cell": "modern", "norm": "rms", "d_model": 16, "n_head": 4, "d_inner": 32, "init_std": 0.2, "dropout": 0.1'
model modern "{\"model\": {$new}}"
model moderngroups "{\"model\": {$new, \"n_kv_head\": 2, \"wnorm\": false, \"ffn\": \"relu2\", \"start\": \"linear\"}}"
# Two blocks between norms need smaller gates, or some positions are not solved and cannot be compared.
model modernaround "{\"model\": {$new, \"gate_init\": 0.2, \"prelude\": 1, \"coda\": 2, \"blocks\": 2, \"norm_place\": \"sandwich\",
    \"inject\": \"linear\"}}"
model modernpost "{\"model\": {$new, \"norm_place\": \"post\", \"inject\": \"qkv\", \"local_size\": 9,
    \"cutoffs\": [5, 12]}, \"gradient\": {\"method\": \"unroll\", \"steps\": 3}}"
model moderndecay "{\"model\": {$new, \"inject\": \"decay\", \"outer_norm\": true, \"gate\": \"none\",
    \"ffn\": \"relu\", \"qk_norm\": false, \"rope_base\": 0}}"
model modernlayers "{\"model\": {$new, \"layers\": 3, \"tie_layers\": false, \"gate\": \"scalar\"}}"
model marks "{\"model\": {$small}}" marks
model bytes "{\"model\": {$small}}" bytes
[ ! -e pieces/tokenizer.model ] || model pieces "{\"model\": {$small}}" pieces
