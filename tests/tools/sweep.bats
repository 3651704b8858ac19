# Fair comparisons: the grid, its growth, seeds, equal time, stopping and going on.

load ../cli/tiny_run

setup_file()
{
    tiny_run
    "$DEQ" tokenize --train text --valid text --test text --out data --force >/dev/null
    sed -i 's/"steps": 2/"steps": 12, "warmup_steps": 2/; s/"pretrain_steps": 1/"pretrain_steps": 0/' tiny.json
}

setup()
{
    command -v python3 >/dev/null || skip "python3 is not installed"
    export DEQ
    DEQ=$(realpath "$DEQ")
    sweep=$(realpath "$BATS_TEST_DIRNAME/../../scripts/sweep/sweep.py")
    cd "$BATS_TEST_TMPDIR"
}

# plan KEY...: a plan with those further members.
plan()
{
    cat >plan.json <<PLAN
{ "title": "tiny", "config": "$home/tiny.json",
  "networks": { "equilibrium": {}, "a layer": { "set": { "model.layers": 1 } } },
  "parameters_within": 0.05, "search": { "train.lr": [0.001, 0.002, 0.1] }$1 }
PLAN
}

@test "sweep: the best point of each network is trained with every seed, and grids grow" {
    plan ', "seeds": [1, 2]'
    run "$sweep" plan.json --jobs 2
    [[ "$status" -eq 0 || "$output" == *"lies at an edge"* ]]
    [[ "$output" == *"| equilibrium | "*" | 2 | 0 |"* ]]
    [ "$(find plan/runs -path '*final_*/result.json' | wc -l)" -eq 4 ]
    # 0.1 was better than what is below, so the grid has gone on to 5 and perhaps beyond.
    [ -e plan/runs/search_equilibrium_lr5_seed1/result.json ]
    # The point that was chosen is the one with the lowest validation loss.
    python3 -c '
import glob, json
best = json.load(open("plan/results.json"))["networks"]["equilibrium"]["best"]
tried = [json.load(open(f)) for f in glob.glob("plan/runs/search_equilibrium_*/result.json")]
assert min(tried, key=lambda r: r["valid_nll"])["point"] == best, (tried, best)'
    # Nothing is trained again.
    touch marker
    run "$sweep" plan.json
    [ -z "$(find plan/runs -newer marker -name result.json)" ]
}

@test "sweep: networks of unequal size are refused before any training" {
    plan ', "set": { "model.d_inner": 16 }'
    sed -i 's/"model.layers": 1/"model.layers": 1, "model.d_inner": 64/' plan.json
    run "$sweep" plan.json
    [ "$status" -eq 1 ]
    [[ "$output" == *"a layer has "*" parameters and equilibrium has "*"parameters_within"* ]]
    [ -z "$(ls plan/runs)" ]
}

@test "sweep: equal time gives the cheaper network more steps" {
    # An evaluation of f is a layer's, and the equilibrium has hundreds of them in a step.
    plan ', "seeds": [1], "equal_time": true, "search_set": {"train.steps": 4},
        "set": {"solver.forward.max_iter": 400, "train.steps": 40}'
    run "$sweep" plan.json
    [ "$(find plan/runs -name 'time_equilibrium*' | wc -l)" -eq 0 ]
    more=$(cat plan/runs/time_a-layer_*/result.json | sed -n 's/.*"train.steps": \([0-9]*\).*/\1/p')
    [ "$more" -gt 40 ]
    [[ "$output" == *"| a layer, equal time | "* ]]
}

@test "sweep: a stopped comparison goes on, and a run that broke down is the worst" {
    plan ', "seeds": [1]'
    sed -i 's/"train.lr": \[[^]]*\] }/"train.lr": [0.01, 0.02], "train.clip": [0.25, 100] }/' plan.json
    sed 's/"steps": 12/"steps": 1000000/' "$home/tiny.json" >long.json
    sed "s,$home/tiny.json,long.json," plan.json >long-plan.json
    # 3: bats waits for whoever holds it open
    "$sweep" long-plan.json --out long 3>&- 2>err &
    child=$!
    until ls long/runs/*/run/config.json >/dev/null 2>&1; do
        kill -0 "$child" || cat err
        kill -0 "$child"
        sleep 0.1
    done
    kill -TERM "$child"
    code=0
    wait "$child" || code=$?
    [ "$code" -eq 75 ]
    for folder in long/runs/*/run; do
        [ ! -e "$folder/config.json" ] || "$DEQ" info "$folder" >/dev/null # it was saved
    done
    [ -n "$(cat long/runs/*/seconds)" ]
    sed -i 's/\[0.25, 100\]/[0.25, 0]/; s/"networks": {/"set": {"model.norm": "rms", "model.pre_lnorm": true, "train.steps": 60}, &/; s/0.01, 0.02/0.01, 100/' plan.json
    run "$sweep" plan.json
    [[ "$output" == *"| broke down |"* ]]
    [ "$status" -eq 0 ]
}

