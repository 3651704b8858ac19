"""Scores a line and continues it, through libdeq.

    python3 line.py CHECKPOINT "And God said"     DEQ_LIBRARY names libdeq.so.0 where it is not found
"""
import ctypes as c
import os
import sys

deq = c.CDLL(os.environ.get("DEQ_LIBRARY", "libdeq.so.0"))
# Numbers below 0 are errors. Structs begin with their size (deq.h).
deq.deq_score_text.restype = deq.deq_generate.restype = c.c_int64
on_text = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int32, c.POINTER(c.c_char), c.c_size_t)


def struct(name, *fields):
    return type(name, (c.Structure,), {"_fields_": fields})


Error = struct("Error", ("status", c.c_int32), ("text", c.c_char * 1024))
Token = struct("Token", ("logprob", c.c_double), ("start", c.c_uint64), ("end", c.c_uint64), ("id", c.c_int32),
               ("rank", c.c_int32), ("nfe", c.c_int32), ("flags", c.c_uint32))
Sampling = struct("Sampling", ("size", c.c_size_t), ("seed", c.c_uint64), ("tokens", c.c_int64),
                  ("repeat_penalty", c.c_double), ("repeat_last", c.c_int64), ("top_k", c.c_int64),
                  ("top_p", c.c_double), ("min_p", c.c_double), ("temperature", c.c_double), ("tol", c.c_double),
                  ("unknown", c.c_int32), ("raw", c.c_int32), ("stop", c.POINTER(c.c_char_p)), ("stops", c.c_size_t),
                  ("on_text", on_text), ("ctx", c.c_void_p))
error, model = Error(), c.c_void_p()


def check(result):
    return result if result >= 0 else sys.exit(error.text.decode())


line = sys.argv[2].encode()
check(deq.deq_load(c.byref(model), sys.argv[1].encode(), None, c.byref(error)))
tokens = (Token * (len(line) + 2))()
count = check(deq.deq_score_text(model, line, c.c_size_t(len(line)), tokens, c.c_size_t(len(tokens)), c.byref(error)))
print(f"{sum(t.logprob for t in tokens[:count]):.4f} in {count} tokens")

how, text = Sampling(), []
deq.deq_sampling_init(c.byref(how), c.c_size_t(c.sizeof(how)))
how.tokens, how.top_p, how.on_text = 20, 0.9, on_text(lambda ctx, token, s, n: text.append(s[:n]) or 0)
check(deq.deq_generate(model, line, c.c_size_t(len(line)), c.byref(how), c.byref(error)))
print((line + b"".join(text)).decode(errors="replace"))
deq.deq_free(model)
