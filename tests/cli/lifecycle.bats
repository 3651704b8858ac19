# How a run is stopped, by signals and by the end of a batch job. (That stopping changes nothing in
# what comes out is tested in tests/run/test_run.c.)

setup_file()
{
    export OMP_NUM_THREADS=1
    data=$BATS_FILE_TMPDIR/data
    "$BATS_TEST_DIRNAME/../tools/sentences.sh" 400 > "$BATS_FILE_TMPDIR/text"
    "$DEQ" tokenize --train "$BATS_FILE_TMPDIR/text" --out "$data"
    config=$BATS_FILE_TMPDIR/tiny.json
    export config
    cat > "$config" <<END
{ "data": { "dir": "$data" },
  "model": { "d_model": 16, "n_head": 2, "d_inner": 32 },
  "train": { "steps": 1000000, "batch": 4, "tgt_len": 12, "mem_len": 8, "log_every": 1,
             "pretrain_steps": 1, "checkpoint_every": 0 } }
END
    mkdir "$BATS_FILE_TMPDIR/bin"
    cat > "$BATS_FILE_TMPDIR/bin/squeue" <<'END'
#!/bin/sh
echo "$@" > "$0.asked"
echo "$TIME_LEFT"
END
    chmod +x "$BATS_FILE_TMPDIR/bin/squeue"
}

# until_true COMMAND...: until it succeeds. The five minutes are for what hangs.
until_true()
{
    for _ in $(seq 15000); do
        ! "$@" || return 0
        sleep 0.02
    done
    return 1
}

# Until the run has said so.
wait_for()
{
    until_true grep -q "$1" "$BATS_TEST_TMPDIR/said"
}

# worked PID TICKS: whether the process has had that much of a processor, in hundredths of a second.
worked()
{
    [ "$(sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }')" -ge "$2" ]
}

# opened PID FILE: whether the process has the file open.
opened()
{
    find "/proc/$1/fd" -lname "$2" 2>/dev/null | grep -q .
}

# Starts a run in the background, as $pid, and waits until it has done a step.
start()
{
    : > "$BATS_TEST_TMPDIR/said"
    "$DEQ" train --config "$config" --out "$BATS_TEST_TMPDIR/run" "$@" 2> "$BATS_TEST_TMPDIR/said" &
    pid=$!
    wait_for "^step"
}

ended()
{
    status=0
    wait "$pid" || status=$?
    echo "status $status: $(cat "$BATS_TEST_TMPDIR/said")"
}

@test "SIGTERM, SIGUSR1 and SIGINT save and exit with 75" {
    set +m
    for signal in TERM USR1; do
        start
        kill -$signal "$pid"
        ended
        [ "$status" -eq 75 ]
        grep -q "asked to stop: saved at step [0-9]* of 1000000; run the same command" \
            "$BATS_TEST_TMPDIR/said"
        "$DEQ" info --check "$BATS_TEST_TMPDIR/run/last.bin"
    done
}

@test "Ctrl-C saves, and says that a second one stops at once" {
    # a shell without job control lets its background processes ignore SIGINT: env takes that back
    env --default-signal=INT "$DEQ" train --config "$config" --out "$BATS_TEST_TMPDIR/run" \
        2> "$BATS_TEST_TMPDIR/said" &
    pid=$!
    wait_for "^step"
    kill -INT "$pid"
    ended
    [ "$status" -eq 75 ]
    grep -q "Ctrl-C again stops at once" "$BATS_TEST_TMPDIR/said"
}

@test "a second Ctrl-C stops at once, and the run goes on from what was saved before" {
    start
    kill -TERM "$pid"
    ended
    "$DEQ" info "$BATS_TEST_TMPDIR/run/last.bin" > "$BATS_TEST_TMPDIR/before"
    # a step that takes half a minute: the first Ctrl-C must wait, the second must not
    env --default-signal=INT "$DEQ" train --config "$config" --out "$BATS_TEST_TMPDIR/run" \
        --set train.pretrain_steps=0 --set solver.forward.max_iter=10000 \
        --set solver.forward.history=64 --set solver.forward.stop=fixed \
        --set solver.backward.max_iter=10000 --set solver.backward.history=64 \
        --set solver.backward.stop=fixed 2> "$BATS_TEST_TMPDIR/said" &
    pid=$!
    wait_for parameters
    until_true worked "$pid" 50 # it is in its first step
    kill -INT "$pid"
    wait_for "Ctrl-C again"
    kill -INT "$pid" 2>/dev/null || true
    ended
    [ "$status" -eq 130 ]
    "$DEQ" info "$BATS_TEST_TMPDIR/run/last.bin" | cmp - "$BATS_TEST_TMPDIR/before"
    start
    kill -TERM "$pid"
    ended
    [ "$status" -eq 75 ]
}

