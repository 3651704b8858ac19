"""lm-evaluation-harness by two routes, on tasks made from local files: its class over `deq`
(scripts/lm_eval), and its own class `hf` over the exported folder. Both must give the same figures.

    harness.py FOLDER DEQ     FOLDER as models.sh makes it, with the models marks and bytes, and pieces of subwords
"""
import json
import math
import os
import random
import sys

folder, deq = sys.argv[1:3]
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "..", "scripts", "lm_eval"))

import deq_lm  # noqa: E402, F401, which registers the model
import lm_eval  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

torch.set_num_threads(1)
os.chdir(folder)
TASKS = {
    "local_choice": {"output_type": "multiple_choice", "doc_to_text": "{{context}}", "doc_to_choice": "{{choices}}",
                     "doc_to_target": "{{answer}}", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]},
    "local_text": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
                   "metric_list": [{"metric": "bits_per_byte"}, {"metric": "word_perplexity"}]},
    "local_answer": {"output_type": "generate_until", "doc_to_text": "{{context}}", "doc_to_target": "{{text}}",
                     "generation_kwargs": {"until": ["w5", "\n"], "max_gen_toks": 8, "do_sample": False},
                     "metric_list": [{"metric": "exact_match"}]},
}


def words(rng, count):
    return " ".join(f"w{int(rng.random() * rng.random() * 20)}" for _ in range(count))


def make_tasks():
    """Data and descriptions of the tasks, which name their files."""
    rng = random.Random(11)
    docs = []
    for i in range(12):
        text = words(rng, 6) + ("" if i % 3 else ",\n\"" + words(rng, 4) + "\".")
        docs.append({"context": "" if i == 5 else words(rng, 1 + 2 * i) + ("  " if i == 7 else ""),
                     "choices": [words(rng, 1 + k) for k in range(3)], "answer": i % 3, "text": text})
    with open("docs.jsonl", "w") as f:
        f.writelines(json.dumps(d) + "\n" for d in docs)
    os.makedirs("tasks", exist_ok=True)
    for name, task in TASKS.items():
        with open(f"tasks/{name}.yaml", "w") as f:  # JSON is YAML too
            json.dump({"task": name, "dataset_path": "json", "test_split": "test",
                       "dataset_kwargs": {"data_files": {"test": os.path.abspath("docs.jsonl")}}, **task}, f)


def evaluate(model, arguments):
    done = lm_eval.simple_evaluate(model=model, model_args=arguments, tasks=list(TASKS), log_samples=True, device="cpu",
                                   batch_size=1, bootstrap_iters=0, verbosity="ERROR",
                                   task_manager=TaskManager(include_path="tasks", include_defaults=False))
    figures = {task: {k: v for k, v in r.items() if isinstance(v, float) and "stderr" not in k}
               for task, r in done["results"].items()}
    return figures, {task: [s["resps"] for s in sorted(rows, key=lambda s: s["doc_id"])]
                     for task, rows in done["samples"].items()}


def flat(x):
    """Numbers and texts of a nested list, in order."""
    if isinstance(x, (list, tuple)):
        return [v for part in x for v in flat(part)]
    try:
        return [x if isinstance(x, (bool, int, float)) else float(x)]
    except ValueError:
        return [x]


def compare(name):
    ours = evaluate("deq", {"checkpoint": f"{name}.bin", "program": deq, "tol": 1e-6, "threads": 1})
    theirs = evaluate("hf", {"pretrained": f"{name}-hf", "trust_remote_code": True, "dtype": "float32"})
    difference = 0
    for task in TASKS:
        a, b = flat(ours[1][task]), flat(theirs[1][task])
        if len(a) != len(b):
            sys.exit(f"{name}: {task}: {len(a)} answers of deq, {len(b)} of transformers")
        for x, y in zip(a, b):
            if isinstance(x, float) and not isinstance(y, str):
                if not math.isfinite(x - y):
                    sys.exit(f"{name}: {task}: deq says {x}, transformers {y}")
                difference = max(difference, abs(x - y))
            elif x != y:
                sys.exit(f"{name}: {task}: deq says {x!r}, transformers {y!r}")
        for key, value in ours[0][task].items():
            if not abs(value - theirs[0][task][key]) <= 1e-4 * max(1, abs(value)):
                sys.exit(f"{name}: {task}: {key} is {value} by deq, {theirs[0][task][key]} by transformers")
    return difference, sum(len(flat(x)) for x in ours[1].values())


make_tasks()
largest, answers = 0, 0
names = [name for name in ("marks", "bytes", "pieces") if os.path.exists(name + ".bin")]
if not names:
    sys.exit("no models: tests/python/models.sh makes them")
for name in names:
    difference, count = compare(name)
    largest, answers = max(largest, difference), answers + count
# sums over up to 40 tokens, each of which a solve to 1e-5 moves by some 1e-6
if not largest < 2e-3:
    sys.exit(f"log-probabilities differ by up to {largest:.2g}")
print(f"lm_eval {lm_eval.__version__}, transformers {transformers.__version__}: {answers} answers of {len(names)} models by "
      f"deq and by the exported folder; largest difference of log-probabilities {largest:.2g}")
