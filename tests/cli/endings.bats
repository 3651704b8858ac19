#!/usr/bin/env bats
# However a training ends, what it learned is saved, and files of others stay as they are.

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    awk 'BEGIN { for (i = 0; i < 500; i++) print "a ship sails to harbour number", i % 11 }' >text
    "$DEQ" tokenize --train text --out data
    cat >sea.json <<CONFIG
{ "data": { "dir": "$home/data" },
  "model": { "d_model": 12, "n_head": 2, "d_inner": 24, "init_std": 0.1 },
  "train": { "steps": 6, "batch": 3, "tgt_len": 10, "mem_len": 6, "pretrain_steps": 2,
             "log_every": 1, "checkpoint_every": 0 } }
CONFIG
    "$DEQ" train -q --config sea.json --out done
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
}

# wait_for TEXT FILE. The limit of five minutes only guards against what hangs.
wait_for()
{
    local end=$((SECONDS + 300))
    until grep -qs "$1" "$2"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.02
    done
}

# start [OPTION]...: a run without end, as $pid, that has done a step.
start()
{
    env --default-signal "$DEQ" train -q --config "$home/sea.json" --set train.steps=90000000 \
        --out run "$@" 3>&- &
    pid=$!
    wait_for '"event":"step"' run/log.jsonl
}

ended()
{
    status=0
    wait "$pid" || status=$?
}

@test "every signal that ends a job saves first" {
    for signal in HUP INT QUIT TERM USR1 USR2 XCPU ALRM; do
        rm -rf run
        start
        kill -$signal "$pid"
        ended
        [ "$status" -eq 75 ]
        "$DEQ" info --check run/last.bin >info
    done
}

@test "nohup keeps a run alive when the connection breaks off" {
    (trap '' HUP; exec "$DEQ" train -q --config "$home/sea.json" --set train.steps=90000000 \
        --out run 3>&-) &
    pid=$!
    wait_for '"step":3' run/log.jsonl
    kill -HUP "$pid"
    lines=$(wc -l <run/log.jsonl)
    wait_for "\"step\":$((lines + 20))," run/log.jsonl
    kill -TERM "$pid"
    ended
    [ "$status" -eq 75 ]
}

@test "the same signal again ends at once, but not one that is sent twice by its sender" {
    start
    kill -TERM "$pid" "$pid" # as timeout does, which signals the process and its group
    ended
    [ "$status" -eq 75 ]
    "$DEQ" info --check run/last.bin >info
    # Steps that take very long, so that the first signal has to wait.
    env --default-signal "$DEQ" train --config "$home/sea.json" --set train.steps=90000000 \
        --set solver.forward.max_iter=10000 --set train.pretrain_steps=0 --set train.batch=30 \
        --set train.tgt_len=80 --set solver.forward.history=64 --out long 2>said 3>&- &
    pid=$!
    wait_for parameters said
    : >"long/best.bin.tmp-$pid-0"
    : >"long/notes.tmp-1-0"
    # However late the program hears of the first one, a later one comes long enough after it.
    while kill -HUP "$pid" 2>/dev/null; do sleep 0.8; done
    ended
    [ "$status" -eq 129 ]
    [ ! -e "long/best.bin.tmp-$pid-0" ]
    [ -e long/notes.tmp-1-0 ]
}

@test "a log that nobody reads any more saves and stops" {
    { "$DEQ" train --config "$home/sea.json" --set train.steps=90000000 --out run || echo $? >code; } 2>&1 |
        head -n 1
    wait_for . code
    [ "$(cat code)" -eq 75 ]
    "$DEQ" info --check run/last.bin >info
}

@test "a reader who leaves ends a sample quietly" {
    "$DEQ" sample --checkpoint "$home/done/last.bin" --prompt a --tokens 200000 2>said | head -n 1
    [ "${PIPESTATUS[0]}" -eq 0 ]
    ! grep -q "cannot write" said
}

@test "results of a closed or full output are still a failure" {
    run bash -c "'$DEQ' sample --checkpoint '$home/done/last.bin' --prompt a --tokens 2 2>&1 >&-"
    [ "$status" -eq 74 ]
    run bash -c "'$DEQ' info '$home/done/last.bin' 2>&1 >/dev/full"
    [ "$status" -eq 74 ]
}

@test "closed descriptors do not bring messages into files" {
    "$DEQ" train --config "$home/sea.json" --out run <&- >&- 2>&-
    [ "$(grep -cv '^{' run/log.jsonl)" -eq 0 ]
    "$DEQ" train --config "$home/sea.json" --set train.steps=12 --out run 2>&-
    [ ! -s run/.lock ]
    [ "$(grep -c '"event":"step"' run/log.jsonl)" -eq 12 ]
}

@test "files of others in the folder of a run do not matter and stay" {
    mkdir run
    "$DEQ" train --config "$home/sea.json" --out run >run/batch-77.out 2>&1
    echo precious >run/notes
    "$DEQ" train -q --config "$home/sea.json" --set train.steps=8 --out run
    grep -q "step 6/6" run/batch-77.out
    [ "$(cat run/notes)" = precious ]
    # What the run itself would write over is a reason to refuse.
    mkdir other
    cp "$home/done/last.bin" other
    run "$DEQ" train -q --config "$home/sea.json" --out other
    [ "$status" -eq 73 ]
    [[ "$output" == *"other: holds last.bin but no config.json"* ]]
    [ "$(ls other)" = last.bin ]
}

@test "pipes and links in place of files never hang, and what links name stays" {
    mkdir run
    mkfifo run/log.jsonl
    run timeout 300 "$DEQ" train -q --config "$home/sea.json" --out run
    [ "$status" -eq 73 ]
    cp "$home/done/log.jsonl" old
    for link in "ln -s" ln; do
        rm -rf one
        cp -r "$home/done" one
        rm one/log.jsonl
        $link "$PWD/old" one/log.jsonl
        before=$(cksum <old)
        "$DEQ" train -q --config "$home/sea.json" --set train.steps=8 --out one
        [ "$(cksum <old)" = "$before" ]
        [ ! -L one/log.jsonl ]
        [ "$(grep -c '"event":"step"' one/log.jsonl)" -eq 8 ]
    done
    mkfifo one/pipe.bin
    for command in "info one/pipe.bin" "eval one/pipe.bin" "sample --checkpoint one/pipe.bin --prompt a" \
        "export one/pipe.bin --out x" "train --config $home/sea.json --resume one/pipe.bin --out r" \
        "tokenize --train $home/text --vocab one/pipe.bin --out d" "verify one/pipe.bin"; do
        # shellcheck disable=SC2086
        run timeout 300 "$DEQ" $command
        [ "$status" -eq 66 ] || { echo "$command: $status $output"; return 1; }
    done
}

@test "a device or a pipe is not replaced by a file" {
    mkfifo pipe.bin
    "$DEQ" export "$home/done/last.bin" --out w
    run timeout 300 "$DEQ" import w --out pipe.bin --force
    [ "$status" -eq 73 ]
    [[ "$output" == *"pipe.bin: is a pipe, not a file"* ]]
    [ -p pipe.bin ]
}
