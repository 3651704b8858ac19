# Several processes with a GPU each: the real program on emulated devices and an emulated NCCL
# (tests/emu/nccl.cpp), under mpirun.

bats_require_minimum_version 1.5.0

load ranks

setup_file()
{
    find_mpi
    export PROGRAM="${DEQ%/*}/emu/deq"
    [ -x "$PROGRAM" ] || export why="no emulated program ($PROGRAM): make emu"
    [ -z "$why" ] || return 0
    export DEQ_EMU_QUIET=1 # refused calls are the program's to explain
    export DEQ_EMU_DEVICES=4 DEQ_EMU_NCCL_DIR=$BATS_FILE_TMPDIR
    unset NCCL_NVLS_ENABLE
    make_config <<END
  "train": { "steps": 4, "batch": 8, "tgt_len": 6, "mem_len": 4, "warmup_steps": 2, "lr": 5e-3,
             "accumulate": 2, "pretrain_steps": 0, "eval_every": 0, "checkpoint_every": 2,
             "schedule": "constant" },
  "solver": { "forward": { "max_iter": 4 }, "backward": { "max_iter": 4 } },
  "eval": { "batch": 32, "tgt_len": 6, "mem_len": 4, "max_iter": 4 } }
END
    on_gpu 1 "$runs/one"
    on_gpu 2 "$runs/two"
    on_gpu 4 "$runs/four"
}

setup()
{
    [ -z "$why" ] || skip "$why"
}

# on_gpu RANKS DIR [OPTION]...
on_gpu()
{
    local n=$1 dir=$2
    shift 2
    train "$n" "$dir" --device cuda "$@"
}

# one_differs RANK NAME=VALUE ARGUMENT...: `deq train` in two processes, of which that one has more
# in its environment. DEVICE is cuda unless it is set.
one_differs()
{
    local rank=$1 setting=$2
    shift 2
    timeout 300 mpirun -np 2 sh -c 'r=$1 s=$2; shift 2
        [ "$OMPI_COMM_WORLD_RANK" != "$r" ] || export "$s"; exec "$@"' sh "$rank" "$setting" \
        "$PROGRAM" train --config "$config" --device "${DEVICE:-cuda}" "$@"
}

# The tolerance is that of ranks.bats for float32, from as many steps at the same rate or more.
@test "2 and 4 processes have the losses of one, to 5e-4; 2 equal parts and 4 unequal ones" {
    close "$runs/one" "$runs/two" 5e-4 5
    close "$runs/one" "$runs/four" 5e-4 5
    [ "$(digest "$runs/one/last.bin")" != "$(digest "$runs/four/last.bin")" ] # they did divide it
}

@test "two runs of 2 processes are the same, bit for bit, whatever runs first on a device" {
    DEQ_EMU_ORDER=shuffled on_gpu 2 "$BATS_TEST_TMPDIR/again"
    [ "$(digest "$BATS_TEST_TMPDIR/again/last.bin")" = "$(digest "$runs/two/last.bin")" ]
    close "$BATS_TEST_TMPDIR/again" "$runs/two" 0 5
    DEQ_EMU_ORDER=descending on_gpu 4 "$BATS_TEST_TMPDIR/four"
    [ "$(digest "$BATS_TEST_TMPDIR/four/last.bin")" = "$(digest "$runs/four/last.bin")" ]
    # sums that switches make have no order: so they are turned off where nothing is said
    NCCL_NVLS_ENABLE=1 on_gpu 4 "$BATS_TEST_TMPDIR/switch"
    [ "$(digest "$BATS_TEST_TMPDIR/switch/last.bin")" != "$(digest "$runs/four/last.bin")" ]
}

@test "train.zero gives the same bits, with equal parts and unequal ones" {
    for n in 2 4; do
        for zero in true false; do
            on_gpu $n "$BATS_TEST_TMPDIR/$zero$n" --set train.zero=$zero --set train.steps=2 \
                --set train.optimizer=adamw --set train.weight_decay=0.1
        done
        [ "$(digest "$BATS_TEST_TMPDIR/true$n/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/false$n/last.bin")" ]
    done
}

