# Several processes that train one model, with the real program under mpirun.

bats_require_minimum_version 1.5.0

load ranks

setup_file()
{
    find_mpi
    [ -z "$why" ] || return 0
    make_config <<END
  "train": { "steps": 12, "batch": 8, "tgt_len": 12, "mem_len": 8, "warmup_steps": 4, "lr": 5e-3,
             "accumulate": 2, "pretrain_steps": 0, "eval_every": 6, "checkpoint_every": 4 },
  "eval": { "batch": 4, "tgt_len": 12, "mem_len": 8, "max_iter": 12 } }
END
    train 1 "$runs/one"
    train 2 "$runs/two"
    train 4 "$runs/four"
}

setup()
{
    [ -z "$why" ] || skip "$why"
}

# In float64 sums in another order differ by about 1e-16 of a gradient; 12 steps of Adam at a rate of
# 5e-3, whose early steps divide a gradient by its own size, amplify that by less than 1e4. An error
# of division (a stream read twice, another mask, a wrong scale) shows at 1e-3.
@test "2 and 4 processes have the losses of one, in float64 to 1e-12" {
    for n in 1 2 4; do
        train $n "$BATS_TEST_TMPDIR/$n" --device ref
    done
    close "$BATS_TEST_TMPDIR/1" "$BATS_TEST_TMPDIR/2" 1e-12 14
    close "$BATS_TEST_TMPDIR/1" "$BATS_TEST_TMPDIR/4" 1e-12 14
}

@test "and so with a loss at earlier iterates" {
    for n in 1 4; do
        train $n "$BATS_TEST_TMPDIR/$n" --device ref --set correction.weight=0.3 \
            --set correction.at=2,4
    done
    close "$BATS_TEST_TMPDIR/1" "$BATS_TEST_TMPDIR/4" 1e-12 14
    run ! close "$BATS_TEST_TMPDIR/1" "$runs/one" 1e-3 14
}

@test "and so with numbers of applications and starts that are drawn for each sequence" {
    for n in 1 2 4; do
        train $n "$BATS_TEST_TMPDIR/$n" --device ref --set gradient.method=truncated \
            --set gradient.mean=6 --set gradient.spread=0.5 --set train.start_noise=0.5
    done
    close "$BATS_TEST_TMPDIR/1" "$BATS_TEST_TMPDIR/2" 1e-12 14
    close "$BATS_TEST_TMPDIR/1" "$BATS_TEST_TMPDIR/4" 1e-12 14
    run ! close "$BATS_TEST_TMPDIR/1" "$runs/one" 1e-3 14
    for n in 2 4; do # the mean over all sequences, and the largest number of them all
        for what in evals_mean evals_max; do
            paste <(grep -o "\"$what\":[0-9.]*" "$BATS_TEST_TMPDIR/1/log.jsonl") \
                <(grep -o "\"$what\":[0-9.]*" "$BATS_TEST_TMPDIR/$n/log.jsonl")
        done
    done | awk '{ split($1, a, ":"); split($2, b, ":"); d = a[2] - b[2]
                  if (!(d < 1e-9 && d > -1e-9)) bad++; n++ } END { exit !(n > 90 && !bad) }'
}

# Each process draws directions of its own, so that the penalty and its gradient, which a weight of 100
# makes the whole gradient, are other samples of the same: measured, they differ by 8 %. A wrong scale
# would be one of 2 or 4.
@test "the penalty of the Jacobian and its gradient have the size that one process gives them" {
    for form in exact difference; do
        for n in 1 2 4; do
            train $n "$BATS_TEST_TMPDIR/$form$n" --device ref --set train.steps=1 \
                --set train.eval_every=0 --set model.dropout=0 --set model.dropatt=0 \
                --set jacobian.weight=100 --set jacobian.probability=1 --set jacobian.form=$form
            sed -n 's/.*"grad_norm":\([-0-9.e]*\).*"penalty":\([-0-9.e]*\).*/\1 \2/p' \
                "$BATS_TEST_TMPDIR/$form$n/log.jsonl"
        done
    done > "$BATS_TEST_TMPDIR/sizes"
    cat "$BATS_TEST_TMPDIR/sizes"
    awk 'NR % 3 == 1 { g = $1; p = $2 }
         { a = $1 / g; b = $2 / p; if (!(a > 0.7 && a < 1.4 && b > 0.7 && b < 1.4)) bad++; n++ }
         END { exit !(n == 6 && !bad) }' "$BATS_TEST_TMPDIR/sizes"
}

