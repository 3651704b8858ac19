"""Compares tokenizers and generated texts of exported models with deq, and takes folders that
transformers has saved back into checkpoints.

    text.py FOLDER DEQ ENCODE     FOLDER as models.sh makes it, ENCODE is tests/tools/encode
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
folder, deq, encode = sys.argv[1:4]
os.chdir(folder)
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)


def run(*command):
    return subprocess.run(command, check=True, capture_output=True).stdout


def random_text(rng, words):
    """Words and what could be mistaken for a piece, with all kinds of white space."""
    parts = words + [" ", " ", " ", "  ", "\n", "\r\n", "\t", "\v", "\f", "\r", "@", "@@", "<sp>", "'",
                     "\u2019", "\"", "(", "...", "!" * 20, " " * 20, "-", "\u00e9", "e\u0301", "\u65e5",
                     "_", "<eos>", "#", "\u2028", "\u00a0", "\u0085", "\x1c", "x", "\u201c", "W1"]
    return "".join(rng.choice(parts) for _ in range(rng.randrange(14)))


def pieces_vocabulary(texts, tokenizer):
    """Adds what the texts hold to the words, so that hardly anything is unknown."""
    words = list(dict.fromkeys(w for t in texts for w in tokenizer.tokenize(t)))
    return [w for w in words if w not in tokenizer.ids and w != ""]


def compare_tokenizer(name, seed):
    rng = random.Random(seed)
    here = name + "-hf"
    tokenizer = AutoTokenizer.from_pretrained(here, trust_remote_code=True)
    texts = [random_text(rng, ["w1", "w2", "w17"]) for _ in range(150)]
    more = here + "-more"
    tokenizer.save_pretrained(more)
    if tokenizer.split != "bytes":
        with open(os.path.join(more, "vocab.txt"), "ab") as f:
            f.write("".join(w + "\n" for w in pieces_vocabulary(texts[:100], tokenizer)).encode())
    again = AutoTokenizer.from_pretrained(more, trust_remote_code=True)
    vocab = os.path.join(more, "vocab.txt")
    for i, text in enumerate(texts):
        with open("sample.txt", "wb") as f:
            f.write(text.encode())
        again.closed = i % 2 == 1
        try:
            out = run(encode, vocab, "closed" if again.closed else "open", "sample.txt")
        except subprocess.CalledProcessError as e:
            try:
                again(text)
                check(False, f"{name}: {text!r}: refused by deq alone: {e.stderr.decode().strip()}")
            except ValueError:
                pass
            continue
        line, back = out.split(b"\n", 1)
        want = [int(x) for x in line.split()]
        got = again(text)["input_ids"]
        check(got == want, f"{name}: {text!r}: {got} in place of {want}")
        check(again.decode(want) == back.decode(), f"{name}: {want}: {again.decode(want)!r}")
        check(again.decode(torch.tensor(want), skip_special_tokens=True) == back.decode(),
              f"{name}: {want} from a tensor")


def greedy(model, tokenizer, prompt, count):
    inputs = tokenizer(prompt, return_tensors="pt")
    model.config.eval_tol = 1e-6
    out = model.generate(**inputs, max_new_tokens=count, do_sample=False)
    return tokenizer.decode(out[0])


def compare_generation(name, prompt, apart=False):
    """Texts of `apart` models depend on where segments begin, so that padding matters."""
    here = name + "-hf"
    model = AutoModelForCausalLM.from_pretrained(here, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(here, trust_remote_code=True)
    want = json.loads(run(deq, "sample", "--checkpoint", name + ".bin", "--prompt", prompt, "--raw",
                          "--temperature", "0", "--tol", "1e-6", "--tokens", "40", "--json"
                          ).splitlines()[-1])["text"]
    got = greedy(model, tokenizer, prompt, 40)
    check(got == want, f"{name}: {got!r} in place of {want!r}")
    lengths = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True)
    greedy(model, tokenizer, prompt, 4)
    hook.remove()
    check(lengths[1:] == [1, 1, 1], f"{name}: a token costs more than its position: {lengths}")
    if apart:
        return
    # A batch with padding at the left gives each text as it is alone.
    pads = tokenizer.pad_token_id
    a, b = tokenizer(prompt)["input_ids"], tokenizer(prompt + " " + prompt)["input_ids"]
    gap = len(b) - len(a)
    ids = torch.tensor([[pads] * gap + a, b])
    mask = torch.tensor([[0] * gap + [1] * len(a), [1] * len(b)])
    out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=10, do_sample=False)
    for row, text, skip in ((0, prompt, gap), (1, prompt + " " + prompt, 0)):
        want = greedy(model, tokenizer, text, 10)
        got = tokenizer.decode(out[row, skip:])
        check(got == want, f"{name} in a batch: {got!r} in place of {want!r}")
    ids = torch.tensor([a + [pads] * gap, b])
    mask = torch.tensor([[1] * len(a) + [0] * gap, [1] * len(b)])
    with torch.no_grad():
        beside = model(ids, attention_mask=mask).logits[0, :len(a)]
        alone = model(torch.tensor([a])).logits[0]
    check(torch.allclose(beside, alone, atol=1e-4), f"{name}: padding at the right matters")
    ids = torch.tensor([[pads] * gap + a, b])
    mask = torch.tensor([[0] * gap + [1] * len(a), [1] * len(b)])
    beams = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, num_beams=3,
                           do_sample=False)
    check(beams.shape[0] == 2, f"{name}: beams of shape {tuple(beams.shape)}")


def compare_round_trip(name):
    """What transformers saves goes back, bit for bit."""
    model = AutoModelForCausalLM.from_pretrained(name + "-hf", trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(name + "-hf", trust_remote_code=True)
    saved = name + "-saved"
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    run(deq, "import", saved, "--out", name + ".again.bin", "--force")
    digests = [json.loads(run(deq, "info", f, "--json").splitlines()[-1])["weights_digest"]
               for f in (name + ".bin", name + ".again.bin")]
    check(digests[0] == digests[1], f"{name}: weights changed on the way: {digests}")
    run(deq, "export", name + ".again.bin", "--format", "hf", "--out", name + "-again", "--force")
    configs = [json.load(open(os.path.join(name + end, "config.json")))["deq"]
               for end in ("-hf", "-again")]
    check(configs[0] == configs[1], f"{name}: the configuration changed on the way")
    again = AutoModelForCausalLM.from_pretrained(saved, trust_remote_code=True)
    for (key, p), (_, q) in zip(model.named_parameters(), again.named_parameters()):
        check(torch.equal(p, q), f"{name}: {key} changed")


def train_on(name):
    """The loss of a text falls under an optimizer of PyTorch, and the result is a checkpoint."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(name + "-hf", trust_remote_code=True).train()
    ids = torch.tensor([[int(x) for x in open("ids").read().split()][:36]])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(8):
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    check(losses[-1] < losses[0], f"{name}: losses {losses}")
    model.save_pretrained(name + "-trained")
    AutoTokenizer.from_pretrained(name + "-hf", trust_remote_code=True).save_pretrained(
        name + "-trained")
    run(deq, "import", name + "-trained", "--out", name + ".trained.bin", "--force")
    run(deq, "sample", "--checkpoint", name + ".trained.bin", "--prompt", "w1", "--tokens", "3")