@test "sweep: a plan with a fault is refused in words" {
    echo '{ "config": "x.json", "networks": {"a": {}}, "serch": {} }' >plan.json
    run "$sweep" plan.json
    [ "$status" -eq 1 ]
    [[ "$output" == *"plan.json: serch is no key of a plan"* ]]
    plan ', "preset": "small"'
    run "$sweep" plan.json
    [[ "$output" == *"want either config or preset"* ]]
    plan ''
    sed -i 's/"train.lr"/"train.rl"/' plan.json
    run "$sweep" plan.json
    [ "$status" -eq 1 ]
    [[ "$output" == *"train.rl"* ]]
    plan ''
    run "$sweep" plan.json --stage final --task 0
    [[ "$output" == *"points of the search have not ended"* ]]
    run "$sweep" plan.json --count search
    [ "$output" = 6 ]
}

# A text in bytes and in subwords of it, which needs deq with SentencePiece.
tokens_of_two_kinds()
{
    mkdir -p "$1"
    awk 'BEGIN {
        srand(3)
        n = split("king queen walk talk say well know dom un go see 12 the of a", part, " ")
        m = split("ing,ed,ly,er,s,,!", end, ",")
        for (i = 0; i < 400; i++) {
            for (j = 0; j < 9; j++)
                printf "%s%s%s ", part[1 + int(rand() * n)], part[1 + int(rand() * n)], end[1 + int(rand() * m)]
            print i % 4 == 3 ? ".\n" : "."
        }
    }' >"$1/text"
    "$DEQ" tokenize --bytes --train "$1/text" --valid "$1/text" --test "$1/text" --out "$1/bytes" >/dev/null
    "$DEQ" tokenize --subwords 290 --train "$1/text" --valid "$1/text" --test "$1/text" --out "$1/pieces" >/dev/null 2>err ||
        ! grep "deps.sh" err || skip "built without SentencePiece (scripts/deps.sh subwords)"
}

@test "sweep: networks with data of their own compare by bits per byte, for so many seconds" {
    tokens_of_two_kinds text
    cat >tokens.json <<PLAN
{ "title": "tokens", "config": "$home/tiny.json", "set": { "train.tgt_len": 64, "train.eval_every": 6 },
  "networks": { "bytes": { "data": "text/bytes" }, "pieces": { "data": "text/pieces" },
                "words": { "data": "text/words" } },
  "parameters_within": null, "search": { "train.lr": [0.001, 0.01] }, "seeds": [1], "seconds": 0.5 }
PLAN
    "$DEQ" tokenize --words --unk map --max-vocab 20 --train text/text --valid text/text --test text/text \
        --out text/words >/dev/null
    run "$sweep" tokens.json --stage search --task 0
    [[ "$status" -eq 1 && "$output" == *"--measure does it"* ]]
    "$sweep" tokens.json --measure
    [ -z "$(find tokens/runs -name 'search*')" ]
    cp tokens/runs/steps.json measured.json
    run "$sweep" tokens.json
    [ "$status" -eq 0 ]
    cmp tokens/runs/steps.json measured.json
    [[ "$output" == *"Bits per byte can be compared"* ]]
    python3 - <<'PYTHON'
import json
import math
import os

steps = json.load(open("measured.json"))["networks"]
networks = json.load(open("tokens/results.json"))["networks"]
size = os.path.getsize("text/text")
for name, network in networks.items():
    run, = network["final"]
    keys, step = steps[name]["keys"], steps[name]["step_seconds"]
    assert run["data"] == "text/" + name and run["keys"]["train.lr"] in (0.001, 0.01), run
    assert all(run["keys"][key] == value for key, value in keys.items()), (run["keys"], keys)
    assert keys["train.steps"] == max(1, round(0.5 / step)), (keys, step)
    # 12 steps have 2 of warm-up, and an evaluation every 6.
    for key, share in (("train.warmup_steps", 2 / 12), ("train.eval_every", 6 / 12)):
        assert keys[key] == max(1, round(keys["train.steps"] * share)), keys
    assert keys["train.pretrain_steps"] == keys["train.checkpoint_every"] == 0, keys
    if name == "words":
        assert run["bits_per_byte"] is None and run["test_unknown"] > 0, run
        continue
    tokens = json.load(os.popen("'%s' info text/%s/test-00000.bin --json" % (os.environ["DEQ"], name)))["tokens"]
    want = run["test_nll"] * tokens / size / math.log(2)
    assert abs(run["bits_per_byte"] / want - 1) < 1e-6, (run, want)
PYTHON
    grep -q '^| words .*| – | 1 |' tokens/table.md
    # Other seconds are another comparison.
    sed -i 's/"seconds": 0.5/"seconds": 0.7/' tokens.json
    run "$sweep" tokens.json
    [[ "$status" -eq 1 && "$output" == *"measured for 0.5 seconds a run, and the plan says 0.7 now"* ]]
}