# Float32 rounds 5e8 times as coarsely: 1e-12 becomes 5e-4.
@test "and in float32 to 5e-4" {
    close "$runs/one" "$runs/two" 5e-4 14
    close "$runs/one" "$runs/four" 5e-4 14
}

@test "two runs of 2 processes are the same, bit for bit" {
    train 2 "$BATS_TEST_TMPDIR/again"
    [ "$(digest "$BATS_TEST_TMPDIR/again/last.bin")" = "$(digest "$runs/two/last.bin")" ]
    close "$BATS_TEST_TMPDIR/again" "$runs/two" 0 14
}

@test "one process writes: files and log are those of a run of one" {
    [ "$(ls "$runs/one")" = "$(ls "$runs/two")" ]
    [ "$(grep -c '"event":"step"' "$runs/two/log.jsonl")" -eq 12 ]
    "$DEQ" info --check "$runs/two/last.bin" > "$BATS_TEST_TMPDIR/two"
    "$DEQ" info --check "$runs/one/last.bin" > "$BATS_TEST_TMPDIR/one"
    # the same sections, the segment memory of all streams among them
    diff <(awk '/^  (u8|f32)/ { print $1, $2, $NF }' "$BATS_TEST_TMPDIR/one" | grep -v state) \
        <(awk '/^  (u8|f32)/ { print $1, $2, $NF }' "$BATS_TEST_TMPDIR/two" | grep -v state)
}

@test "a run of 2 goes on with 2 bit for bit, and with 4 and 1 to rounding" {
    for n in 2 4 1; do
        train 2 "$BATS_TEST_TMPDIR/$n" --set train.steps=4 --set train.schedule=constant \
            --set train.eval_every=6
        train $n "$BATS_TEST_TMPDIR/$n" --set train.schedule=constant 2> "$BATS_TEST_TMPDIR/said"
    done
    train 2 "$BATS_TEST_TMPDIR/whole" --set train.schedule=constant
    [ "$(digest "$BATS_TEST_TMPDIR/2/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/whole/last.bin")" ]
    # the evaluation at step 4, the end of the first part, is one more
    for n in 4 1; do
        sed -i '/"event":"evaluation","step":4,/d' "$BATS_TEST_TMPDIR/$n/log.jsonl"
        close "$BATS_TEST_TMPDIR/whole" "$BATS_TEST_TMPDIR/$n" 5e-4 14
    done
}

@test "another number of processes says what it changes" {
    cp -r "$runs/two" "$BATS_TEST_TMPDIR/run"
    run "$DEQ" train --config "$config" --out "$BATS_TEST_TMPDIR/run" --set train.steps=13
    [ "$status" -eq 0 ]
    [[ "$output" == *"now 1 processes, before 2: batches, masks"* ]]
}

@test "train.zero gives the same bits, also when continued, also by other numbers of processes" {
    train 2 "$BATS_TEST_TMPDIR/zero" --set train.zero=true --set train.optimizer=adamw \
        --set train.weight_decay=0.1 --set train.ema=0.9
    train 2 "$BATS_TEST_TMPDIR/plain" --set train.optimizer=adamw --set train.weight_decay=0.1 --set train.ema=0.9
    [ "$(digest "$BATS_TEST_TMPDIR/zero/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/plain/last.bin")" ]
    close "$BATS_TEST_TMPDIR/zero" "$BATS_TEST_TMPDIR/plain" 0 14
    for zero in true false; do
        for n in 4; do
            cp -r "$BATS_TEST_TMPDIR/zero" "$BATS_TEST_TMPDIR/$zero$n"
            train $n "$BATS_TEST_TMPDIR/$zero$n" --set train.zero=$zero --set train.steps=16 \
                --set train.optimizer=adamw --set train.weight_decay=0.1 --set train.ema=0.9
        done
    done
    [ "$(digest "$BATS_TEST_TMPDIR/true4/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/false4/last.bin")" ]
}