def start_anew():
    """A model from a configuration alone has weights of the sizes that training begins with."""
    from transformers import AutoConfig
    config = AutoConfig.from_pretrained("plain-hf", trust_remote_code=True)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    std = model.get_parameter("word_emb.emb_layers.0.weight").std().item()
    check(0.15 < std < 0.25, f"a new table has a deviation of {std}")
    pair = model.get_submodule("func.dec_attn.qkv_net.parametrizations.weight")
    check(torch.allclose(pair.original0.flatten(), pair.original1.flatten(1).norm(dim=1)),
          "lengths of new rows are not their norms")


for seed, name in enumerate(("plain", "marks", "bytes")):
    compare_tokenizer(name, seed)
for name in ("plain", "marks", "bytes", "trellis", "stack", "layers", "guess", "wide", "published",
             "modern", "moderngroups", "modernaround", "modernlayers"):
    compare_generation(name, "w1 w2")
for name in ("tied", "oldtrellis", "tiedtrellis"):
    compare_generation(name, "w1 w2", apart=True)
for name in ("plain", "published", "trellis", "wide", "bytes", "modernaround"):
    compare_round_trip(name)
for name in ("plain", "wide"):
    train_on(name)
start_anew()
print(f"transformers {transformers.__version__}: texts " + ("differ" if failures else "agree"))
for line in failures[:40]:
    print("FAIL " + line)
sys.exit(bool(failures))
