#!/usr/bin/env bats
# The data folder of a user of nanoGPT, as its prepare.py leaves it for texts of characters.

bats_require_minimum_version 1.5.0

setup_file()
{
    command -v python3 >/dev/null || return 0
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    mkdir chars
    # Raw numbers of 16 bits, nine tenths for training, and a pickle with both directions.
    python3 - <<'PYTHON'
import array
import pickle

lines = [f"KING {'ab'[i % 2]}:\n  Speak, lo{'v' * (i % 3)}e & caf\u00e9 -- {i % 7}!\n\n" for i in range(300)]
text = "".join(lines)
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
itos = {i: c for i, c in enumerate(chars)}
n = int(len(text) * 0.9)
for name, part in (("train", text[:n]), ("val", text[n:])):
    with open(f"{name}.txt", "w", newline="") as f:
        f.write(part)
    with open(f"chars/{name}.bin", "wb") as f:
        array.array("H", [stoi[c] for c in part]).tofile(f)
with open("chars/meta.pkl", "wb") as f:
    pickle.dump({"vocab_size": len(chars), "itos": itos, "stoi": stoi}, f)
PYTHON
    cp -r chars bare
    cat >tiny.json <<'CONFIG'
{ "model": { "d_model": 16, "n_head": 2, "d_inner": 32, "init_std": 0.1 },
  "train": { "steps": 30, "batch": 4, "tgt_len": 16, "mem_len": 8, "pretrain_steps": 2,
             "warmup_steps": 2, "lr": 0.01, "eval_every": 30, "checkpoint_every": 0 },
  "eval": { "batch": 2, "tgt_len": 16, "mem_len": 8, "max_iter": 4 } }
CONFIG
    "$BATS_TEST_DIRNAME/../../scripts/from_nanogpt.py" chars >said
    "$DEQ" train -q --config tiny.json --data chars --out run
}

setup()
{
    command -v python3 >/dev/null || skip "python3 is not installed"
    script=$(realpath "$BATS_TEST_DIRNAME/../../scripts/from_nanogpt.py")
    cd "$home"
}

# A training needs no SentencePiece, and texts that are encoded do.
need()
{
    "$DEQ" sample run --prompt K --tokens 0 >/dev/null || skip "built without SentencePiece (scripts/deps.sh subwords)"
}

@test "nanogpt: the message names the script, and what the script says next works" {
    run "$DEQ" train --config tiny.json --data bare --out never
    [ "$status" -eq 78 ]
    [[ "$output" == *"bare/meta.pkl: "*"scripts/from_nanogpt.py bare makes tokenizer.model"* ]]
    [ "$(cat said)" = "chars/tokenizer.model: $(python3 -c '
import pickle
print(pickle.load(open("chars/meta.pkl", "rb"))["vocab_size"])') characters and <unk>; next:
deq train --data chars" ]
    run "$DEQ" train --data chars --dry-run
    [ "$status" -eq 0 ]
    # A token is a character, by which the size of the text is told.
    [[ "$output" == *"for a training text of 0.010 MB"* ]]
    "$DEQ" plan --config tiny.json --data chars --device h100 --json | grep -q '"parameters":'
    # Numbers alone do as well, where text is not wanted.
    "$DEQ" train -q --config tiny.json --data bare --set model.vocab_size=40 --set train.steps=4 --out run-bare
}

@test "nanogpt: deq takes the text apart into the very numbers of prepare.py" {
    need
    "$DEQ" tokenize --train train.txt --valid val.txt --tokenizer chars/tokenizer.model --out again --force
    # Shards end a text with a line end.
    cmp chars/val.bin <(tail -c +129 again/valid-00000.bin)
    cmp -n "$(wc -c <chars/train.bin)" chars/train.bin <(tail -c +129 again/train-00000.bin)
}

@test "nanogpt: a prompt is text, and so is what follows" {
    need
    prompt=$(printf 'KING a:\n  Speak, caf\303\251')
    run --separate-stderr "$DEQ" sample run --prompt "$prompt" --tokens 0
    [ "$output" = "$prompt" ]
    run --separate-stderr "$DEQ" sample run --prompt "$prompt" --tokens 40 --temperature 0
    [[ "$output" == "$prompt"* ]]
    [ "${#output}" -gt $((${#prompt} + 20)) ]
    # Every character is one of theirs.
    [ -z "$(tail -c +$((1 + $(printf '%s' "$prompt" | wc -c))) <<<"$output" | tr -d 'A-Za-z0-9é:,!&\n -')" ]
    run "$DEQ" sample run --prompt "Qxx K && #" --tokens 1
    [ "$status" -eq 0 ]
    [[ "$output" == *'"Qxx" is not in the vocabulary and becomes <unk> (2 are unknown)'* ]]
}

@test "nanogpt: bits per byte of a text are those of its characters" {
    need
    run --separate-stderr "$DEQ" eval run --text val.txt --json
    [ "$status" -eq 0 ]
    python3 - "$output" "$("$DEQ" eval run --json)" <<'PYTHON'
import json
import math
import sys

r = json.loads(sys.argv[1].splitlines()[-1])
text = open("val.txt", newline="").read()
assert r["unknown"] == 0 and r["tokens"] == len(text), r
want = r["nll"] * len(text) / len(text.encode()) / math.log(2)
assert abs(r["bits_per_byte"] / want - 1) < 1e-6, (r["bits_per_byte"], want)
# val.bin does not say how many bytes it stands for, and its tokens do: all but the first of two streams.
r = json.loads(sys.argv[2])
half = len(text) // 2
scored = sum(len(text[i * half + 1:(i + 1) * half][:r["tokens"] // 2].encode()) for i in range(2))
want = r["nll"] * r["tokens"] / scored / math.log(2)
assert abs(r["bits_per_byte"] / want - 1) < 1e-3, (r["bits_per_byte"], want)
PYTHON
}

@test "nanogpt: a pickle that is another one is refused, and nothing in it runs" {
    refused() { # MESSAGE PYTHON
        rm -rf odd
        mkdir odd
        (cd odd && python3 -c "import os, pickle
$2
pickle.dump(meta, open('meta.pkl', 'wb'))")
        run "$script" odd
        [ "$status" -eq 1 ] || return 1
        [[ "$output" == "odd/meta.pkl: "*"$1"* && "${#lines[@]}" -eq 1 ]] || return 1
        [ ! -e odd/tokenizer.model ] || return 1
        [ ! -e odd/sprung ]
    }
    refused "it names posix.system" "
class Trap:
    def __reduce__(self):
        return os.system, ('touch odd/sprung odd/tokenizer.model',)
meta = {'itos': Trap()}"
    refused "no itos with a character for each number" "meta = {'itos': {0: 'a', 2: 'b'}}"
    refused "no itos" "meta = ['a']"
    refused "token 1 is 'ab', which is no character" "meta = {'itos': {0: 'a', 1: 'ab'}}"
    refused "stands for a blank" "meta = {'itos': {0: '\u2581'}}"
    echo x >odd/meta.pkl
    run "$script" odd
    [[ "$status" -eq 1 && "$output" == "odd/meta.pkl: not the meta.pkl of nanoGPT: "* ]]
    rm odd/meta.pkl
    run "$script" odd
    [[ "$status" -eq 1 && "$output" == "odd/meta.pkl: No such file"* ]]
    run "$script"
    [[ "$status" -eq 1 && "$output" == *"from_nanogpt.py DIR"* ]]
}