# The parts of 2 processes cut through matrices, and 4 processes share them unequally. Every process
# makes whole matrices orthogonal, from the momentum of all.
@test "muon with train.zero gives the same bits, which are another update, and the states come back" {
    muon="--set train.optimizer=muon --set train.weight_decay=0.1 --set train.steps=2"
    for n in 2 4; do
        for zero in true false; do
            # shellcheck disable=SC2086
            on_gpu $n "$BATS_TEST_TMPDIR/$zero$n" --set train.zero=$zero $muon
        done
        [ "$(digest "$BATS_TEST_TMPDIR/true$n/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/false$n/last.bin")" ]
        # shellcheck disable=SC2086
        on_gpu $n "$BATS_TEST_TMPDIR/true$n" --set train.zero=false $muon --set train.steps=3
        # shellcheck disable=SC2086
        on_gpu $n "$BATS_TEST_TMPDIR/false$n" --set train.zero=true $muon --set train.steps=3
        [ "$(digest "$BATS_TEST_TMPDIR/true$n/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/false$n/last.bin")" ]
    done
    run ! close "$BATS_TEST_TMPDIR/true2" "$runs/two" 1e-3 5
}

@test "a run of 2 goes on with 2 bit for bit, and with 1 to rounding" {
    for n in 2 1; do
        on_gpu 2 "$BATS_TEST_TMPDIR/$n" --set train.steps=2
        on_gpu $n "$BATS_TEST_TMPDIR/$n"
        # the evaluation at step 2, the end of the first part, is one more
        sed -i '/"event":"evaluation","step":2,/d' "$BATS_TEST_TMPDIR/$n/log.jsonl"
        close "$runs/two" "$BATS_TEST_TMPDIR/$n" 5e-4 5
    done
    [ "$(digest "$BATS_TEST_TMPDIR/2/last.bin")" = "$(digest "$runs/two/last.bin")" ]
}

# Two numbers have one sum in either order.
@test "without NCCL, on one or all, gradients go by way of the host: the same bits, and it says so" {
    DEQ_EMU_NCCL=0 timeout 300 mpirun -np 2 "$PROGRAM" train --config "$config" --device cuda \
        --out "$BATS_TEST_TMPDIR/host" 2> "$BATS_TEST_TMPDIR/said"
    cat "$BATS_TEST_TMPDIR/said"
    [ "$(grep -c "by way of the host's memory (slow: no NCCL: .*libnccl.so.2" "$BATS_TEST_TMPDIR/said")" -eq 1 ]
    [ "$(digest "$BATS_TEST_TMPDIR/host/last.bin")" = "$(digest "$runs/two/last.bin")" ]
    one_differs 1 DEQ_EMU_NCCL=0 --out "$BATS_TEST_TMPDIR/half" --set train.zero=true \
        2> "$BATS_TEST_TMPDIR/said"
    [ "$(grep -c "by way of the host's memory (slow: process 1 lacks NCCL 2" "$BATS_TEST_TMPDIR/said")" -eq 1 ]
    [ "$(digest "$BATS_TEST_TMPDIR/half/last.bin")" = "$(digest "$runs/two/last.bin")" ]
}

@test "sums that span several buckets, by NCCL and by the host" {
    for n in 2 3 4; do
        run timeout 300 mpirun -np $n "${PROGRAM%/*}/dist_sums"
        echo "$output"
        [ "$status" -eq 0 ]
        [[ "$output" == "$n ranks over "*" and NCCL 2"*" 4 buckets, 0 wrong" ]]
    done
    DEQ_EMU_NCCL=0 run timeout 300 mpirun -np 3 "${PROGRAM%/*}/dist_sums"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == "3 ranks over "*"by way of the host's memory"*" 4 buckets, 0 wrong" ]]
}

