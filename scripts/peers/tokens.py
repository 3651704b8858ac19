#!/usr/bin/env python3
"""Token ids out of deq's shards (src/data/shard.h), in the order of its streams (src/data/stream.h).

    tokens.py DIR SPLIT BATCH LENGTH    prints an epoch: inputs and targets, one sequence a line
"""
import array
import os
import struct
import sys

HEADER_BYTES = 128
HEADER = struct.Struct("<8s6I4Q")  # up to the size of the vocabulary


class DataError(Exception):
    """Says which file cannot be used, and what to do."""


def read_shard(path):
    """(header as a dictionary, ids) of one file. Its checksums are deq's business."""
    try:
        with open(path, "rb") as f:
            raw = f.read()
    except OSError as e:
        raise DataError("%s: %s (make shards with deq tokenize)" % (path, e.strerror))
    if len(raw) < HEADER_BYTES or raw[:8] != b"DEQSHARD":
        raise DataError("%s: not a shard of token ids; make the folder with deq tokenize" % path)
    names = ("magic", "version", "bytes", "width", "flags", "index", "count", "tokens", "first",
             "split_tokens", "vocab")
    h = dict(zip(names, HEADER.unpack_from(raw)))
    if h["version"] != 1 or h["bytes"] != HEADER_BYTES or h["width"] not in (2, 4):
        raise DataError("%s: a shard of another version; run deq tokenize again" % path)
    if h["flags"] & 2:
        raise DataError("%s: records of a task; the peers read texts only" % path)
    if len(raw) != HEADER_BYTES + h["tokens"] * h["width"]:
        raise DataError("%s: %d bytes, its header says %d; run deq tokenize again" % (
            path, len(raw), HEADER_BYTES + h["tokens"] * h["width"]))
    ids = array.array("H" if h["width"] == 2 else "I")
    ids.frombytes(raw[HEADER_BYTES:])
    if sys.byteorder == "big":
        ids.byteswap()
    if ids and max(ids) >= h["vocab"]:
        raise DataError("%s: an id beyond the vocabulary; run deq tokenize again" % path)
    return h, ids


def read_split(folder, split):
    """(ids of a split, array of 32-bit integers; size of the vocabulary)."""
    ids, index, count, vocab = array.array("i"), 0, 1, None
    while index < count:
        path = os.path.join(folder, "%s-%05d.bin" % (split, index))
        h, part = read_shard(path)
        count, vocab = h["count"], vocab or h["vocab"]
        if (h["index"], h["first"], h["vocab"]) != (index, len(ids), vocab):
            raise DataError("%s: does not continue the shard before; run deq tokenize again" % path)
        ids.extend(array.array("i", part))
        index += 1
    if len(ids) != h["split_tokens"]:
        raise DataError("%s: the split ends early; run deq tokenize again" % path)
    return ids, vocab


class Streams:
    """A split as `batch` contiguous streams, cut into segments of `length` positions."""

    def __init__(self, ids, batch, length):
        self.ids, self.batch = ids, batch
        self.each = len(ids) // batch  # tokens of a stream
        if self.each < 2:
            raise DataError("%d tokens are too few for a batch of %d" % (len(ids), batch))
        self.length = min(length, self.each - 1)
        self.segments = -(-(self.each - 1) // self.length)

    def segment(self, k):
        """Rows of ids, one behind the other, one of each stream: its inputs and the last target."""
        start = k * self.length
        end = min(start + self.length, self.each - 1) + 1
        rows = array.array("i")
        for b in range(self.batch):
            rows.extend(self.ids[b * self.each + start:b * self.each + end])
        return rows


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__.strip())
    folder, split, batch, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    try:
        streams = Streams(read_split(folder, split)[0], batch, length)
    except DataError as e:
        sys.exit("tokens.py: %s" % e)
    for k in range(streams.segments):
        rows = streams.segment(k)
        width = len(rows) // batch
        for b in range(batch):
            row = rows[b * width:(b + 1) * width]
            print("%d:" % k, *row[:-1], "|", *row[1:])


if __name__ == "__main__":
    main()
