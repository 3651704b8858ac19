"""What tokens.sh asks of Python: parts of a text, its words, and widths of networks.

    tokens.py split OUT TRAIN [VALID]               OUT/train.txt, valid.txt and test.txt
    tokens.py words OUT SIZE                        OUT/words-SIZE: token files and their tokenizer.json
    tokens.py plan OUT PARAMETERS SECONDS WORDS SIZE...    OUT/plan.json, from tokens.json

A word is a run of letters, digits and apostrophes, a run of one other character, or a white space. One blank in
front belongs to it. The SIZE - 256 most frequent words of the training text are tokens, and other words are
their bytes, so that the tokens of every text say all of its bytes.
"""
import array
import collections
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
WORD = re.compile(r" ?\w+(?:['\u2019]\w+)*| ?([^\w\s])\1*|\s")
SPLITS = (("train.txt", "train.bin"), ("valid.txt", "val.bin"), ("test.txt", "test.bin"))
EVALUATED = 100_000  # bytes of a validation or test text at most, as every training reads them some times
HEADS = 4  # of the configuration that tokens.json names


def read(path):
    try:
        with open(path, newline="", encoding="utf-8") as f:
            return f.read()
    except (OSError, ValueError) as e:
        sys.exit("%s: %s" % (path, e))


def thin(paragraphs):
    """Every n-th of them, so that about EVALUATED bytes are left."""
    return paragraphs[::1 + sum(len(p.encode()) for p in paragraphs) // EVALUATED]


def split(out, train, valid=None):
    """Parts by paragraphs, of which one text gives all."""
    of = [re.findall(r".+?(?:\n\s*\n|\Z)", read(path), re.S) for path in ([train] if valid is None else [train, valid])]
    if valid is None:
        parts = [[p for i, p in enumerate(of[0]) if i % 20 not in (9, 19)], of[0][9::20], of[0][19::20]]
    else:
        parts = [of[0], of[1][::2], of[1][1::2]]
    if not all(parts):
        sys.exit("%s: too few paragraphs, which blank lines end, for a validation and a test text" % (valid or train))
    os.makedirs(out, exist_ok=True)
    for (name, _), part in zip(SPLITS, [parts[0], thin(parts[1]), thin(parts[2])]):
        path = os.path.join(out, name)
        text = "".join(part)
        text += "" if text.endswith("\n") else "\n"  # deq tokenize adds it to words
        if os.path.exists(path) and read(path) != text:
            sys.exit("%s: made from another text; name another folder" % path)
        with open(path, "w", newline="", encoding="utf-8") as f:
            f.write(text)


def byte_letters():
    """The letter that stands for each byte in a tokenizer.json of bytes, by GPT-2's table."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    other = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(other)) for b in range(256)]


def words(out, size):
    letters = byte_letters()
    pieces = {name: [m.group() for m in WORD.finditer(read(os.path.join(out, name)))] for name, _ in SPLITS}
    counts = collections.Counter(w for w in pieces["train.txt"] if len(w.encode()) > 1)
    frequent = sorted((w for w, n in counts.items() if n > 1), key=lambda w: (-counts[w], w))[:max(0, int(size) - 256)]
    ids = {w: 256 + i for i, w in enumerate(frequent)}
    folder = os.path.join(out, "words-" + size)
    os.makedirs(folder, exist_ok=True)
    tokens = {"".join(letters[b] for b in w.encode()): i for w, i in ids.items()}
    tokens.update((letters[b], b) for b in range(256))
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump({"decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "merges": [], "vocab": tokens}}, f)
    for name, to in SPLITS:
        taken = array.array("H")
        spelt = 0
        for word in pieces[name]:
            if word in ids:
                taken.append(ids[word])
            else:
                spelt += len(word.encode()) > 1
                taken.extend(word.encode())
        if sys.byteorder == "big":
            taken.byteswap()
        with open(os.path.join(folder, to), "wb") as f:
            taken.tofile(f)
        print("%s: %d tokens of %d; of %d words %.2f %% are spelt in bytes"
              % (os.path.join(folder, to), len(taken), len(tokens), len(pieces[name]), 100 * spelt / len(pieces[name])))


class Widths:
    """The widths with which a network of the plan has so many parameters."""

    def __init__(self, plan, network):
        self.words = [os.environ["DEQ"], "plan", "--device", "h100", "--json", "--config", plan["config"], "--data",
                      network["data"]]
        for key, value in {**plan["set"], **network["set"]}.items():
            self.words += ["--set", "%s=%s" % (key, value if isinstance(value, str) else json.dumps(value))]

    def keys(self, width, inner):
        return {"model.d_model": width, "model.d_head": width // HEADS, "model.d_embed": width, "model.d_inner": inner}

    def count(self, width, inner):
        more = [w for key, value in self.keys(width, inner).items() for w in ("--set", "%s=%d" % (key, value))]
        done = subprocess.run(self.words + more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        if done.returncode != 0:
            sys.exit("deq plan: %s" % done.stderr.strip()[-600:])
        return json.loads(done.stdout.strip().splitlines()[-1])["parameters"]

    def find(self, wanted):
        """The width whose inner width of four times it comes nearest below, then the inner width itself."""
        step = 2 * HEADS
        low, high = 1, 2
        while self.count(step * high, 4 * step * high) <= wanted:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if self.count(step * middle, 4 * step * middle) <= wanted:
                low = middle
            else:
                high = middle
        width = step * low
        few, many = self.count(width, 4 * width), self.count(width, 4 * width + 8)
        eights = (wanted - few) / (many - few)
        fine = many - few > wanted / 250  # a small network, in which eight more are too many
        inner = 4 * width + max(0, round(8 * eights) if fine else 8 * round(eights))
        return self.keys(width, inner), self.count(width, inner)


def plan(out, parameters, seconds, words_size, *sizes):
    with open(os.path.join(HERE, "tokens.json"), encoding="utf-8") as f:
        made = json.load(f)
    made["seconds"] = float(seconds)
    networks = {}
    for name, network in made["networks"].items():
        for size in {"subwords": sizes, "words": [words_size]}.get(name, [""]):
            data = os.path.join(out, network["data"] + ("-" + size if size else ""))
            networks[(name + " " + size).strip()] = {"data": data, "set": dict(network["set"])}
    for name, network in networks.items():
        keys, count = Widths(made, network).find(int(parameters))
        network["set"].update(keys)
        print("%-16s width %d, inner width %d: %d parameters" % (name, keys["model.d_model"], keys["model.d_inner"], count))
        if abs(count / int(parameters) - 1) > made["parameters_within"] / 2:
            sys.exit("%s: no network of %s parameters has such a vocabulary; ask for more by -p" % (name, parameters))
    made["networks"] = networks
    path = os.path.join(out, "plan.json")
    if os.path.exists(path) and json.loads(read(path)) != made:
        sys.exit("%s: another plan than these options make; name another folder, or go on with it: "
                 "%s/sweep.py %s --out %s/sweep" % (path, HERE, path, out))
    with open(path + ".new", "w", encoding="utf-8") as f:
        json.dump(made, f, indent=1)
    os.replace(path + ".new", path)


if __name__ == "__main__":
    {"split": split, "words": words, "plan": plan}[sys.argv[1]](*sys.argv[2:])
