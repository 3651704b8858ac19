#!/usr/bin/env bats
# The programs of the comparison with PyTorch (scripts/peers): what of them does without torch, and,
# where PEERS_PYTHON (default: python3, or the system's) has torch, that the peers compute what deq
# computes.

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    peers=$root/scripts/peers
    DEQ=${DEQ:-$root/build/deq}
    export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
    command -v python3 >/dev/null || skip "no python3"
    cd "$BATS_TEST_TMPDIR"
}

# Shards in the folder $1 of a text of $2 different words, with options for deq tokenize.
shards() {
    local dir=$1 words=$2
    shift 2
    awk -v n="$words" 'BEGIN {
        for (i = 0; i < 2 * n; i++)
            printf "w%d%s", i < n ? i : i * i % n, i % 9 == 8 ? "\n" : " "
    }' >text
    "$DEQ" tokenize --train text --valid text --test text --out "$dir" "$@" >/dev/null
}

# Both programs' batches of the split in $1, of $2 streams and $3 positions.
same_batches() {
    "$(dirname "$DEQ")/tests/tools/batches" "$1" train "$2" "$3" >ours
    "$peers/tokens.py" "$1" train "$2" "$3" >theirs
    [ -s ours ]
    cmp ours theirs
}

@test "the peers read the batches that deq trains on" {
    [ -x "$(dirname "$DEQ")/tests/tools/batches" ] || skip "tests/tools/batches is not built"
    shards narrow 50 --shard-tokens 37
    [ -e narrow/train-00002.bin ]
    same_batches narrow 1 8
    same_batches narrow 3 7
    same_batches narrow 4 1000
}

@test "the peers read ids of four bytes" {
    [ -x "$(dirname "$DEQ")/tests/tools/batches" ] || skip "tests/tools/batches is not built"
    shards wide 70000
    same_batches wide 8 64
    grep -q ' 70000 ' ours
}

@test "the peers refuse shards that are missing, cut, foreign or of a task" {
    shards d 50 --shard-tokens 37
    run "$peers/tokens.py" d nothing 1 8
    [ "$status" -ne 0 ]
    [[ "$output" == *"d/nothing-00000.bin: No such file"* ]]
    cp -r d cut
    truncate -s -2 cut/train-00001.bin
    run "$peers/tokens.py" cut train 1 8
    [ "$status" -ne 0 ]
    [[ "$output" == *"cut/train-00001.bin: 200 bytes, its header says 202"* ]]
    cp -r d mixed
    cp mixed/train-00000.bin mixed/train-00001.bin
    run "$peers/tokens.py" mixed train 1 8
    [ "$status" -ne 0 ]
    [[ "$output" == *"mixed/train-00001.bin: does not continue"* ]]
    echo "some text" >d/train-00000.bin
    run "$peers/tokens.py" d train 1 8
    [ "$status" -ne 0 ]
    [[ "$output" == *"d/train-00000.bin: not a shard"* ]]
    "$DEQ" tokenize --task copy-memory --delay 20 --out copy >/dev/null
    run "$peers/tokens.py" copy train 1 8
    [ "$status" -ne 0 ]
    [[ "$output" == *"records of a task"* ]]
}

# A model that trains in no time, in small.json, on the shards in d.
small_config() {
    shards d 50
    cat >small.json <<'END'
{ "data": { "dir": "d" },
  "model": { "d_model": 16, "n_head": 2, "d_inner": 32, "init_std": 0.05, "proj_init_std": 0.05 },
  "train": { "steps": 40, "batch": 2, "tgt_len": 8, "mem_len": 8, "warmup_steps": 10,
             "pretrain_steps": 5, "eval_every": 10 },
  "eval": { "batch": 2, "tgt_len": 8, "mem_len": 8, "max_iter": 6 } }
END
}

@test "learn.py trains deq, shortens its schedule, and keeps what is there" {
    small_config
    run "$peers/learn.py" --deq "$DEQ" --config small.json --programs deq --steps 20 --threads 1 \
        --evaluations 4 --out out --target 1e9 --json
    echo "$output"
    [ "$status" -eq 0 ]
    run python3 - out "$peers" <<<'
import json, sys
sys.path.insert(0, sys.argv[2])
import schedule
train = json.load(open(sys.argv[1] + "/deq/config.json"))["train"]
got = [train[k] for k in ("steps", "warmup_steps", "pretrain_steps", "eval_every")]
assert got == [20, 5, 2, 5], got
for x in map(json.loads, open(sys.argv[1] + "/deq/log.jsonl")):
    if x["event"] == "step":
        assert abs(x["lr"] - schedule.rate(train, x["step"])) <= 1e-12, x
        assert x["layers"] == schedule.layers(train, x["step"]), x
    elif x["event"] == "evaluation":
        assert schedule.evaluates(train, x["step"]), x
'
    echo "$output"
    [ "$status" -eq 0 ]
    run "$peers/learn.py" --deq "$DEQ" --config small.json --programs deq --out out
    [ "$status" -ne 0 ]
    [[ "$output" == *"out/deq is there"* ]]
}

