# scripts/slurm/train.sbatch under a real Slurm: munged, slurmctld and slurmd, started here on ports
# and in folders of their own.

setup_file()
{
    why=
    for program in munged slurmctld slurmd sbatch srun squeue scontrol; do
        command -v $program >/dev/null || why="no $program: scripts/deps.sh slurm"
    done
    [ "$(id -u)" -eq 0 ] || why="Slurm's daemons want root"
    export why
    [ -z "$why" ] || return 0
    slurm=$BATS_FILE_TMPDIR/slurm
    export slurm SLURM_CONF=$slurm/slurm.conf
    start_daemons || why="Slurm does not start here: $(tail -n 1 "$slurm"/*.log | tr '\n' ' ')"
    [ -z "$why" ] || return 0
    make_data
    sbatch_script=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)/scripts/slurm/train.sbatch
    export sbatch_script
}

start_daemons()
{
    host=$(hostname -s)
    port=$((20000 + $$ % 10000))
    mkdir -p "$slurm/spool" "$slurm/state" "$slurm/secret"
    chmod 755 "$slurm"
    chmod 700 "$slurm/secret"
    head -c 1024 /dev/urandom > "$slurm/secret/key"
    chmod 600 "$slurm/secret/key"
    cat > "$SLURM_CONF" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$slurm/munge.sock
SlurmctldPort=$port
SlurmdPort=$((port + 1))
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/spool
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/slurmd.pid
SlurmctldLogFile=$slurm/slurmctld.log
SlurmdLogFile=$slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
KillWait=10
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
END
    # without bats's descriptors, which it would wait for; --force: bats keeps its folders to itself
    munged --force --key-file="$slurm/secret/key" --socket="$slurm/munge.sock" --log-file="$slurm/munged.log" \
        --pid-file="$slurm/munged.pid" --seed-file="$slurm/secret/seed" 3>&- 4>&- &&
        slurmctld 3>&- 4>&- && slurmd 3>&- 4>&- || return 1
    for i in $(seq 100); do
        [ "$(sinfo -h -p low -o %T 2>/dev/null)" != idle ] || return 0
        sleep 0.1
    done
    return 1
}

make_data()
{
    "$BATS_TEST_DIRNAME/../tools/sentences.sh" 400 > "$BATS_FILE_TMPDIR/text"
    "$DEQ" tokenize --train "$BATS_FILE_TMPDIR/text" --out "$BATS_FILE_TMPDIR/data"
}

