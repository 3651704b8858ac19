#!/usr/bin/env python3
"""Makes tokenizer.model of the characters of nanoGPT, so that deq reads and writes their text.

    from_nanogpt.py DIR     DIR holds train.bin, val.bin and meta.pkl, as prepare.py of nanoGPT leaves them

deq reads train.bin and val.bin where they lie. meta.pkl, which says what character each number is, is a
pickle, which only Python reads. DIR/tokenizer.model says the same as a model of SentencePiece. It has
one more piece, <unk>, for characters that the text does not have, since every such model has one.
Only the standard library is needed, and nothing that the pickle names is run.
"""
import os
import pickle
import sys

# Numbers of sentencepiece_model.proto.
PIECE, TRAINER, NORMALIZER = 1, 2, 3
UNKNOWN, CHARACTERS = 2, 4
BLANK = "\u2581"  # stands for a blank in pieces


class Plain(pickle.Unpickler):
    """Makes dicts, lists, numbers and texts."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def characters(path):
    try:
        with open(path, "rb") as f:
            meta = Plain(f).load()
    except OSError as e:
        sys.exit(f"{path}: {e.strerror}: prepare.py of nanoGPT writes it beside train.bin for texts of characters")
    except Exception as e:  # whatever a damaged file makes of the unpickler
        sys.exit(f"{path}: not the meta.pkl of nanoGPT: {e}")
    itos = meta.get("itos") if isinstance(meta, dict) else None
    if isinstance(itos, (list, tuple)):
        itos = dict(enumerate(itos))
    if not isinstance(itos, dict) or not itos or sorted(itos, key=str) != sorted(range(len(itos)), key=str):
        sys.exit(f"{path}: no itos with a character for each number from 0 on")
    for i, c in sorted(itos.items()):
        if not isinstance(c, str) or len(c) != 1 or c == "\0" or "\ud800" <= c <= "\udfff":
            sys.exit(f"{path}: token {i} is {c!r}, which is no character of a text")
        if c == BLANK:
            sys.exit(f"{path}: token {i} is {c!r}, which stands for a blank in tokenizer.model; put another "
                     "character in its place in the text, and run prepare.py again")
    return [itos[i] for i in range(len(itos))]


def number(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(key, value):
    """A field of a message: a number, or bytes."""
    if isinstance(value, int):
        return number(key << 3) + number(value)
    return number(key << 3 | 2) + number(len(value)) + value


def piece(text, *kind):
    score = number(2 << 3 | 5) + bytes(4)
    return field(PIECE, field(1, text.encode()) + score + b"".join(field(3, k) for k in kind))


def model(chars):
    """A model that takes a text apart into characters and changes nothing in it."""
    unknown = len(chars)
    trainer = field(3, CHARACTERS) + field(4, unknown + 1) + field(40, unknown)
    trainer += b"".join(field(key, (1 << 64) - 1) for key in (41, 42, 43))  # no <s>, </s>, <pad>
    normalizer = field(1, b"identity") + field(3, 0) + field(4, 0) + field(5, 1)
    pieces = b"".join(piece(BLANK if c == " " else c) for c in chars) + piece("<unk>", UNKNOWN)
    return pieces + field(TRAINER, trainer) + field(NORMALIZER, normalizer)


def main(args):
    if len(args) != 1 or args[0].startswith("-"):
        sys.exit(__doc__)
    path = os.path.join(args[0], "tokenizer.model")
    chars = characters(os.path.join(args[0], "meta.pkl"))
    with open(path + ".part", "wb") as f:
        f.write(model(chars))
    os.replace(path + ".part", path)
    print(f"{path}: {len(chars)} characters and <unk>; next:\ndeq train --data {args[0]}")


if __name__ == "__main__":
    main(sys.argv[1:])
