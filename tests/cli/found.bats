#!/usr/bin/env bats
# What a command takes when less than everything is said: the run, its checkpoint, the threads.

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    cd "$home"
    awk 'BEGIN { for (i = 0; i < 400; i++) print "seven owls watch the moon of", i % 9 }' >text
    "$DEQ" tokenize --train text --out alone
    "$DEQ" tokenize --train text --valid text --out data
    cat >owl.json <<CONFIG
{ "data": { "dir": "$home/data" },
  "model": { "d_model": 12, "n_head": 2, "d_inner": 24, "init_std": 0.1 },
  "train": { "steps": 6, "batch": 3, "tgt_len": 10, "mem_len": 6, "pretrain_steps": 2,
             "log_every": 1, "checkpoint_every": 0 },
  "eval": { "batch": 2, "tgt_len": 10, "mem_len": 6, "max_iter": 8 } }
CONFIG
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
}

@test "without validation text, sample, eval and export take last.bin" {
    "$DEQ" train -q --config "$home/owl.json" --set data.dir="$home/alone" --out runs/owl
    [ ! -e runs/owl/best.bin ]
    run "$DEQ" sample --prompt seven --tokens 3
    [ "$status" -eq 0 ]
    [[ "$output" == *"using runs/owl/last.bin"* ]]
    for name in runs/owl runs/owl/best.bin; do
        run "$DEQ" eval "$name" --split train
        [ "$status" -eq 0 ]
        [[ "$output" == *"using runs/owl/last.bin"* ]]
        "$DEQ" sample --checkpoint "$name" --prompt seven --tokens 3
        "$DEQ" export "$name" --out w --force
    done
    # Between runs the newest counts, and within one the best.
    "$DEQ" train -q --config "$home/owl.json" --out runs/with
    run "$DEQ" sample --prompt seven --tokens 3
    [[ "$output" == *"using runs/with/best.bin"* ]]
    run "$DEQ" eval runs/none
    [ "$status" -eq 66 ]
    mkdir runs/empty
    run "$DEQ" eval runs/empty
    [ "$status" -eq 66 ]
    [[ "$output" == *"a folder without best.bin or last.bin"* ]]
}

@test "the config.json of a run means that run" {
    "$DEQ" train -q --config "$home/owl.json" --out mine/owl
    run "$DEQ" train --config mine/owl/config.json --set train.steps=8
    [ "$status" -eq 0 ]
    [[ "$output" == *"continuing from mine/owl/last.bin at step 6"* ]]
    [ ! -e runs ]
    (cd mine/owl && "$DEQ" train -q --config config.json --set train.steps=9)
    [ "$(grep -c '"event":"step"' mine/owl/log.jsonl)" -eq 9 ]
    # A file of that name that belongs to no run is a configuration like others.
    mkdir plain
    cp "$home/owl.json" plain/config.json
    "$DEQ" train -q --config plain/config.json
    [ -e runs/config/last.bin ]
}

# threads_of WANTED ENV...: how many threads encode a text that does not come yet. It waits for as
# many as are wanted, and then a moment for more.
threads_of()
{
    local wanted=$1 end=$((SECONDS + 300))
    shift
    rm -rf pipe d
    mkfifo pipe
    env "$@" "$DEQ" tokenize --train "$home/text" --valid pipe --out d ${asked:+--threads $asked} \
        >said 3>&- &
    pid=$!
    exec 9<>pipe # waits for nobody, whatever becomes of deq
    until [ "$(ls "/proc/$pid/task" | wc -l)" -ge "$wanted" ] && ls -l "/proc/$pid/fd" | grep -q /pipe; do
        [ "$SECONDS" -lt "$end" ] || break
        sleep 0.02
    done
    sleep 0.5
    count=$(ls "/proc/$pid/task" | wc -l)
    echo "seven owls" >&9
    exec 9>&-
    wait "$pid"
}

@test "tokenize heeds --threads, OMP_NUM_THREADS and the processors it may use" {
    one=$(taskset -cp $$ | sed 's/.*: \([0-9]*\).*/\1/')
    asked=3 threads_of 3 OMP_NUM_THREADS=1
    [ "$count" -eq 3 ]
    asked= threads_of 1 OMP_NUM_THREADS=1
    [ "$count" -eq 1 ]
    asked= threads_of 2 OMP_NUM_THREADS=2
    [ "$count" -eq 2 ]
    asked= threads_of 1 -u OMP_NUM_THREADS taskset -c "$one"
    [ "$count" -eq 1 ]
    asked= threads_of 1 OMP_NUM_THREADS=4 OMP_THREAD_LIMIT=1
    [ "$count" -eq 1 ]
}
