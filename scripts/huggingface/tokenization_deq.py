"""The tokens of deq's vocabularies: bytes, words divided at blanks or at punctuation, subwords, and ids
of another program, of which a text is given and printed as numbers.

vocab.txt has one word a line in the order of ids. A header line "# split: ..." may name the rule,
and 256 lines <0x00> .. <0xFF> are the bytes. What a text becomes, and what tokens become, is what
`deq tokenize`, `deq score` and `deq sample --raw` make of it. No text has special tokens: <eos> is
the end of a line, and the word <eos> in a text of blanks is the same token.

A text is a prompt, whose last line stays open. With `closed` it is whole, and ends with <eos>.
"""
import os
import shutil
import unicodedata

from transformers import PreTrainedTokenizer

from .subwords_deq import WHITE, Subwords

RUN = 16  # characters of punctuation or white space in one piece
MARK = "@"  # there is no blank on this side of a piece
SPACE = " \t\v\f\r"
NAMES = {" ": "sp", "\t": "tab", "\v": "vt", "\f": "ff", "\r": "cr", MARK: "at"}
LOWER = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}


def is_word(c):
    return c == "_" or unicodedata.category(c)[0] in "LMN"


def word_end(line, at):
    """The end of the word at `at`. An apostrophe between two characters of a word belongs to it."""
    while at < len(line):
        if not is_word(line[at]):
            if line[at] not in "'\u2019" or at + 1 == len(line) or not is_word(line[at + 1]):
                break
        at += 1
    return at


def run_end(line, at):
    """The end of the run of one character at `at`."""
    end = at + 1
    while end < len(line) and end - at < RUN and line[end] == line[at]:
        end += 1
    return end


def spelled(c, count):
    return f"<{NAMES[c]}{count if count > 1 else ''}>"


def opens(c):
    return c in "\"'" or unicodedata.category(c) in ("Ps", "Pi")


def line_pieces(line, is_open):
    """The pieces of a line without its end, which is continued if `is_open`."""
    pieces, at, attached = [], 0, False
    while at < len(line):
        c = line[at]
        if is_word(c):
            end = word_end(line, at)
            pieces.append(line[at:end])
            attached = True
        elif c in SPACE:
            if c == " " and attached and (at + 1 < len(line) and line[at + 1] not in SPACE
                                          or at + 1 == len(line) and is_open):
                end = at + 1  # the one blank between two pieces
            else:
                end = run_end(line, at)
                pieces.append(spelled(c, end - at))
            attached = False
        else:
            end = run_end(line, at)
            behind = end < len(line) and is_word(line[end])
            if end == len(line) and is_open:
                behind = not attached and opens(c)
            text = spelled(c, end - at) if c == MARK else line[at:end]
            pieces.append(MARK * attached + text + MARK * behind)
            attached = True
        at = end
    return pieces


def run_of(word, names):
    """The run of one character that `word` spells, or None."""
    if not (word.startswith("<") and word.endswith(">")):
        return None
    for c in names:
        name = NAMES[c]
        count = word[1 + len(name):-1]
        if word[1:].startswith(name) and len(word) >= len(name) + 2:
            if count == "":
                return c
            if count.isascii() and count.isdigit() and count[0] != "0" and 2 <= int(count) <= RUN:
                return c * int(count)
    return None


