#!/usr/bin/env bats
# What scripts/slurm/train.sbatch makes of the end of srun; with stand-ins for Slurm's commands, so
# that it runs everywhere. The real ones are in tests/slurm.

setup() {
    script=$BATS_TEST_DIRNAME/../../scripts/slurm/train.sbatch
    bin=$BATS_TEST_TMPDIR/bin
    mkdir "$bin"
    cd "$BATS_TEST_TMPDIR"
    # srun OPTION... COMMAND...: as $SRUN says
    cat > "$bin/srun" <<'END'
#!/bin/sh
case $SRUN in
launch) while case $1 in --*) true ;; *) false ;; esac; do shift; done; exec "$@" ;;
*) exit "$SRUN" ;;
esac
END
    cat > "$bin/squeue" <<'END'
#!/bin/sh
echo "${STATE:-RUNNING}"
END
    cat > "$bin/scontrol" <<'END'
#!/bin/sh
echo "$@" >> requeued
exit 1 # Slurm would end the script here
END
    cat > "$bin/deq" <<'END'
#!/bin/sh
echo "$@" > asked
exit "$CODE"
END
    chmod +x "$bin"/*
    PATH=$bin:$PATH
    export PATH DEQ=$bin/deq SLURM_JOB_ID=7 SLURM_NTASKS=1
}

@test "a program that is done ends the job with 0" {
    SRUN=launch CODE=0 run bash "$script" --config a.json "--set" "data.dir=my data"
    [ "$status" -eq 0 ]
    [ "$(cat asked)" = "train --config a.json --set data.dir=my data" ]
    [ ! -e requeued ]
}

@test "a program that saved and stopped is requeued, but not from a cancelled job" {
    SRUN=launch CODE=75 run bash "$script"
    [ "$status" -eq 75 ]
    [ "$(cat requeued)" = "requeue 7" ]
    rm requeued
    STATE=COMPLETING SRUN=launch CODE=75 run bash "$script"
    [ "$status" -eq 75 ]
    [ ! -e requeued ]
}

@test "an error ends the job with its code" {
    SRUN=launch CODE=78 run bash "$script"
    [ "$status" -eq 78 ]
    SRUN=1 run bash "$script"
    [ "$status" -eq 1 ]
    [ ! -e requeued ]
}

@test "an srun that started nothing and says 0 is no success" {
    SRUN=0 run bash "$script"
    [ "$status" -eq 1 ]
    [[ "$output" == *"not done; submit the same command again"* ]]
    [ ! -e requeued ]
}

# children_of PID: a line each.
children_of() {
    grep -ls "^PPid:[[:blank:]]$1\$" /proc/[0-9]*/status | cut -d/ -f3
}

@test "a signal to the shell around the program does not end it" {
    cat > "$bin/deq" <<'END'
#!/bin/sh
trap 'echo caught > asked; exit 75' USR1
: > ready
while :; do sleep 0.05; done
END
    SRUN=launch bash "$script" 3>&- &
    pid=$!
    for i in $(seq 6000); do [ -e ready ] || sleep 0.05; done
    # Slurm signals the whole group of a task; here: the shell that became of srun, and the program
    shell=$(children_of "$pid" | while read -r child; do
        [ "$(cat "/proc/$child/comm")" != sh ] || echo "$child"
    done)
    [ -n "$shell" ]
    kill -USR1 "$shell" $(children_of "$shell")
    status=0
    wait "$pid" || status=$?
    [ "$status" -eq 75 ]
    [ "$(cat asked)" = caught ]
}
