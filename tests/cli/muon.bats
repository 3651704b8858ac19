#!/usr/bin/env bats
# Muon, groups of rates and cautious weight decay, as a user meets them.

load tiny_run

setup_file()
{
    tiny_run
    export muon="--set train.optimizer=muon --set train.weight_decay=0.1 --set train.cautious_decay=true
        --set train.steps=12 --set train.warmup_steps=2 --set train.checkpoint_every=5 --set train.keep_last=9
        --set train.lr_embedding=2e-3 --set train.beta2_embedding=0.99"
    # shellcheck disable=SC2086
    "$DEQ" train -q --config tiny.json $muon --out whole
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
}

said() { [[ "$output" == *"$1"* ]] || { echo "$output"; return 1; }; }
digest() { "$DEQ" info --json "$1" | grep -o '"weights_digest":"[0-9a-f]*"'; }

@test "a run with muon that was cut goes on bit for bit" {
    for extra in "" "--set train.ema=0.8 --set train.schedule=wsd"; do
        # shellcheck disable=SC2086
        "$DEQ" train -q --config "$home/tiny.json" $muon $extra --out "whole$extra"
        # shellcheck disable=SC2086
        "$DEQ" train -q --config "$home/tiny.json" $muon $extra --out "cut$extra" \
            --resume "whole$extra/step-00000005.bin"
        "$DEQ" info --check "cut$extra/last.bin" | grep '^check: all'
        # seven more steps would tell a moment that differs
        [ "$(digest "cut$extra/last.bin")" = "$(digest "whole$extra/last.bin")" ]
    done
}

@test "a checkpoint has one number for a matrix of a block, and two for every other parameter" {
    "$DEQ" info --tensors "$home/whole/last.bin" >tensors
    for name in func.dec_attn.qkv_net.weight_v func.pos_ff.ff1_net.weight_v inject_conv.weight; do
        grep "m:$name\$" tensors
        ! grep "v:$name\$" tensors || return 1
    done
    for name in func.dec_attn.r_w_bias func.dec_attn.qkv_net.weight_g word_emb.emb_layers.0.weight func.pos_ff.ff1_net.bias; do
        grep "m:$name\$" tensors
        grep "v:$name\$" tensors
    done
    "$DEQ" info "$home/whole/last.bin" | grep "muon, cosine"
}

@test "another optimizer begins anew, and says so" {
    run "$DEQ" train --config "$home/tiny.json" --set train.optimizer=adamw --set train.steps=14 \
        --out other --resume "$home/whole/last.bin"
    [ "$status" -eq 0 ]
    said "optimizer"
    run "$DEQ" train --config "$home/tiny.json" --set train.optimizer=muon --set train.steps=14 \
        --out anew --resume "$home/whole/last.bin" --reset optimizer
    [ "$status" -eq 0 ]
    said "begun anew: optimizer"
}

@test "weights go to transformers and back whatever trained them" {
    "$DEQ" export "$home/whole/last.bin" --out w >/dev/null
    "$DEQ" import w --out w.bin >/dev/null
    [ "$(digest w.bin)" = "$(digest "$home/whole/last.bin")" ]
}

@test "cautious decay is refused where decay is a part of the gradient" {
    run "$DEQ" train --config "$home/tiny.json" --set train.cautious_decay=true --out never
    [ "$status" -eq 78 ]
    said "train.cautious_decay: adam's weight decay is a term of its gradient"
    "$DEQ" train -q --config "$home/tiny.json" --set train.cautious_decay=true \
        --set train.optimizer=adamw --set train.weight_decay=0.5 --out cautious
    "$DEQ" train -q --config "$home/tiny.json" --set train.optimizer=adamw \
        --set train.weight_decay=0.5 --out decays
    [ "$(digest cautious/last.bin)" != "$(digest decays/last.bin)" ]
}

@test "plan and bench tell muon's share of a step" {
    flops() { "$DEQ" plan --config "$home/tiny.json" --set "train.optimizer=$1" --json | tail -1 |
        grep -o '"name":"optimizer","product_flops":[0-9.e+]*'; }
    [ "$(flops adamw)" = '"name":"optimizer","product_flops":0' ]
    # 8 squares of 8 (queries, keys, values and injections apart), and two of 16 x 8
    [ "$(flops muon)" = "\"name\":\"optimizer\",\"product_flops\":$((5 * (8 * 6 * 512 + 2 * (4 * 2 + 2) * 512)))" ]
    "$DEQ" bench train --config "$home/tiny.json" --set train.optimizer=muon --steps 2 --threads 1 >out
    grep -E "^optimizer +[0-9.]+ +[0-9.]+% " out
    "$DEQ" bench train --config "$home/tiny.json" --set train.optimizer=muon --steps 2 --threads 1 --json |
        tail -1 | grep -o '"phases":\[{"name":"embedding.*"name":"optimizer","seconds":[0-9.e-]*,"share":0\.'
}
