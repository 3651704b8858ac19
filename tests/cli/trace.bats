# deq train --trace and deq bench --trace: a file that Chrome's viewer reads.

setup()
{
    cd "$BATS_TEST_TMPDIR" || return 1
    export OMP_NUM_THREADS=1
    "$BATS_TEST_DIRNAME/../tools/sentences.sh" 300 > text
    "$DEQ" tokenize --train text --valid text --out data > /dev/null
    cat > tiny.json <<'END'
{ "data": { "dir": "data" },
  "model": { "d_model": 16, "n_head": 2, "d_inner": 32 },
  "train": { "steps": 4, "batch": 2, "tgt_len": 10, "mem_len": 8, "pretrain_steps": 1, "eval_every": 0 } }
END
}

@test "train --trace: steps hold phases, and phases hold operations" {
    command -v python3 >/dev/null || skip "no python3"
    run "$DEQ" train --config tiny.json --out run --trace t.json
    [ "$status" -eq 0 ]
    [[ "$output" == *"t.json: a timeline for ui.perfetto.dev or chrome://tracing"* ]]
    python3 - t.json <<'PY'
import json, sys
all = json.load(open(sys.argv[1]))
assert {s["args"]["name"] for s in all if s["ph"] == "M"} >= {"deq", "steps", "phases"}
spans = [s for s in all if s["ph"] == "X"]
steps = [s for s in spans if s["tid"] == 0]
assert len(steps) == 4
inside = lambda a, b: a["ts"] >= b["ts"] - .01 and a["ts"] + a["dur"] <= b["ts"] + b["dur"] + .01
phases = [s for s in spans if s["tid"] == 1 and any(inside(s, t) for t in steps)]
assert len({s["name"] for s in phases}) >= 6, {s["name"] for s in phases}
gemms = [s for s in spans if s["tid"] == 2 and s["name"] == "gemm" and s["args"]["flops"] > 0]
assert sum(any(inside(g, p) for p in phases) for g in gemms) > 20
assert not any(s["tid"] == 3 for s in spans)
PY
}

@test "bench --trace: a file beside the table, and nothing but JSON with --json" {
    "$DEQ" bench train --config tiny.json --set model.vocab_size=99 --steps 2 --trace b.json --json >out
    [ "$(wc -l <out)" -eq 1 ]
    [ "$(grep -c '"name":"step"' b.json)" -ge 2 ]
    [ "$(tail -n 1 b.json)" = "]" ]
}

@test "--trace that cannot be written, or shows nothing: one error that says so" {
    run "$DEQ" train --config tiny.json --out run --trace none/t.json
    [ "$status" -eq 73 ]
    [[ "$output" == *"--trace: none/t.json: cannot create"* ]]
    run "$DEQ" train --config tiny.json --out run2 --trace /dev/full
    [ "$status" -eq 74 ]
    [[ "$output" == *"/dev/full: cannot write the timeline"* ]]
    run "$DEQ" train --config tiny.json --dry-run --trace t.json
    [ "$status" -eq 64 ]
    [[ "$output" == *"leave out one"* ]]
}
