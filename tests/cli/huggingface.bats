#!/usr/bin/env bats
# deq export --format hf and deq import of a folder.

setup_file() {
    export OMP_NUM_THREADS=1
    DEQ=$(realpath "${DEQ:-build/deq}")
    ROOT=$(realpath "$BATS_TEST_DIRNAME/../..")
    export DEQ ROOT
    cd "$BATS_FILE_TMPDIR"
    awk 'BEGIN { srand(7); for (i = 0; i < 300; i++) { line = ""
        for (j = 0; j < 9; j++) line = line " w" int(rand() * rand() * 20); print line "." } }' >text
    "$DEQ" tokenize --train text --valid text --out words --split blanks
    "$DEQ" tokenize --train text --valid text --out marks --split punctuation --lower --unk map
    "$DEQ" tokenize --train text --valid text --out bytes --bytes
    common="--set train.steps=4 --set train.batch=4 --set train.tgt_len=12 --set train.mem_len=8
        --set train.warmup_steps=2 --set train.pretrain_steps=2 --set train.checkpoint_every=0
        --set eval.tgt_len=12 --set eval.mem_len=8"
    echo '{"model": {"d_model": 16, "n_head": 2, "d_inner": 32, "init_std": 0.1, "start": "linear",
        "cutoffs": [5, 12], "div_val": 2}}' >words.json
    echo '{"model": {"cell": "trellis", "nhid": 12, "nout": 8, "d_embed": 8, "init_std": 0.1}}' \
        >marks.json
    echo '{"model": {"d_model": 16, "n_head": 2, "d_inner": 32, "init_std": 0.1, "blocks": 2,
        "compat": true, "cutoffs": [40, 90], "div_val": 2}}' >bytes.json
    for name in words marks bytes; do
        "$DEQ" train -q --config $name.json --set data.dir=$name $common --out run-$name
        "$DEQ" export run-$name/last.bin --format hf --out $name-hf
    done
}

setup() {
    cd "$BATS_FILE_TMPDIR"
}

figure() { # CHECKPOINT NAME
    "$DEQ" info "$1" --json | tail -1 | grep -o "\"$2\":[^,]*"
}

ppl() {
    "$DEQ" eval "$1" --json 2>/dev/null | tail -1 | grep -o '"ppl":[^,]*'
}

@test "a folder that was exported comes back bit for bit, with its words and its configuration" {
    for name in words marks bytes; do
        run "$DEQ" import $name-hf --out $name.bin --force
        [ "$status" -eq 0 ]
        [[ "$output" == "$name.bin: "*" tensors, "*" numbers" ]]
        [ "$(figure $name.bin weights_digest)" = "$(figure run-$name/last.bin weights_digest)" ]
        [ "$(ppl $name.bin)" = "$(ppl run-$name/last.bin)" ]
        "$DEQ" export $name.bin --format hf --out $name-again --force
        for file in $name-hf/*; do
            [ "$file" = $name-hf/README.md ] || [ "$file" = $name-hf/model.safetensors ] ||
                cmp "$file" "$name-again/${file##*/}"
        done
        "$DEQ" info run-$name/last.bin --vocab | cmp - <("$DEQ" info $name.bin --vocab)
    done
}

@test "the folder is whole: the sources' own Python files, and every name that config.json maps to" {
    for file in "$ROOT"/scripts/huggingface/*_deq.py; do
        cmp "$file" "words-hf/${file##*/}"
    done
    [ "$(ls words-hf | tr '\n' ' ')" = "README.md config.json configuration_deq.py \
generation_config.json model.safetensors modeling_deq.py solvers_deq.py subwords_deq.py tokenization_deq.py \
tokenizer_config.json vocab.txt " ]
    grep -q '"AutoConfig": "configuration_deq.DEQConfig"' words-hf/config.json
    grep -q '^class DEQConfig' words-hf/configuration_deq.py
    grep -q '"AutoModelForCausalLM": "modeling_deq.DEQForCausalLM"' words-hf/config.json
    grep -q '^class DEQForCausalLM' words-hf/modeling_deq.py
    grep -q 'tokenization_deq.DEQTokenizer' words-hf/tokenizer_config.json
    grep -q '^class DEQTokenizer' words-hf/tokenization_deq.py
    cmp marks/vocab.txt marks-hf/vocab.txt
}

@test "names of weights are those of PyTorch's modules, and shared ones are there once" {
    "$DEQ" info words-hf/model.safetensors --tensors >list
    grep -q ' func.dec_attn.qkv_net.parametrizations.weight.original1$' list
    if grep -q 'weight_[gv]$' list; then false; fi
    "$DEQ" export run-bytes/last.bin --out bytes.safetensors --force
    "$DEQ" info bytes.safetensors --tensors | grep -q 'crit.out_projs.1.weight'
    ! "$DEQ" info bytes-hf/model.safetensors --tensors | grep -q 'crit.out_projs.1.weight'
}

