#!/usr/bin/env bats
# The log of a run as events of TensorBoard, read back by its own reader.

setup_file()
{
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    python=${PYTHON_ENV:-$root/build-python}/tensorboard/bin/python
    [ -x "$python" ] || python=python3
    export root python
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
    mkdir run
    for step in 1 2 3 4; do put $step; done >run/log.jsonl
    echo '{"event":"evaluation","step":4,"nll":1.25,"ppl":3.5,"bits_per_byte":null,"time":"2026-01-02T03:04:05.250Z"}' >>run/log.jsonl
}

# The line of a step, whose loss is ten times the step.
put()
{
    echo '{"event":"step","step":'"$1"',"loss":'"$1"'0.0,"lr":0.5,"forward":{"evals_mean":6,"rel_mean":null},"time":"2026-01-02T03:04:0'"$1"'.000Z","check":"00000000"}'
}

need_tensorboard()
{
    "$python" -c 'import tensorboard.summary' 2>/dev/null ||
        skip "no tensorboard (python3 -m venv build-python/tensorboard; build-python/tensorboard/bin/pip install tensorboard)"
}

# The events of a folder, a line each: name, step, value, time.
events()
{
    cat >read.py <<'PYTHON'
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
events = EventAccumulator(sys.argv[1], size_guidance={"tensors": 0})
events.Reload()
for name in sorted(events.Tags()["tensors"]):
    for event in events.Tensors(name):
        print(name, event.step, tensor_util.make_ndarray(event.tensor_proto), event.wall_time)
PYTHON
    "$python" read.py "$1" 2>/dev/null
}

@test "what is wrong or missing is said" {
    run "$python" "$root/scripts/tensorboard.py"
    [ "$status" -eq 64 ]
    run "$python" "$root/scripts/tensorboard.py" none
    [ "$status" -eq 66 ]
    [ "$output" = "tensorboard.py: none/log.jsonl: no such file: is none the folder of a run?" ]
    # A Python without packages.
    run "$python" -I -S "$root/scripts/tensorboard.py" run
    [ "$status" -eq 69 ]
    [[ "$output" == *"python3 -m pip install tensorboard"* ]]
    run "$python" "$root/scripts/tensorboard.py" --help
    [ "$status" -eq 0 ]
    [[ "$output" == *"scripts/tensorboard.py RUN [--out DIR] [--follow]"* ]]
}

@test "every number of the log is an event, at its step and time" {
    need_tensorboard
    run "$python" "$root/scripts/tensorboard.py" run
    [ "$status" -eq 0 ]
    [ "$output" = "run/tensorboard: 4 steps, 1 evaluations; tensorboard --logdir run/tensorboard" ]
    events run/tensorboard >seen
    [ "$(grep -c '^train/loss ' seen)" -eq 4 ]
    grep -q '^train/loss 3 30.0 1767323043.0$' seen
    grep -q '^solver/evaluations_of_f 1 6.0 ' seen
    grep -q '^validation/perplexity 4 3.5 1767323045.25$' seen
    [ "$(grep -c 'residual\|bits' seen)" -eq 0 ] # null
    # again: the events are those of one call
    "$python" "$root/scripts/tensorboard.py" run
    [ "$(events run/tensorboard | wc -l)" -eq "$(wc -l <seen)" ]
    run "$python" "$root/scripts/tensorboard.py" run --out run/tensorboard
    [ "$status" -eq 73 ]
}

@test "a run that grows, and goes on in a new file, is followed" {
    need_tensorboard
    "$python" "$root/scripts/tensorboard.py" run --out events --follow >said &
    pid=$!
    for _ in $(seq 200); do
        ! compgen -G 'events/*' >/dev/null || break
        sleep 0.1
    done
    put 5 | tr -d '\n' >>run/log.jsonl # half of a line first
    sleep 0.6
    echo >>run/log.jsonl
    # as a run that continues from step 3: some steps come again
    { for step in 1 2 3 4 5 6; do put $step; done; echo 'damage'; } >new
    mv new run/log.jsonl
    kill -TERM $pid
    wait $pid
    grep -q '^events: 6 steps, 1 evaluations' said
    [ "$(events events | grep -c '^train/loss ')" -eq 6 ]
}
