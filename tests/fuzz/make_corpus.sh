#!/bin/sh
# Makes the seeds of the corpora in tests/fuzz/corpus from nothing, by the program itself. They are
# kept in the repository; this is for a new format, or a new kind of section. Files found by fuzzing
# ("found-...") stay, and so do the dumps, which shrink_dumps.py makes.
#
#   tests/fuzz/make_corpus.sh        with DEQ (build/deq) and the tools of the same build
set -eu
export LC_ALL=C OMP_NUM_THREADS=1
root=$(cd "$(dirname "$0")/../.." && pwd)
deq=${DEQ:-$root/build/deq}
tools=$(dirname "$deq")/tests/tools
corpus=$root/tests/fuzz/corpus
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

seed()
{
    mkdir -p "$corpus/$1"
    cp "$2" "$corpus/$1/$3"
}

# texts, vocabularies, shards
printf 'the king said\nthe son\n\nking of the city\nthe the king\nsaid the son of the king\n' >text
printf 'of the \303\251t\303\251 king said Nebuchadnezzar\n' >>text
"$deq" tokenize --train text --valid text --out words >log
"$deq" tokenize --train text --out parts --shard-tokens 10 >log
"$deq" tokenize --train text --out bytes --bytes >log
awk 'BEGIN { for (i = 0; i < 70000; i++) print "w" i }' >many
"$deq" tokenize --train many --valid text --out wide --unk map --max-vocab 66000 >log
seed vocab words/vocab.txt words
seed vocab bytes/vocab.txt bytes
printf '<eos>\r\n<unk>\r\n' >crlf
seed vocab crlf crlf
printf 'a' >one
seed vocab one one
printf '# split: subwords, 0123456789abcdef, prefix, trim\n<unk>\tunknown\n<s>\tcontrol\n' >subwords
printf '</s>\tcontrol\n0A\thex\n<0x41>\n\342\226\201the\nking\n' >>subwords
seed vocab subwords subwords
printf '{"added_tokens":[{"id":4,"content":"<|end|>","special":true},{"id":5,"content":"  "}],' >bytes.json
printf '"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","merges":[],"vocab":{"the":0,' >>bytes.json
printf '"\\u0120king":1,"\\u010a":2,"\\u00c3":3,"\\u0120\\u0120":7}}}' >>bytes.json
seed tokenizer bytes.json bytes
{
    printf '{"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\\u2581"},'
    printf '"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ",'
    printf '"start":1,"stop":0}]},"model":{"type":"BPE","unk_token":"<unk>","byte_fallback":true,'
    printf '"vocab":{"<unk>":0,"<0x0A>":1,"\\u2581the":2,"s":3}}}'
} >pieces.json
seed tokenizer pieces.json pieces
printf '{"decoder":{"type":"Metaspace","replacement":"\\u2581"},"model":{"type":"Unigram",' >scores.json
printf '"unk_id":0,"vocab":[["<unk>",0],["\\u2581the",-1.5],["\\n",-2]]}}' >>scores.json
seed tokenizer scores.json scores
for type in unigram bpe; do
    "$deq" tokenize --train text --subwords 283 --model-type $type --out $type >log || continue
    seed subword $type/tokenizer.model $type
done
seed shard words/train-00000.bin words
seed shard parts/train-00000.bin first-of-many
seed shard bytes/train-00000.bin bytes
seed shard wide/valid-00000.bin wide

# configurations
echo '{}' >empty.json
"$deq" info --config empty.json >defaults.json
seed config empty.json empty
seed config defaults.json defaults
seed config "$root/configs/kjv.json" kjv
"$deq" info --config empty.json --set model.cutoffs=20,40 --set model.div_val=2 \
    --set solver.forward.method=broyden --set gradient.method=phantom >other.json
seed config other.json other
n=0
for set in model.cutoffs=20,40 model.tie_projs=true,false train.lr=5e-4 data.dir=here \
    solver.forward.scope=sequence model.wnorm=false; do
    n=$((n + 1))
    printf '%s' "$set" >one-set
    seed config one-set "set-$n"
done
"$deq" help config | sed -n 's/^\([a-z_.0-9]*\) = .*/\1/p' | tr . '\n' | sort -u |
    sed 's/.*/"\\"&\\""/' >"$root/tests/fuzz/config.dict"

# a run: checkpoints and the log
cat >tiny.json <<END
{ "data": { "dir": "words" },
  "model": { "d_model": 2, "n_head": 1, "d_inner": 2, "init_std": 0.1 },
  "train": { "steps": 3, "batch": 2, "tgt_len": 4, "mem_len": 2, "pretrain_steps": 1,
             "eval_every": 3, "checkpoint_every": 3, "keep_last": 0 },
  "eval": { "batch": 1, "tgt_len": 4, "mem_len": 2, "max_iter": 3 } }
END
"$deq" train -q --config tiny.json --out run --set train.compress=false
seed checkpoint run/last.bin run
"$deq" train -q --config tiny.json --out small-run
seed checkpoint small-run/last.bin run-compressed
seed log run/log.jsonl run
head -c 1500 run/log.jsonl >torn
seed log torn torn
{ head -n 1 run/log.jsonl; printf '\0\0\0\0{}\n[1]\n{"step":1e3}\n{"step":2.5}\n{"note":1}'; } >odd
seed log odd odd
"$tools/info_files" .
seed checkpoint small.bin small

# safetensors, names of weights, prompts, texts
seed safetensors small.safetensors small
n=0
for name in func.pos_ff.ff1_net.weight_v w:start.bias \
    _orig_mod.module.word_emb.emb_layers.0.weight \
    _fsdp_wrapped_module.func._checkpoint_wrapped_module.dec_attn.qkv_net.weight_g \
    state_dict.model._forward_module.crit.cluster_bias func.o.parametrizations.weight.original1; do
    n=$((n + 1))
    printf '%s' "$name" >name
    seed names name "$n"
done
n=0
for text in 'the king of the @-@' '' ' ' 'the  kign' "Nebuchadnezzar's  \303\251t\303\251"; do
    n=$((n + 1))
    # Escapes are meant.
    # shellcheck disable=SC2059
    printf "$text" >prompt
    seed prompt prompt "$n"
done
n=0
for text in '"Hello," he said: well-known' " a  b\t\tc \r\n\r\n" "don't 'tis dogs' \342\200\231\342\200\231s" \
    '@ @@a x@y <sp> <unk>' '---------------------- (a) [b]!' "\357\273\277e\314\201,\302\240\342\200\224x"; do
    n=$((n + 1))
    # shellcheck disable=SC2059
    printf -- "$text" >one
    seed text one "$n"
done
find "$corpus" -type f -exec ls -l {} + | awk '{ n++; bytes += $5 } END { print n " files, " bytes " bytes" }'