teardown_file()
{
    [ -n "${slurm:-}" ] || return 0
    scancel -u root 2>/dev/null || true
    for i in $(seq 100); do
        [ -n "$(squeue -h 2>/dev/null)" ] || break
        sleep 0.1
    done
    for daemon in slurmd slurmctld munged; do
        pid=$(cat "$slurm/$daemon.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || true
        for i in $(seq 100); do # it still writes
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    done
}

setup()
{
    [ -z "$why" ] || skip "$why"
    config=$BATS_TEST_TMPDIR/tiny.json
    run=$BATS_TEST_TMPDIR/run
    log=$BATS_TEST_TMPDIR/job.log
    : > "$log"
    configure 1000000
}

# The learning rate does not depend on the number of steps, so that the end may be set later.
configure()
{
    cat > "$config" <<END
{ "data": { "dir": "$BATS_FILE_TMPDIR/data" },
  "model": { "d_model": 16, "n_head": 2, "d_inner": 32, "init_std": 0.1 },
  "train": { "steps": $1, "batch": 4, "tgt_len": 12, "mem_len": 8, "schedule": "constant",
             "warmup_steps": 4, "pretrain_steps": 10, "eval_every": 0, "checkpoint_every": 100000 } }
END
}

# wait_until COMMAND...: until it succeeds. The five minutes are for what hangs.
wait_until()
{
    local i
    for i in $(seq 1500); do
        ! "$@" || return 0
        sleep 0.2
    done
    cat "$log"
    tail -n 20 "$slurm/slurmctld.log"
    return 1
}

state()
{
    squeue -h -j "$job" -o %T 2>/dev/null
}

steps_done()
{
    grep -c '"event":"step"' "$run/log.jsonl" 2>/dev/null || true
}

has_trained_to()
{
    [ "$(steps_done)" -ge "$1" ] 2>/dev/null
}

was_stopped()
{
    [ "$(grep -c "stopped and saved" "$log")" -eq "$1" ] && [ "$(state)" = PENDING ]
}

steps_are_gone()
{
    ! pgrep -f "slurmstepd: \\[$job\\." >/dev/null
}

is_over()
{
    [ -z "$(state)" ] || [ "$(state)" = COMPLETED ]
}

# Preempted by a job that wants the whole node for a moment, and allowed to start again at once.
preempt()
{
    has=$(steps_done)
    wait_until has_trained_to $((has + 5))
    sbatch -p high -n 2 -o /dev/null --wrap true
    wait_until was_stopped "$1"
    # Slurm must have cleaned up the step before it can start one of the same name
    wait_until steps_are_gone
    sleep 2
}

digest()
{
    "$DEQ" info --json "$1" | sed 's/.*"weights_digest":"\([0-9a-f]*\)".*/\1/'
}

submit()
{
    job=$(DEQ=$DEQ sbatch --parsable -p low --output="$log" "$@" "$sbatch_script" --config "$config" \
        --out "$run")
}

# Three preemptions, then the end; the result against that of the program on its own.
preempt_three_times()
{
    local count
    for count in 1 2 3; do
        preempt $count
        [ "$count" -eq 3 ] || scontrol update JobId="$job" StartTime=now
    done
    last=$(($(steps_done) + 20))
    configure $last
    scontrol update JobId="$job" StartTime=now
    wait_until is_over
    cat "$log"
    [ "$(grep -c "asked to stop: saved at step" "$log")" -eq 3 ]
    grep -q "^done:" "$log"
    [ "$(steps_done)" -eq "$last" ]
}

@test "three preemptions change nothing: one task" {
    submit -n 1 -c 1
    preempt_three_times
    OMP_NUM_THREADS=1 "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/whole"
    [ "$(digest "$run/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/whole/last.bin")" ]
}

@test "a signal before the time limit requeues the job" {
    # Slurm sends it 60 s early at most times: for a limit of a minute, at once
    submit -n 1 -c 1 --time=1 --signal=B:USR1@60
    wait_until was_stopped 1
    grep -q "asked to stop: saved at step\|time limit reached: saved at step" "$log"
    scancel "$job"
}

@test "a cancelled job saves and does not come back" {
    submit -n 1 -c 1
    wait_until has_trained_to 5
    scancel "$job"
    wait_until is_over
    grep -q "asked to stop: saved at step" "$log"
    ! grep -q "stopped and saved" "$log"
}

@test "an error is no reason to come back" {
    configure 10
    sed -i 's/"batch": 4/"batch": 0/' "$config"
    submit -n 1 -c 1
    wait_until grep -q "train.batch" "$log"
    is_failed() { [ "$(state)" != RUNNING ] && [ "$(state)" != COMPLETING ]; }
    wait_until is_failed
    [ "$(state)" != PENDING ]
}

@test "three preemptions change nothing: two tasks over MPI" {
    srun --mpi=list 2>&1 | grep -qw pmix || skip "this Slurm has no pmix"
    ! OMPI_COMM_WORLD_SIZE=2 "$DEQ" train --config /nonexistent 2>&1 | grep -q "built without MPI" ||
        skip "the program was built without MPI"
    submit -n 2 -c 1
    preempt_three_times
    [ "$(grep -c "^2 processes over" "$log")" -eq 4 ]
    OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
        mpirun --oversubscribe -np 2 "$DEQ" train -q --config "$config" --out "$BATS_TEST_TMPDIR/whole"
    [ "$(digest "$run/last.bin")" = "$(digest "$BATS_TEST_TMPDIR/whole/last.bin")" ]
}

@test "each run of a comparison is a task of an array" {
    command -v python3 >/dev/null || skip "python3 is not installed"
    sweep=$BATS_TEST_DIRNAME/../../scripts/sweep
    cd "$BATS_TEST_TMPDIR"
    configure 12
    sed -i 's/"pretrain_steps": 10, "eval_every": 0/"pretrain_steps": 0, "eval_every": 6/' "$config"
    cat > plan.json <<END
{ "config": "$config", "set": { "data.dir": "data" }, "networks": { "a": {}, "b": {} },
  "search": { "train.lr": [0.001, 0.01] }, "seeds": [1] }
END
    "$DEQ" tokenize --train "$BATS_FILE_TMPDIR/text" --valid "$BATS_FILE_TMPDIR/text" \
        --test "$BATS_FILE_TMPDIR/text" --out data
    export DEQ DEQ_SWEEP=$sweep/sweep.py
    for stage in search final; do
        last=$(($("$DEQ_SWEEP" plan.json --count $stage) - 1))
        sbatch -W -n 1 --array=0-$last "$sweep/array.sbatch" plan.json $stage || cat deq-sweep-*
    done
    [ "$(find plan/runs -name result.json | wc -l)" -eq 6 ]
    run "$DEQ_SWEEP" plan.json --table
    [ "$status" -eq 0 ]
    [[ "$output" == *"| a | "*"lr 0.01"*"| b | "* ]]
}