@test "signals that come while large products run harm nothing" {
    # a product library may not bear to be interrupted by a handler; see cmd/signals.h
    start --set model.d_model=128 --set model.n_head=4 --set model.d_inner=512 \
        --set train.batch=16 --set train.tgt_len=64 --set train.checkpoint_every=1
    for i in $(seq 100); do
        kill -USR1 "$pid" 2>/dev/null || break
        sleep 0.005
    done
    ended
    [ "$status" -eq 75 ]
    "$DEQ" info --check "$BATS_TEST_TMPDIR/run/last.bin"
}

@test "the end of a Slurm job is kept to: from its environment, or from squeue" {
    PATH=$BATS_FILE_TMPDIR/bin:$PATH
    SLURM_JOB_ID=7 SLURM_JOB_END_TIME=$(($(date +%s) + 1)) \
        run "$DEQ" train --config "$config" --out "$BATS_TEST_TMPDIR/run"
    [ "$status" -eq 75 ]
    [[ "$output" == *"time limit reached: saved at step"* ]]
    [ ! -e "$BATS_FILE_TMPDIR/bin/squeue.asked" ]
    for left in 0:01 00:00:01 0-00:00:01; do
        SLURM_JOB_ID=7 TIME_LEFT=$left \
            run "$DEQ" train --config "$config" --out "$BATS_TEST_TMPDIR/run"
        [ "$status" -eq 75 ]
        [[ "$output" == *"time limit reached"* ]]
        [ "$(cat "$BATS_FILE_TMPDIR/bin/squeue.asked")" = "-h -o %L -j 7" ]
    done
}

@test "a job with time left, or without a limit, trains on" {
    PATH=$BATS_FILE_TMPDIR/bin:$PATH
    for left in 1-00:00:00 2:00 UNLIMITED NOT_SET INVALID ""; do
        rm -rf "$BATS_TEST_TMPDIR/run"
        SLURM_JOB_ID=7 TIME_LEFT=$left \
            "$DEQ" train --config "$config" --set train.steps=3 --out "$BATS_TEST_TMPDIR/run"
    done
}

@test "--time-limit counts beside the job's end: the earlier one" {
    PATH=$BATS_FILE_TMPDIR/bin:$PATH
    SLURM_JOB_ID=7 TIME_LEFT=0:01 \
        run "$DEQ" train --config "$config" --out "$BATS_TEST_TMPDIR/run" --time-limit 10h
    [ "$status" -eq 75 ]
    SLURM_JOB_ID=7 TIME_LEFT=1-00:00:00 \
        run "$DEQ" train --config "$config" --out "$BATS_TEST_TMPDIR/run" --time-limit 1s
    [ "$status" -eq 75 ]
}

@test "a finished run says that nothing is left to do" {
    "$DEQ" train -q --config "$config" --set train.steps=2 --out "$BATS_TEST_TMPDIR/run"
    run "$DEQ" train --config "$config" --set train.steps=2 --out "$BATS_TEST_TMPDIR/run"
    [ "$status" -eq 0 ]
    [[ "$output" == *"nothing left to do: all 2 steps are done"* ]]
}

@test "a process that is about to end does not keep the next one out" {
    "$DEQ" train -q --config "$config" --set train.steps=2 --out "$BATS_TEST_TMPDIR/run"
    cd "$BATS_TEST_TMPDIR"
    # the lock is given back once the next process has asked for it
    flock run/.lock sh -c ': > held; until [ -e go ]; do sleep 0.01; done' 3>&- &
    until_true [ -e held ]
    "$DEQ" train -q --config "$config" --set train.steps=3 --out run 2> said &
    pid=$!
    until_true opened "$pid" "*/run/.lock"
    : > go
    ended
    [ "$status" -eq 0 ]
    wait
}

@test "a second process in the same folder is refused" {
    start
    run "$DEQ" train --config "$config" --out "$BATS_TEST_TMPDIR/run"
    [ "$status" -eq 73 ]
    [[ "$output" == *"another process is training in it"* ]]
    kill -TERM "$pid"
    ended
    [ "$status" -eq 75 ]
}
