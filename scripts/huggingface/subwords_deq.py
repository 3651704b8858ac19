"""Subwords of a vocabulary of deq: their text, and the encoding by SentencePiece's own library.

Behind the header of vocab.txt stands a piece a line, with U+2581 for a blank and <0x00> to <0xFF> for
bytes. A tab and a word may follow: control (adds nothing to a text), unknown, hex (the name is its
bytes in hex digits), or raw (the same, and U+2581 among the bytes is no blank).

`deq` encodes line by line, and a line of a lossless model word by word, with the blanks in front of
each. The same is done here, so that tokens are the same. The package sentencepiece is wanted only to
encode.
"""
BLANK = "\u2581"
UNKNOWN = " \u2047 ".encode()
PART = 1 << 16  # bytes that are encoded at once
MARKS = ("control", "unknown", "hex", "raw")
WHITE = " \t\n\v\f\r"


def byte_of(name):
    """The byte that a piece is named after, or None."""
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        digits = name[3:5]
        if all(c in "0123456789ABCDEF" for c in digits):
            return int(digits, 16)
    return None


def surface_of(name, kind):
    """The bytes that a piece adds to a text."""
    if kind == "control":
        return b""
    if kind == "unknown":
        return UNKNOWN
    if kind == "byte":
        return bytes([byte_of(name)])
    text = bytes.fromhex(name) if kind in ("hex", "raw") else name.encode()
    return text if kind == "raw" else text.replace(BLANK.encode(), b" ")


class Subwords:
    def __init__(self, rule, lines, model, lossless):
        """`rule` is what the header says behind "subwords", and `model` the path of the model or None."""
        self.prefix, self.trim = "prefix" in rule, "trim" in rule
        self.numbers = "numbers" in rule
        self.model, self.lossless, self.library = model, lossless, None
        self.names, self.kinds = [], []
        for line in lines:
            name, _, kind = line.rpartition("\t")
            if kind not in MARKS:
                name, kind = line, "byte" if byte_of(line) is not None else "text"
            self.names.append(name)
            self.kinds.append(kind)
        self.surfaces = [surface_of(n, k) for n, k in zip(self.names, self.kinds)]
        self.bytes = {self.surfaces[i][0]: i for i, k in enumerate(self.kinds) if k == "byte"}
        self.line_end = self._find_line_end()
        texts = [s.decode(errors="replace") for s, k in zip(self.surfaces, self.kinds)
                 if k in ("text", "hex")]
        self.blank = " " in texts
        self.whole_words = not any(" " in t.lstrip(" ") for t in texts)

    def _find_line_end(self):
        """The token of a line end: a piece, or its byte, or </s>. None without."""
        found = [i for i, k in enumerate(self.kinds) if self.surfaces[i] == b"\n" and k != "byte"]
        if found:
            return found[-1]
        if 10 in self.bytes:
            return self.bytes[10]
        ends = [i for i, n in enumerate(self.names) if n == "</s>" and self.kinds[i] == "control"]
        return ends[0] if ends else None

    def _open(self):
        if self.library is not None:
            return
        if self.model is None:
            raise ValueError("the folder has no tokenizer.model, with which texts are divided")
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as e:
            raise ImportError("subwords are encoded by the package sentencepiece: "
                              "pip install sentencepiece") from e
        with open(self.model, "rb") as f:
            proto = f.read()
        if self.lossless and self.prefix:
            proto += bytes([3 << 3 | 2, 2, 3 << 3, 0])  # blanks in front of lines are put here
        self.library = SentencePieceProcessor(model_proto=proto)

    # -- a text

    def encode(self, text):
        """The ids of a text whose last line stays open."""
        if self.numbers:
            return self._numbers(text)
        self._open()
        if "\0" in text:
            raise ValueError(f"a NUL character (number {text.index(chr(0))} of the text)")
        first, *lines = text.removeprefix("\ufeff").split("\n")
        ids = self._line(first)
        for line in lines:
            ids += [self.line_end] + self._line(line)
        ids = ids or [self.line_end]  # a text without tokens
        if None in ids:
            raise ValueError("a line end, or an empty text, and the tokenizer has no piece for it")
        return ids

    def _plain(self, c):
        """Whether the library can have a character."""
        return self.blank if c == " " else c != BLANK

    def _part(self, line, at):
        """The end of what is encoded at once, or `at` if that begins with what cannot be."""
        size, word = 0, False
        while at < len(line) and size < PART and self._plain(line[at]):
            if line[at] == " " and word and self.whole_words:
                break
            word |= line[at] != " "
            size += len(line[at].encode())
            at += 1
        return at

    def _line(self, line):
        if line == "" or not self.lossless:
            return self.library.encode(line) if line != "" else []
        ids, at = [], 0
        while at < len(line):
            end = self._part(line, at)
            if end > at:
                prefix = " " if self.prefix and at == 0 else ""
                ids += self.library.encode(prefix + line[at:end])
            else:
                end = at + 1
                ids += [self.bytes[b] for b in line[at].encode()]
            at = end
        return ids

    def _numbers(self, text):
        ids = []
        for word in text.split():
            if not (word.isascii() and word.isdigit()) or int(word) >= len(self.names):
                raise ValueError(f"\"{word}\": the vocabulary is for decoding, so that texts are given "
                                 f"as the numbers of tokens, 0 to {len(self.names) - 1}")
            ids.append(int(word))
        if not ids and self.line_end is None:
            raise ValueError("empty: give tokens by their numbers")
        return ids or [self.line_end]

    # -- and back

    def decode(self, ids):
        out, joined = [], True
        for i in ids:
            surface = self.surfaces[i]
            if i == self.line_end:
                surface, joined = b"\n", not self.numbers
            else:
                gone = (joined and self.prefix and self.kinds[i] in ("text", "hex", "raw")
                        and surface.startswith(b" "))
                surface = surface[gone:]
                if surface or gone and not self.trim:
                    joined = False
            out.append(surface)
        return b"".join(out).decode(errors="replace")