@test "the model card has the figures of the checkpoint" {
    grep -q '^| cell | transformer |$' words-hf/README.md
    grep -q "^| training | 4 updates, 192 tokens, " words-hf/README.md
    grep -q '^| best validation loss | .* perplexity .* at update 4 |$' words-hf/README.md
    grep -q '^| vocabulary | 2[0-9] words, divided at blanks and punctuation, in lower case |$' \
        marks-hf/README.md
    grep -q '^| vocabulary | 256 bytes |$' bytes-hf/README.md
    "$DEQ" import words-hf --out untrained.bin --force
    "$DEQ" export untrained.bin --format hf --out untrained-hf --force
    ! grep -q '| training' untrained-hf/README.md
}

@test "a folder that is not empty is not touched without --force" {
    mkdir -p full
    echo mine >full/notes
    run "$DEQ" export run-words/last.bin --format hf --out full
    [ "$status" -eq 73 ]
    [[ "$output" == "deq export: full: not empty; choose another folder, or --force to replace "* ]]
    [ "$(ls full)" = notes ]
    "$DEQ" export run-words/last.bin --format hf --out full --force
    [ "$(cat full/notes)" = mine ]
    "$DEQ" export run-words/last.bin --format hf --out deep/er/folder
    [ -e deep/er/folder/config.json ]
    run "$DEQ" export run-words/last.bin --format hf --out full/notes
    [ "$status" -eq 73 ]
    run "$DEQ" export run-words/last.bin --format onnx --out other
    [ "$status" -eq 64 ]
}

@test "folders without what an import needs: one line with what to do, no checkpoint" {
    refused() { # STATUS TEXT FOLDER
        run "$DEQ" import "$3" --out none.bin
        [ "$status" -eq "$1" ]
        [[ "$output" == "deq import: "*"$2"* ]]
        [ "${#lines[@]}" -eq 1 ]
        [ ! -e none.bin ]
    }
    copy() {
        rm -rf other
        cp -r words-hf other
    }
    copy
    mv other/model.safetensors other/model-00001-of-00002.safetensors
    touch other/model.safetensors.index.json
    refused 66 'in several files; save them in one, as model.save_pretrained(DIR, max_shard_size=' other
    rm other/model.safetensors.index.json
    touch other/pytorch_model.bin
    refused 66 'safe_serialization=True' other
    rm other/pytorch_model.bin
    refused 66 'no model.safetensors in this folder' other
    copy
    rm other/config.json
    refused 66 'other/config.json' other
    copy
    sed 's/"deq": {/"deep": {/' words-hf/config.json >other/config.json
    refused 65 'no object "deq"' other
    sed 's/"d_inner": 32/"d_inner": 33/' words-hf/config.json >other/config.json
    refused 65 'has the shape' other
    sed 's/"n_head": 2/"n_head": 3/' words-hf/config.json >other/config.json
    refused 65 'config.json' other
    copy
    rm other/vocab.txt
    refused 66 'other/vocab.txt: cannot open' other
    head -5 words-hf/vocab.txt >other/vocab.txt
    refused 65 'other/vocab.txt: 5 words' other
    run "$DEQ" import other --data words --out named.bin --force
    [ "$status" -eq 0 ]
}

@test "in PyTorch, losses and gradients are those of deq" {
    [ -x "$ROOT/scripts/test-python.sh" ]
    TOOLS=${TOOLS:-$(dirname "$DEQ")/tests/tools}
    export TOOLS
    [ -x "$TOOLS/segments" ] || skip "no $TOOLS/segments"
    run "$ROOT/scripts/test-python.sh" -n plain trellis
    [ "$status" -ne 77 ] || skip "${lines[-1]}"
    [ "$status" -eq 0 ]
    [[ "$output" == "transformers 5."*"2 models; largest difference of log-probabilities "* ]]
}

@test "lm-evaluation-harness, and checkpoints of PyTorch" {
    [ -x "$ROOT/scripts/test-python.sh" ]
    TOOLS=${TOOLS:-$(dirname "$DEQ")/tests/tools}
    export TOOLS
    [ -x "$TOOLS/segments" ] || skip "no $TOOLS/segments"
    run "$ROOT/scripts/test-python.sh" -n -l
    [ "$status" -ne 77 ] || skip "${lines[-1]}"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"checkpoints of other programs: "*" weights of 5 models, bit for bit"* ]]
    [[ "$output" == *"by deq and by the exported folder; largest difference of log-probabilities "* ]]
}