@test "a process without a GPU of its own: one error, with the remedy, and nothing is made" {
    DEQ_EMU_DEVICES=1 run on_gpu 2 "$BATS_TEST_TMPDIR/run"
    echo "$output"
    [ "$status" -eq 69 ]
    [ "$(grep -c "2 processes have 1 GPU: processes 0 and 1 would share one (emulated" <<< "$output")" -eq 1 ]
    [ ! -e "$BATS_TEST_TMPDIR/run" ]
    DEQ_EMU_DEVICES=2 run on_gpu 4 "$BATS_TEST_TMPDIR/run"
    [ "$status" -eq 69 ]
    [ "$(grep -c "4 processes have 2 GPUs: processes 0 and 2 would share one" <<< "$output")" -eq 1 ]
    run one_differs 1 CUDA_VISIBLE_DEVICES= --out "$BATS_TEST_TMPDIR/run"
    [ "$status" -eq 69 ]
    [ "$(grep -c "no CUDA device is visible" <<< "$output")" -eq 1 ]
    DEVICE=auto run one_differs 1 CUDA_VISIBLE_DEVICES= --out "$BATS_TEST_TMPDIR/run"
    [ "$status" -eq 69 ]
    [ "$(grep -c "process 1 would train on cpu and process 0 on cuda" <<< "$output")" -eq 1 ]
    [ ! -e "$BATS_TEST_TMPDIR/run" ]
}

@test "processes that see one GPU each, another one, take that" {
    CUDA_VISIBLE_DEVICES=0 one_differs 1 CUDA_VISIBLE_DEVICES=1 -q --out "$BATS_TEST_TMPDIR/run"
    [ "$(digest "$BATS_TEST_TMPDIR/run/last.bin")" = "$(digest "$runs/two/last.bin")" ]
}

@test "NCCL that cannot connect: one error" {
    run one_differs 1 DEQ_EMU_NCCL_FAIL=1 --out "$BATS_TEST_TMPDIR/run"
    echo "$output"
    [ "$status" -eq 69 ]
    [ "$(grep -c "process 1 of 2: NCCL cannot connect 2 processes: unhandled system error .*: told to" <<< "$output")" -eq 1 ]
    [ ! -e "$BATS_TEST_TMPDIR/run" ]
}

# The last checkpoint is of step 2. A step makes two calls, to sum and to share.
@test "a call of NCCL that fails, or never ends, ends the job with one error and a good checkpoint" {
    on_gpu 2 "$BATS_TEST_TMPDIR/before" --set train.steps=2
    good=$(digest "$BATS_TEST_TMPDIR/before/last.bin")
    for fault in "0 DEQ_EMU_NCCL_FAIL=2" "1 DEQ_EMU_NCCL_FAIL=5" "0 DEQ_EMU_NCCL_LOSE=4" \
        "1 DEQ_EMU_NCCL_LOSE=3" "1 DEQ_EMU_LOSE_AT=2500"; do
        rm -rf "$BATS_TEST_TMPDIR/run"
        cp -r "$BATS_TEST_TMPDIR/before" "$BATS_TEST_TMPDIR/run"
        run one_differs ${fault% *} ${fault#* } --set train.steps=1000000 \
            --set train.checkpoint_every=0 --out "$BATS_TEST_TMPDIR/run"
        echo "$fault: $status: $output"
        [ "$status" -eq 69 ]
        [ "$(grep -c "^deq train: " <<< "$output")" -eq 1 ]
        [[ "$output" == *"process ${fault%% *} of 2: device cuda failed in "* ]]
        [[ "$fault" != *NCCL* || "$output" == *"failed in copy: NCCL (checkpoints written before are good): "*" error"* ]]
        [ "$(digest "$BATS_TEST_TMPDIR/run/last.bin")" = "$good" ]
    done
}

@test "a process that dies ends the job; the run goes on from its checkpoint" {
    start_two --device cuda --out "$BATS_TEST_TMPDIR/run" --set train.steps=1000000
    wait_for [ -s "$BATS_TEST_TMPDIR/run/last.bin" ]
    kill -KILL "$(cat "$BATS_TEST_TMPDIR/pid.1")"
    end_of_two
    [ "$status" -ne 0 ]
    grep -q "rank 1.*signal 9" "$BATS_TEST_TMPDIR/said"
    steps=$("$DEQ" info --json "$BATS_TEST_TMPDIR/run/last.bin" | grep -o '"step":[0-9]*' | sed 1q)
    on_gpu 2 "$BATS_TEST_TMPDIR/run" --set train.steps=$((${steps#*:} + 1))
}