class DEQTokenizer(PreTrainedTokenizer):
    # transformers puts a tokenizer.model that it finds in the place of vocab_file.
    vocab_files_names = {"vocab_file": "vocab.txt", "words_file": "vocab.txt",
                         "spm_file": "tokenizer.model"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(self, vocab_file, words_file=None, spm_file=None, closed=False, lossless=True,
                 **kwargs):
        vocab_file = words_file or vocab_file
        with open(vocab_file, "rb") as f:
            self.text = f.read()
        words = self.text.decode().split("\n")
        if words[-1] == "":
            words.pop()
        self.split, self.lower, self.subwords, self.end = "blanks", False, None, None
        self.spm_file = spm_file
        if words[0].startswith("# "):
            head = words.pop(0)
            self.split, *rest = head.removeprefix("# split: ").split(", ")
            self.lower = rest == ["lower"]
            if self.split == "subwords":
                self.subwords = Subwords(rest[1:], words, spm_file, lossless)
                words = self.subwords.names
            elif self.split == "ids" and rest != []:
                self.end = rest[0].removeprefix("end ")
            elif self.split not in ("blanks", "punctuation", "ids") or rest not in ([], ["lower"]):
                raise ValueError(f"{vocab_file}: \"{head}\" is no rule that this module knows")
        if words == [f"<0x{i:02X}>" for i in range(256)]:
            self.split = "bytes"
        self.words = words
        self.ids = {word: i for i, word in enumerate(words)}
        self.closed = closed
        super().__init__(closed=closed, lossless=lossless, **kwargs)

    @property
    def vocab_size(self):
        return len(self.words)

    def get_vocab(self):
        return dict(self.ids)

    def _convert_token_to_id(self, token):
        if token in self.ids:
            return self.ids[token]
        if "<unk>" in self.ids:
            return self.ids["<unk>"]
        raise ValueError(f"\"{token}\" is not in the vocabulary")

    def _convert_id_to_token(self, index):
        return self.words[index]

    # -- a text

    def tokenize(self, text, **kwargs):
        if self.split == "bytes":
            return [f"<0x{byte:02X}>" for byte in text.encode() or b"\n"]
        if self.subwords is not None:
            if not self.closed and len(text) >= 2 and text[-1] == " " and text[-2] not in WHITE:
                text = text[:-1]  # the next piece brings it
            return [self.words[i] for i in self.subwords.encode(text)]
        if "\0" in text:
            raise ValueError(f"a NUL character (number {text.index(chr(0))} of the text)")
        text = text.removeprefix("\ufeff")
        if self.split == "ids":
            return self._numbers(text)
        if self.lower:
            text = text.translate(LOWER)
        *lines, last = text.split("\n")
        if self.closed and last != "":  # it ends as lines do
            lines, last = lines + [last], ""
        pieces = []
        for line in lines:
            if self.split == "punctuation":
                line = line.removesuffix("\r")
            pieces += self._line(line, False) + ["<eos>"]
        pieces += self._line(last, True)
        if pieces == []:
            pieces = ["<eos>"]
        if "<eos>" in pieces and "<eos>" not in self.ids:
            raise ValueError("a line end, or an empty text, and the vocabulary has no <eos> for it")
        return pieces

    def _numbers(self, text):
        words = text.split()
        for word in words:
            if word not in self.ids:
                raise ValueError(f"\"{word}\" is not in the vocabulary, which is of numbers")
        if words == [] and self.end is None:
            raise ValueError("empty, and the vocabulary names no id that ends a text: give ids")
        return words or [self.end]

    def _line(self, line, is_open):
        if self.split == "blanks":  # white space of ASCII alone
            for c in SPACE:
                line = line.replace(c, " ")
            return [word for word in line.split(" ") if word != ""]
        return line_pieces(line, is_open)

    def _tokenize(self, text, **kwargs):
        return self.tokenize(text)

    # -- and back

    def convert_tokens_to_string(self, tokens):
        if self.split == "bytes":
            return bytes(int(t[3:-1], 16) for t in tokens).decode(errors="replace")
        if self.subwords is not None:
            return self.subwords.decode([self.ids[t] for t in tokens])
        if self.split == "ids":
            return " ".join(tokens)
        out, joined = [], True
        for word in tokens:
            if word == "<eos>":
                out.append("\n")
                joined = True
            elif self.split == "blanks":
                out.append(word if joined else " " + word)
                joined = False
            else:
                joined = self._piece(word, joined, out)
        return "".join(out)

    @staticmethod
    def _piece(word, joined, out):
        """Appends a piece to `out`. Whether the next one follows without a blank."""
        space = run_of(word, SPACE)
        if space is not None:
            out.append(space)
            return True
        before = len(word) > 1 and word.startswith(MARK)
        word = word[before:]
        behind = len(word) > 1 and word.endswith(MARK)
        word = word[:len(word) - behind]
        out.append(("" if joined or before else " ") + (run_of(word, MARK) or word))
        return behind

    def _decode(self, token_ids, **kwargs):
        if hasattr(token_ids, "tolist"):
            token_ids = token_ids.tolist()
        if isinstance(token_ids, int):
            token_ids = [token_ids]
        return self.convert_tokens_to_string([self.words[i] for i in token_ids])

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None):
        return token_ids_0 + (token_ids_1 or [])

    def save_vocabulary(self, save_directory, filename_prefix=None):
        name = (filename_prefix + "-" if filename_prefix else "") + "vocab.txt"
        path = os.path.join(save_directory, name)
        with open(path, "wb") as f:
            f.write(self.text)
        if self.subwords is None or self.spm_file is None:
            return (path,)
        model = os.path.join(save_directory, os.path.basename(self.spm_file))
        if os.path.abspath(model) != os.path.abspath(self.spm_file):
            shutil.copyfile(self.spm_file, model)
        return (path, model)