# The log and result of a training in out/$1: updates of $2 s and 10 tokens, an evaluation of 100 s
# after every second one.
fake_training() {
    mkdir -p "out/$1"
    awk -v s="$2" 'BEGIN {
        for (n = 1; n <= 6; n++) {
            printf "{\"event\":\"step\",\"step\":%d,\"tokens\":%d,\"seconds\":%g}\n", n, 10 * n, s
            if (n % 2 == 0)
                printf "{\"event\":\"evaluation\",\"ppl\":%g,\"seconds\":100}\n", 80 / n
        }
    }' >"out/$1/log.jsonl"
    echo "{\"peak_bytes\": $3, \"test_ppl\": $4, \"threads\": 1}" >"out/$1/result.json"
}

@test "learn.py --report: evaluations take no time, ratios are those of the peer to deq" {
    fake_training deq 2 1048576 12
    fake_training torch 5 4194304 18
    run "$peers/learn.py" --report --target 20 --out out --json
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "${lines[2]}" =~ ^\ +20\ +40.00\ +4s\ +40.00\ +10s$ ]]
    [[ "$output" =~ "deq"\ +5\ +12.0\ +13.33\ +12.00\ +8.0\ +1 ]]
    [[ "$output" =~ "torch"\ +2\ +30.0\ +13.33\ +18.00\ +20.0\ +4 ]]
    [[ "$output" =~ "torch / deq"\ +0.40\ +2.50\ +1.000\ +1.500\ +2.50\ +4.00 ]]
    [[ "${lines[-1]}" == '{"target": 20.0, "rows": {'* ]]
    # not reached, by either
    run "$peers/learn.py" --report --target 13 --out out
    [[ "$output" =~ "torch / deq"\ +0.40\ +2.50\ +1.000\ +1.500\ +-\ +4.00 ]]
}

@test "learn.py --report refuses trainings that cannot be compared, and an empty folder" {
    run "$peers/learn.py" --report --out out
    [ "$status" -ne 0 ]
    [[ "$output" == *"out holds no finished training"* ]]
    fake_training deq 2 1048576 12
    fake_training torch 5 4194304 18
    sed -i '$d' out/torch/log.jsonl
    run "$peers/learn.py" --report --out out
    [ "$status" -ne 0 ]
    [[ "$output" == *"cannot be compared"* ]]
}

# need MODULES [NAME]: a Python that has these modules, or the last name of one, or skips.
need() {
    local import="import $1"
    [ "$#" -eq 1 ] || import="from ${1%.*} import ${1##*.}"
    for python in ${PEERS_PYTHON:-python3 /usr/bin/python3}; do
        ! "$python" -c "$import" 2>/dev/null || return 0
    done
    [ "$#" -eq 1 ] || skip "$python has no $2 (pip)"
    skip "$python has no $1 (torch: scripts/deps.sh peers; torchdeq: pip)"
}

@test "the peer of our own in PyTorch computes losses, gradients and updates as deq does" {
    need torch
    for kind in train dropout; do
        "$python" "$root/tests/tools/dump_peer.py" $kind torch $kind.safetensors
        "$DEQ" verify --device ref $kind.safetensors
    done
}

@test "the TorchDEQ peer computes losses, gradients and updates as deq does" {
    need torch,torchdeq
    for kind in train dropout; do
        "$python" "$root/tests/tools/dump_peer.py" $kind torchdeq $kind.safetensors
        "$DEQ" verify --device ref $kind.safetensors
    done
}

@test "the peer of the modern cell computes losses and gradients as deq does" {
    need torch.nn.functional.rms_norm 'torch 2.4'
    for peer in equilibrium explicit; do
        "$python" "$root/tests/tools/dump_peer.py" modern $peer $peer.safetensors
        "$DEQ" verify --device ref $peer.safetensors
    done
}

@test "learn.py trains deq and a peer, and prints both" {
    need torch
    small_config
    run "$peers/learn.py" --deq "$DEQ" --python "$python" --config small.json --threads 1 \
        --programs deq,torch --out out
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" =~ "torch / deq" ]]
    [ -s out/torch/best.pt ]
    run "$python" "$peers/backward_starts.py" out/torch --segments 2 --fit 2 --threads 1
    echo "$output"
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 22 ]
    # six products are nearer to the tight gradient than none, and no cosine is beyond 1
    awk '/^g, 0 / { none = $4 } /^g, 6 / { six = $4 } NR > 1 && $(NF - 1) > 1.0001 { bad = 1 }
        END { exit bad || !(six > none && six > 0.9) }' <<<"$output"
}
