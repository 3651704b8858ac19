"""Compares the tokenizers of exported models of subwords and of ids with deq, and deq's reading of a
tokenizer.json with the tokenizers library.

    tokens.py FOLDER DEQ ENCODE     FOLDER to work in, ENCODE is tests/tools/encode

No PyTorch is needed.
"""
import io
import os
import random
import subprocess
import sys

import sentencepiece
import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

folder, deq, encode = sys.argv[1:4]
os.makedirs(folder, exist_ok=True)
os.chdir(folder)
failures = []
rng = random.Random(5)
# Words with blanks of all kinds between them, line ends, and characters outside ASCII.
WORDS = ["the", "king", "went", "to", "Babylon,", "and", "said:", "\u201cnaïve\u201d", "caf\u00e9",
         "e\u0301t\u00e9", "\u65e5\u672c\u8a9e", "...", "....", "!!!", "x_1", "<s>", "<unk>", "</s>", "<0x41>",
         "\u2581", "a\u2581b", "\U0001f600", "\u00a0", "\u2028", "\x01", "don't", "12345", "1,000"]
GAPS = [" ", " ", " ", " ", "  ", "   ", "\n", "\n", "\n\n", "\t", "\r\n", "\n  ", ""]


def check(ok, what):
    if not ok:
        failures.append(what)


def run(*command):
    done = subprocess.run(command, check=False, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stderr.decode()}")
    return done.stdout


def random_text(words):
    return "".join(rng.choice(WORDS) + rng.choice(GAPS) for _ in range(words))


def by_deq(vocab, text, end="open"):
    """The ids of a text, and the text that they become again, by deq."""
    with open("sample.txt", "wb") as f:
        f.write(text.encode())
    line, back = run(encode, vocab, end, "sample.txt").split(b"\n", 1)
    return [int(x) for x in line.split()], back


def export(name, data, *more):
    run(deq, "train", "-q", "--data", data, "--preset", "small", "--threads", "1", "--out", "run-" + name,
        "--set", "train.steps=1", "--set", "train.pretrain_steps=0", "--set", "train.warmup_steps=0",
        "--set", "model.d_model=8", "--set", "model.n_head=2", "--set", "model.d_inner=8", *more)
    run(deq, "export", f"run-{name}/last.bin", "--format", "hf", "--out", name + "-hf", "--force")
    return AutoTokenizer.from_pretrained(name + "-hf", trust_remote_code=True)


def same_tokens(name, tokenizer, texts, exact):
    vocab = os.path.join(name + "-hf", "vocab.txt")
    for i, text in enumerate(texts):
        tokenizer.closed = i % 2 == 1
        want, back = by_deq(vocab, text, "closed" if tokenizer.closed else "open")
        got = tokenizer(text)["input_ids"]
        check(got == want, f"{name}: {text!r}: {got} in place of {want}")
        check(tokenizer.decode(want) == back.decode(errors="replace"),
              f"{name}: {want}: {tokenizer.decode(want)!r} in place of {back!r}")
        if exact and (tokenizer.closed or not text.endswith(" ")) and text != "":
            check(back.decode() == text.removeprefix("\ufeff"), f"{name}: {text!r} comes back as {back!r}")