# Muon's iteration raises rounding errors, which Adam's first steps do as well.
@test "muon: 2 and 4 processes have the losses of one, in float64 to 1e-12, and train.zero the same bits" {
    muon="--set train.optimizer=muon --set train.weight_decay=0.1 --set train.cautious_decay=true"
    # shellcheck disable=SC2086
    for n in 1 2 4; do
        train $n "$BATS_TEST_TMPDIR/$n" --device ref $muon
        train $n "$BATS_TEST_TMPDIR/zero$n" --device ref $muon --set train.zero=true
    done
    close "$BATS_TEST_TMPDIR/1" "$BATS_TEST_TMPDIR/2" 1e-12 14
    close "$BATS_TEST_TMPDIR/1" "$BATS_TEST_TMPDIR/4" 1e-12 14
    run ! close "$BATS_TEST_TMPDIR/1" "$runs/one" 1e-3 14
    for n in 2 4; do
        [ "$(digest "$BATS_TEST_TMPDIR/zero$n/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/$n/last.bin")" ]
    done
    # the states of all processes come back, to any number of them
    for n in 1 4; do
        cp -r "$BATS_TEST_TMPDIR/zero2" "$BATS_TEST_TMPDIR/on$n"
        # shellcheck disable=SC2086
        train $n "$BATS_TEST_TMPDIR/on$n" --device ref $muon --set train.zero=true --set train.steps=16
    done
    close "$BATS_TEST_TMPDIR/on1" "$BATS_TEST_TMPDIR/on4" 1e-12 19
}

@test "a signal to one process stops all, saved, with exit code 75" {
    start_two --out "$BATS_TEST_TMPDIR/run" --set train.steps=1000000 --set train.eval_every=0 \
        --set train.checkpoint_every=0
    wait_for grep -q "^step" "$BATS_TEST_TMPDIR/said"
    kill -USR1 "$(cat "$BATS_TEST_TMPDIR/pid.1")" # not the one that writes
    end_of_two
    [ "$status" -eq 75 ]
    [ "$(grep -c "asked to stop: saved at step" "$BATS_TEST_TMPDIR/said")" -eq 1 ]
    "$DEQ" info --check "$BATS_TEST_TMPDIR/run/last.bin"
}