@test "sweep: what does not go with seconds is refused" {
    plan ', "seconds": 1, "equal_time": true'
    run "$sweep" plan.json
    [[ "$status" -eq 1 && "$output" == *"leave equal_time out"* ]]
    plan ', "seconds": 1, "search_set": {"train.steps": 4}'
    run "$sweep" plan.json
    [[ "$status" -eq 1 && "$output" == *"train.steps follows from seconds"* ]]
    plan ', "seconds": 0'
    run "$sweep" plan.json
    [[ "$status" -eq 1 && "$output" == *"want a number above 0"* ]]
    plan ''
    sed -i 's/"equilibrium": {}/"equilibrium": {"date": 1}/' plan.json
    run "$sweep" plan.json
    [[ "$status" -eq 1 && "$output" == *"want an object with the keys set and data"* ]]
}

@test "sweep: tokens.sh makes tokens of five kinds, which say the text, and networks of equal size" {
    tokens_of_two_kinds text
    # A word that no other text has, and what is no letter.
    printf 'Never  heard, caf\303\251 -- \342\200\234so\342\200\235!!\n\n' >>text/text
    tokens=${sweep%/*}/tokens.sh
    run "$tokens" -n -s "290 300 310" -w 330 -p 60000 -t 2 out text/text
    [ "$status" -eq 0 ]
    # Nothing is made twice, and nothing out of another text.
    run "$tokens" -n -s "290 300 310" -w 330 -p 60000 -t 2 out text/text
    [[ "$status" -eq 0 && "$output" != *"written "* && "$output" != *"are spelt"* ]]
    run "$tokens" -n -s "290 300 310" -w 330 -p 60000 -t 3 out text/text
    [[ "$status" -eq 1 && "$output" == *"out/plan.json: another plan than these options make"* ]]
    cp text/text other
    echo more >>other
    run "$tokens" -n out other
    [[ "$status" -eq 1 && "$output" == *"made from another text"* ]]
    python3 - <<'PYTHON'
import array
import json
import os
import subprocess

plan = json.load(open("out/plan.json"))
assert list(plan["networks"]) == ["bytes", "words 330", "subwords 290", "subwords 300", "subwords 310"], plan
assert plan["seconds"] == 2
counts = []
for network in plan["networks"].values():
    words = [os.environ["DEQ"], "plan", "--device", "h100", "--json", "--config", plan["config"], "--data", network["data"]]
    for key, value in network["set"].items():
        words += ["--set", "%s=%s" % (key, json.dumps(value))]
    counts.append(json.loads(subprocess.check_output(words).splitlines()[-1])["parameters"])
assert max(counts) < 1.01 * min(counts) and abs(counts[0] / 60000 - 1) < 0.01, counts
# The words and bytes of every part are the text.
letters = json.load(open("out/words-330/tokenizer.json"))["model"]["vocab"]
assert len(letters) == 330, len(letters)
byte_of = {letter: i for letter, i in letters.items() if i < 256}
said = {i: bytes(byte_of[c] for c in token) for token, i in letters.items()}
parts = b""
for name, file in (("train", "train"), ("valid", "val"), ("test", "test")):
    ids = array.array("H")
    with open("out/words-330/%s.bin" % file, "rb") as f:
        ids.frombytes(f.read())
    text = open("out/%s.txt" % name, "rb").read()
    assert b"".join(said[i] for i in ids) == text, name
    assert len(ids) < len(text), name
    parts += text
# Every paragraph is in one of the parts.
paragraphs = lambda t: sorted(p.strip() for p in t.split(b"\n\n") if p.strip())
assert paragraphs(parts) == paragraphs(open("text/text", "rb").read())
PYTHON
    # Of two texts, the second gives the test.
    run "$tokens" -n -s 290 -w 300 -p 60000 two text/text text/text
    [ "$status" -eq 0 ]
    [ "$(cat two/valid.txt two/test.txt | wc -c)" -eq "$(wc -c <two/train.txt)" ]
    # A long one is thinned.
    for i in 1 2 3 4 5 6 7 8 9; do cat text/text; done >long
    run "$tokens" -n -s 290 -w 300 -p 60000 three text/text long
    [ "$status" -eq 0 ]
    [ "$(wc -c <three/test.txt)" -gt 40000 ]
    [ "$(wc -c <three/test.txt)" -lt 110000 ]
    run "$tokens" -n -s 290 -w 300 -p 900 small text/text
    [[ "$status" -eq 1 && "$output" == *"no network of 900 parameters has such a vocabulary"* ]]
    run "$tokens" out
    [[ "$status" -eq 64 && "$output" == *"tokens.sh [-s "* ]]
}