def subwords(text):
    with open("text", "w", newline="") as f:
        f.write(text)
    texts = [random_text(n) for n in range(40)] + ["", " ", "  ", "\n", "a ", "\ufeffking", "\u2581"]
    for kind in ("unigram", "bpe"):
        run(deq, "tokenize", "--train", "text", "--valid", "text", "--subwords", "320", "--model-type", kind,
            "--out", kind, "--force")
        tokenizer = export(kind, kind)
        same_tokens(kind, tokenizer, texts, True)
        tokenizer.save_pretrained(kind + "-saved")
        again = AutoTokenizer.from_pretrained(kind + "-saved", trust_remote_code=True)
        check(again("the king\n went")["input_ids"] == tokenizer("the king\n went")["input_ids"],
              f"{kind}: saved and loaded, it is another one")
    # Models as spm_train makes them by default, which normalise and put a blank in front of a line; and
    # one that only does the latter.
    for name, rule in (("nfkc", {}), ("prefix", {"normalization_rule_name": "identity",
                                                 "remove_extra_whitespaces": False})):
        out = io.BytesIO()
        lines = [line for line in text.split("\n") if line]
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out,
                                                 vocab_size=330, byte_fallback=True,
                                                 hard_vocab_limit=False, minloglevel=2, **rule)
        with open(name + ".model", "wb") as f:
            f.write(out.getvalue())
        run(deq, "tokenize", "--train", "text", "--valid", "text", "--tokenizer", name + ".model", "--out",
            name, "--force")
        same_tokens(name, export(name, name), texts, name == "prefix")


def token_files(name, ids):
    os.makedirs(name, exist_ok=True)
    for split in ("train", "val"):
        with open(os.path.join(name, split + ".bin"), "wb") as f:
            f.write(b"".join(i.to_bytes(2, "little") for i in ids))


def numbers(text):
    """Ids of another program: a text is given as numbers, and with a tokenizer.json comes back as text."""
    token_files("ids", [i % 300 for i in range(5000)])
    tokenizer = export("ids", "ids", "--set", "model.vocab_size=300", "--set", "data.end_of_text=299")
    same_tokens("ids", tokenizer, ["3 4 299 5", " 7\n8 ", ""], False)
    for name, library in foreign(text).items():
        library.save(name + ".json")
        size = library.get_vocab_size()
        texts = [random_text(n) for n in range(1, 40)]
        for line in texts + ["the"]:
            ids = library.encode(line, add_special_tokens=False).ids
            if not ids:
                continue
            want, back = by_deq(name + ".json", " ".join(map(str, ids)))
            check(want == ids, f"{name}: {ids} is read as {want}")
            # Special tokens are no text, and what is unknown is shown as SentencePiece shows it.
            start = library.token_to_id("<s>") if name == "unigram" else None
            said = library.decode([i for i in ids if i != start], skip_special_tokens=False)
            if name != "bytelevel":
                said = said.replace("<unk>", " \u2047 ")
            check(back.decode(errors="replace") == said, f"{name}: {ids}: {back!r} in place of {said!r}")
        token_files(name, [rng.randrange(size) for _ in range(5000)])
        os.replace(name + ".json", os.path.join(name, "tokenizer.json"))
        tokenizer = export(name, name)
        some = [" ".join(str(rng.randrange(size)) for _ in range(9)) for _ in range(20)]
        same_tokens(name, tokenizer, some, False)


def foreign(text):
    """Tokenizers of the kinds that deq understands, trained here."""
    made = {}
    special = ["<|endoftext|>"]
    made["bytelevel"] = t = tokenizers.Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(text.split("\n"), trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    t.add_tokens(["  ", "\n\n"])
    fallback = [f"<0x{b:02X}>" for b in range(256)]
    made["llama"] = t = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    t.train_from_iterator(text.split("\n"), trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>"], initial_alphabet=[], show_progress=False,
        limit_alphabet=60))
    pieces = {piece: i for i, piece in enumerate(
        dict.fromkeys(["<unk>"] + fallback + sorted(t.get_vocab(), key=t.get_vocab().get)))}
    t.model = models.BPE(vocab=pieces, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    made["unigram"] = t = tokenizers.Tokenizer(models.Unigram())
    t.normalizer = normalizers.Replace("\r", "")
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(text.split("\n"), trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False))
    return made


corpus = "".join(random_text(300) for _ in range(20))
subwords(corpus.replace("\u2581", ""))
numbers(corpus.replace("<unk>", "").replace("<s>", ""))
print(f"transformers {transformers.__version__}: tokens " + ("differ" if failures else "agree"))
for line in failures[:40]:
    print("FAIL " + line)
sys.exit(bool(failures))