@test "a process that dies ends the job; the run goes on from its checkpoint" {
    for victim in 0 1; do
        start_two --out "$BATS_TEST_TMPDIR/run" --set train.steps=1000000 \
            --set train.eval_every=0 --set train.checkpoint_every=2
        wait_for grep -q "^step" "$BATS_TEST_TMPDIR/said"
        wait_for [ -s "$BATS_TEST_TMPDIR/run/last.bin" ]
        kill -KILL "$(cat "$BATS_TEST_TMPDIR/pid.$victim")"
        end_of_two
        [ "$status" -ne 0 ]
        [ "$status" -ne 124 ] # timeout's
        grep -q "rank $victim.*signal 9" "$BATS_TEST_TMPDIR/said"
        "$DEQ" info --check "$BATS_TEST_TMPDIR/run/last.bin"
    done
    steps=$("$DEQ" info --json "$BATS_TEST_TMPDIR/run/last.bin" | grep -o '"step":[0-9]*' | sed 1q)
    steps=${steps#*:}
    train 2 "$BATS_TEST_TMPDIR/run" --set train.steps=$((steps + 2)) --set train.eval_every=0
}

# The limit is far above what a loaded machine makes of beats each quarter of a second.
@test "a process that freezes ends the job, which names it, and leaves the checkpoint before" {
    for victim in 1 0; do
        rm -f "$BATS_TEST_TMPDIR/said" "$BATS_TEST_TMPDIR/run/last.bin"
        start_two --out "$BATS_TEST_TMPDIR/run" --set train.steps=1000000 --peer-timeout 3 \
            --set train.eval_every=0 --set train.checkpoint_every=2
        wait_for [ -s "$BATS_TEST_TMPDIR/run/last.bin" ]
        kill -STOP "$(cat "$BATS_TEST_TMPDIR/pid.$victim")"
        end_of_two
        [ "$status" -eq 69 ]
        [ "$(grep -c "^deq train: process $victim of 2 (.*) has not been heard of for [3-9] s: " "$BATS_TEST_TMPDIR/said")" -eq 1 ]
        [ "$(grep -c "has not been heard of" "$BATS_TEST_TMPDIR/said")" -eq 1 ]
        "$DEQ" info --check "$BATS_TEST_TMPDIR/run/last.bin"
    done
}

# stop_and_go PIDS SECONDS OPTION...: trains with these options, stops these processes for so long,
# and then asks all to save. Sets threads, how many process 0 has.
stop_and_go()
{
    local ranks=$1 seconds=$2
    shift 2
    rm -f "$BATS_TEST_TMPDIR/said"
    start_two --out "$BATS_TEST_TMPDIR/run" --set train.steps=1000000 --set train.eval_every=0 \
        --set train.checkpoint_every=0 "$@"
    wait_for grep -q "^step" "$BATS_TEST_TMPDIR/said"
    threads=$(find "/proc/$(cat "$BATS_TEST_TMPDIR/pid.0")/task" -mindepth 1 -maxdepth 1 | wc -l)
    for r in $ranks; do kill -STOP "$(cat "$BATS_TEST_TMPDIR/pid.$r")"; done
    sleep "$seconds"
    for r in $ranks; do kill -CONT "$(cat "$BATS_TEST_TMPDIR/pid.$r")"; done
    kill -USR1 "$(cat "$BATS_TEST_TMPDIR/pid.1")"
    end_of_two
}

@test "a process that is stopped for less goes on, and so do all after a night's sleep" {
    stop_and_go 1 1 --peer-timeout 20
    [ "$status" -eq 75 ]
    watched=$threads
    stop_and_go "0 1" 5 --peer-timeout 3
    [ "$status" -eq 75 ]
    stop_and_go 0 1 --peer-timeout 0
    [ "$status" -eq 75 ]
    [ "$threads" -eq $((watched - 1)) ]
}

@test "one process is not watched" {
    "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/one" --peer-timeout 0.01
    timeout 300 mpirun -np 1 "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/one" \
        --peer-timeout 0.01 --set train.steps=14
}

# watched RANKS ARGUMENT...: the tool of that name, that many times.
watched()
{
    local n=$1
    shift
    run timeout 120 mpirun -np "$n" "${DEQ%/*}/tests/tools/dist_watch" "$@"
    echo "$output"
}

@test "who lives is not ended, however long it works alone, and may close late" {
    watched 3 3 60 0 5 0
    [ "$status" -eq 0 ]
    [[ "$output" == "Open MPI "*": ranks to 2 have met" ]]
    watched 3 3 60 5 0 0.5
    [ "$status" -eq 0 ]
    [[ "$output" == *": ranks to 2 have met" ]]
}

@test "who lives and keeps the others waiting is named after a longer time" {
    watched 3 3 6 0 0 -1
    [ "$status" -eq 69 ]
    [[ "$output" == *"by process 0: process 2 of 3 ("*") lives, but others have waited for it for "* ]]
    watched 2 3 6 -1 0
    [ "$status" -eq 69 ]
    [[ "$output" == *"by process 0: process 0 of 2 ("*") lives, but others have waited for it for "* ]]
    watched 2 3 6 0 0/-1 # also where the others have all done
    [ "$status" -eq 69 ]
    [[ "$output" == *": ranks to 1 have met"*"by process 0: process 1 of 2 ("*") lives, but others have waited for it for "* ]] ||
        [[ "$output" == *"by process 0: process 1 of 2 ("*") lives, but others have waited for it for "*": ranks to 1 have met"* ]]
}

@test "MPI for one thread at a time: no watch, and it says so" {
    DEQ_TEST_SERIALIZED=1 watched 2 0.5 1 0 2
    [ "$status" -eq 0 ]
    [[ "$output" == "Open MPI "*" (for one thread at a time: processes that freeze are not noticed): ranks to 1 have met" ]]
}

@test "an error is told once, by the process that met it, and ends the job with its code" {
    run train 2 "$BATS_TEST_TMPDIR/run" --set data.dir=/nonexistent
    [ "$status" -eq 66 ]
    [ "$(grep -c "deq tokenize" <<< "$output")" -eq 1 ]
    [ ! -e "$BATS_TEST_TMPDIR/run" ]
    run train 2 "$BATS_TEST_TMPDIR/run" --set train.batch=6
    [ "$status" -eq 78 ]
    [[ "$output" == *"train.batch: 6 cannot be divided among 2 processes"*"multiple of 4"* ]]
    mkdir "$BATS_TEST_TMPDIR/mine"
    echo precious > "$BATS_TEST_TMPDIR/mine/last.bin"
    run train 2 "$BATS_TEST_TMPDIR/mine"
    [ "$status" -eq 73 ]
    [ "$(ls "$BATS_TEST_TMPDIR/mine")" = last.bin ]
}

@test "a full disk ends the job with one message and leaves the checkpoint before" {
    train 2 "$BATS_TEST_TMPDIR/run" --set train.steps=4
    before=$(digest "$BATS_TEST_TMPDIR/run/last.bin")
    start_two --out "$BATS_TEST_TMPDIR/run" --set train.steps=1000000000 --set train.eval_every=0 \
        --set train.log_every=1000 --set train.checkpoint_every=0
    wait_for grep -q "^step" "$BATS_TEST_TMPDIR/said"
    prlimit --pid "$(cat "$BATS_TEST_TMPDIR/pid.0")" --fsize=20000
    kill -USR1 "$(cat "$BATS_TEST_TMPDIR/pid.1")" # it saves
    end_of_two
    [ "$status" -eq 74 ]
    [ "$(grep -c "file size limit reached" "$BATS_TEST_TMPDIR/said")" -eq 1 ]
    [ "$(digest "$BATS_TEST_TMPDIR/run/last.bin")" = "$before" ]
}

@test "sums that span several buckets are those in the order of ranks, bit for bit" {
    for n in 1 2 3 4; do
        run timeout 300 mpirun -np $n "$(dirname "$DEQ")/tests/tools/dist_sums"
        [ "$status" -eq 0 ]
        [[ "$output" == "$n ranks over "*" $((n > 1 ? 4 : 1)) buckets, 0 wrong" ]]
    done
    # larger buckets, which travel in pieces
    run timeout 300 mpirun -np 3 "$(dirname "$DEQ")/tests/tools/dist_sums" $((33 * (1 << 20) + 12345))
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == "3 ranks over "*" 17 buckets, 0 wrong" ]]
}

