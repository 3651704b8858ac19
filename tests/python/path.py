"""The path through everything: a text becomes subwords, a trained model, a folder for transformers, a text that
generate writes, a checkpoint again, and the same text by `deq sample`.

    path.py FOLDER DEQ     files are made in FOLDER
"""
import json
import os
import random
import subprocess
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)
folder, deq = sys.argv[1:3]
os.makedirs(folder, exist_ok=True)
os.chdir(folder)
TOKENS = 60
PROMPTS = ["The king", "\u201cWell,\u201d said the ", "caf\u00e9\n\n  And", "x", "\u65e5\u672c\n\nThe queen "]


def run(*command):
    done = subprocess.run([deq, *command], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"deq {' '.join(command)}: {done.stderr}")
    return done.stdout


def ask(*command):
    return json.loads(run(*command, "--json").splitlines()[-1])


def made_text(rng, lines):
    """Sentences with all that a tokenizer can stumble over, in which a word tells the next ones."""
    who = ["king", "queen", "old man", "traveller", "caf\u00e9", "shepherd", "messenger", "captain", "widow",
           "stranger", "merchant", "daughter of the house", "gardener", "bishop"]
    does = ["walked to", "spoke of", "looked for", "remembered", "wrote about", "laughed with", "followed", "never believed",
            "asked after", "dreamt of", "quarrelled with", "was afraid of"]
    return "".join(f"The {a} {rng.choice(does)} the {rng.choice(who)}; "
                   f"\u201cWell,\u201d said the {a},  \u201cit is {rng.randrange(3)} o'clock.\u201d\n"
                   + ("\n  And so it was.\n" if i % 5 == 0 else "")
                   for i, a in ((i, rng.choice(who)) for i in range(lines)))


def train():
    rng = random.Random(2)
    for split, lines in (("train", 700), ("valid", 60)):
        with open(split, "w", newline="", encoding="utf-8") as f:
            f.write(made_text(rng, lines))
    made = ask("tokenize", "--train", "train", "--valid", "valid", "--subwords", "350", "--out", "data", "--force")
    assert made["split"] == "subwords" and made["lossless"] is True, made
    with open("path.json", "w", encoding="utf-8") as f:
        json.dump({"model": {"d_model": 32, "n_head": 2, "d_inner": 64, "init_std": 0.1},
                   "train": {"steps": 400, "batch": 8, "tgt_len": 24, "mem_len": 24, "lr": 0.01, "warmup_steps": 20,
                             "pretrain_steps": 20, "eval_every": 100, "checkpoint_every": 0},
                   # So many evaluations as config.json allows, since nothing but solved positions can agree.
                   "eval": {"tgt_len": 24, "mem_len": 24, "max_iter": 100}}, f)
    run("train", "-q", "--config", "path.json", "--data", "data", "--threads", "1", "--out", "run")


def generate(where, prompt):
    """What transformers writes, and the folder that it saves."""
    model = AutoModelForCausalLM.from_pretrained(where, trust_remote_code=True).eval()
    model.config.eval_tol = 1e-6
    tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=True)
    out = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=TOKENS, do_sample=False)
    return tokenizer.decode(out[0])


def save(where, to):
    AutoModelForCausalLM.from_pretrained(where, trust_remote_code=True).save_pretrained(to)
    AutoTokenizer.from_pretrained(where, trust_remote_code=True).save_pretrained(to)


def sample(checkpoint, prompt):
    return ask("sample", checkpoint, "--prompt", prompt, "--temperature", "0", "--tol", "1e-6", "--tokens",
               str(TOKENS))["text"]


train()
trained = ask("eval", "run/best.bin", "--text", "valid")
# So few bits that the greedy text is sentences, and no guess decides.
assert trained["unknown"] == 0 and trained["bits_per_byte"] < 0.5, trained
run("export", "run/best.bin", "--format", "hf", "--out", "hf", "--force")
save("hf", "saved")
checkpoints = {"hf": "back.bin", "saved": "saved.bin"}
for where, to in checkpoints.items():
    run("import", where, "--out", to, "--force")
    again = ask("eval", to, "--text", "valid")
    assert again["nll"] == trained["nll"], f"{where}: {again['nll']} in place of {trained['nll']}"
texts = set()
for text_prompt in PROMPTS:
    want = sample("run/best.bin", text_prompt)
    assert want.startswith(text_prompt.rstrip(" ")), f"{text_prompt!r}: {want!r}"
    got = {where: generate(where, text_prompt) for where in checkpoints}
    got.update({to: sample(to, text_prompt) for to in checkpoints.values()})
    for by, said in got.items():
        assert said == want, f"{by}: {said!r} in place of {want!r}"
    texts.add(want[len(text_prompt):])
assert len(texts) > 2, texts
print(f"transformers {transformers.__version__}: from a text to subwords, a model of {trained['bits_per_byte']:.2f} bits "
      f"per byte, transformers and back: {len(PROMPTS)} greedy texts of {TOKENS} tokens agree")
