"""Models of deq for lm-evaluation-harness: its class LM, answered by `deq score` and `deq sample`.

    python3 scripts/lm_eval/run.py --model deq --model_args checkpoint=runs/kjv/best.bin --tasks ...

Arguments of the model, as the harness takes them in --model_args:

    checkpoint  the file
    program     the program deq (deq)
    tol         relative residual at which every position has converged (1e-6)
    threads     threads of deq (its own default)
    max_tokens  tokens of a generated text where the task does not say (256)

A request is answered as by the harness's own models. Blanks at the end of a context belong to the
continuation. A text without a context begins a line. A generated text ends before the first of the
task's stop texts, and with its line, whose end is what ends a text of deq. The blank in front of its
first word is left out, as it is where a tokenizer of words decodes a text alone.
"""
import json
import subprocess

import lm_eval.models  # noqa: F401, the harness's own, beside which this one stands
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

# Names that tasks have for the most tokens of a text.
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@register_model("deq")
class DeqLM(LM):
    def __init__(self, checkpoint, program="deq", tol=1e-6, threads=None, max_tokens=256, batch_size=None,
                 max_batch_size=None, device=None):
        super().__init__()
        if device not in (None, "", "cpu"):  # the harness passes its --device to every model
            raise ValueError(f"device {device}: deq takes a GPU by itself where there is one")
        self.checkpoint, self.program, self.max_tokens = checkpoint, program, int(max_tokens)
        vocabulary = subprocess.run([program, "info", checkpoint, "--vocab"], capture_output=True, check=True).stdout
        self.words = not vocabulary.startswith((b"<0x00>\n", b"# split: subwords"))
        self.options = ["--tol", str(float(tol))] + (["--threads", str(threads)] if threads else [])

    def run(self, command, *options, text=None):
        """The JSON objects that deq prints, one a line."""
        done = subprocess.run([self.program, command, self.checkpoint, *self.options, "--json", *options],
                              input=text, capture_output=True, encoding="utf-8")
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return [json.loads(line) for line in done.stdout.splitlines()]

    def score(self, pairs):
        """(log-probability, whether greedy decoding would have said it) of each continuation."""
        text = "".join(json.dumps({"context": a, "continuation": b}) + "\n" for a, b in pairs)
        found = [o for o in self.run("score", "--pairs", "-", text=text) if "pair" in o]
        if len(found) != len(pairs):
            raise RuntimeError(f"{self.program} answered {len(found)} of {len(pairs)} pairs")
        return [(o["logprob"], o["greedy"]) for o in found]

    def loglikelihood(self, requests, disable_tqdm=False):
        pairs = []
        for context, continuation in (r.args for r in requests):
            known = context.rstrip()
            pairs.append((known, context[len(known):] + continuation))
        return self.answer("loglikelihood", requests, self.score(pairs))

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        scores = self.score([("", r.args[0]) for r in requests])
        return self.answer("loglikelihood_rolling", requests, [logprob for logprob, _ in scores])

    def generate_until(self, requests, disable_tqdm=False):
        texts = [self.generate(*r.args) for r in requests]
        return self.answer("generate_until", requests, texts)

    def generate(self, context, how):
        how = dict(how)
        stops = how.pop("until", [])
        stops = [stops] if isinstance(stops, str) else stops
        limits = [how.pop(name) for name in LIMITS if name in how]
        temperature = how.pop("temperature", None)
        drawn = how.pop("do_sample", bool(temperature))
        temperature = 0.0 if not drawn else 1.0 if temperature is None else temperature
        options = ["--prompt", "-", "--tokens", str(limits[0] if limits else self.max_tokens), "--raw",
                   "--temperature", str(temperature)]
        for name in ("top_k", "top_p", "min_p", "seed"):
            if name in how:
                options += ["--" + name.replace("_", "-"), str(how.pop(name))]
        if how:
            raise ValueError(f"generation options that deq does not know: {', '.join(how)}")
        for stop in {"\n", *stops} - {""}:
            escaped = stop.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
            options += ["--stop", escaped]
        text = self.run("sample", *options, text=context)[-1]["text"]
        text = text[len(self.prompt_text(context, text)):]
        return text.removeprefix(" ") if self.words else text

    def prompt_text(self, context, text):
        """What of a sample is its prompt, in which a last blank may be missing and words unknown."""
        prompt = context.removesuffix(" ")
        if context == "" or prompt != "" and prompt == prompt.rstrip() and text.startswith(prompt):
            return context if text.startswith(context) else prompt
        return self.run("sample", "--prompt", "-", "--tokens", "0", "--raw", text=context)[-1]["text"]

    def answer(self, kind, requests, results):
        for request, result in zip(requests, results):
            self.cache_hook.add_partial(kind, request.args, result)
        return results