# The output layer has more than a bucket of its own, which is summed beside the backward solve. Words
# that occur once have gradients near the size of rounding, which Adam divides by their own size: a
# looser tolerance than above.
# wide RANKS DIR OPTION...: three steps of a model whose output layer has more than a bucket.
wide()
{
    local n=$1 dir=$2
    shift 2
    train "$n" "$dir" --set data.dir="$BATS_TEST_TMPDIR/data" --set model.d_model=192 \
        --set model.init_std=0.02 --set train.accumulate=1 --set train.batch=3 \
        --set train.tgt_len=3 --set train.steps=3 --set train.eval_every=0 \
        --set train.checkpoint_every=0 "$@"
}

@test "a model of several buckets has the losses of one process, in float64 to 1e-9" {
    seq 1 12000 | awk '{ printf "w%d%s", $1, $1 % 8 ? " " : "\n" }' > "$BATS_TEST_TMPDIR/text"
    "$DEQ" tokenize --train "$BATS_TEST_TMPDIR/text" --out "$BATS_TEST_TMPDIR/data"
    for more in solver.forward.max_iter=10 correction.weight=0.5; do # its loss comes late
        for n in 1 3; do
            wide $n "$BATS_TEST_TMPDIR/$more$n" --device ref --set $more --set correction.at=2,4
        done
        close "$BATS_TEST_TMPDIR/${more}1" "$BATS_TEST_TMPDIR/${more}3" 1e-9 3
    done
    # of the embedding train.zero sends the weights, and of matrices the momentum
    for zero in true false; do
        wide 3 "$BATS_TEST_TMPDIR/$zero" --set train.optimizer=muon --set train.zero=$zero
    done
    [ "$(digest "$BATS_TEST_TMPDIR/true/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/false/last.bin")" ]
}
