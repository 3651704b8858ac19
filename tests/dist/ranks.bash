# Shared by the tests of several processes.

# Sets and exports `why`: what is missing for them, or nothing; and what mpirun needs here.
find_mpi()
{
    export OMP_NUM_THREADS=1
    # a rank more than cores is fine here, and root runs tests in containers
    export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    # no search for networks: all processes are here
    export OMPI_MCA_btl=self,vader OMPI_MCA_pml=ob1 OMPI_MCA_btl_vader_single_copy_mechanism=none
    why=
    command -v mpirun >/dev/null || why="no mpirun: apt-get install openmpi-bin"
    [ -n "$why" ] || OMPI_COMM_WORLD_SIZE=2 "$DEQ" train --config /nonexistent 2>&1 </dev/null |
        grep -q "built without MPI" && why="the program was built without MPI"
    export why
}

# make_data DIR: shards of a small text.
make_data()
{
    "$BATS_TEST_DIRNAME/../tools/sentences.sh" 500 > "$BATS_FILE_TMPDIR/text"
    head -400 "$BATS_FILE_TMPDIR/text" > "$BATS_FILE_TMPDIR/train"
    tail -100 "$BATS_FILE_TMPDIR/text" > "$BATS_FILE_TMPDIR/valid"
    "$DEQ" tokenize --train "$BATS_FILE_TMPDIR/train" --valid "$BATS_FILE_TMPDIR/valid" --out "$1"
}

# make_config: shards, and a configuration of a small model on them, whose other sections come from
# standard input. Sets and exports config, and runs, the folder for runs that several tests look at.
make_config()
{
    export config=$BATS_FILE_TMPDIR/tiny.json runs=$BATS_FILE_TMPDIR
    make_data "$BATS_FILE_TMPDIR/data"
    {
        cat <<END
{ "data": { "dir": "$BATS_FILE_TMPDIR/data" },
  "model": { "d_model": 16, "n_head": 2, "d_inner": 32, "dropout": 0.1, "dropatt": 0.1,
             "init_std": 0.2, "tie_weights": false },
END
        cat
    } > "$config"
}

# train RANKS DIR [OPTION]...
train()
{
    local n=$1 dir=$2
    shift 2
    if [ "$n" -eq 1 ]; then
        "${PROGRAM:-$DEQ}" train -q --config "$config" --out "$dir" "$@"
    else
        timeout 300 mpirun -np "$n" "${PROGRAM:-$DEQ}" train -q --config "$config" --out "$dir" "$@"
    fi
}

# start_two OPTION...: training in two processes, beside the test. Their numbers go to the files
# pid.0 and pid.1, what they say to `said`; $pid is that of both.
start_two()
{
    timeout 300 mpirun -np 2 sh -c 'echo $$ > "$0.$OMPI_COMM_WORLD_RANK"; exec "$@"' \
        "$BATS_TEST_TMPDIR/pid" "${PROGRAM:-$DEQ}" train --config "$config" "$@" \
        > "$BATS_TEST_TMPDIR/said" 2>&1 &
    pid=$!
}

# end_of_two: waits for them; $status is how they ended.
end_of_two()
{
    status=0
    wait "$pid" || status=$?
    cat "$BATS_TEST_TMPDIR/said"
}

# wait_for COMMAND...: until it succeeds. The five minutes are for what hangs.
wait_for()
{
    for _ in $(seq 15000); do
        ! "$@" || return 0
        sleep 0.02
    done
    return 1
}

digest()
{
    "$DEQ" info --json "$1" | sed 's/.*"weights_digest":"\([0-9a-f]*\)".*/\1/'
}

losses()
{
    sed -n 's/.*"event":"step".*"loss":\([-0-9.e]*\).*/\1/p; s/.*"event":"evaluation".*"nll":\([-0-9.e]*\).*/\1/p' \
        "$1/log.jsonl"
}

# close DIR DIR TOLERANCE COUNT: whether the losses of two runs are COUNT and differ by at most that.
close()
{
    paste "$(losses "$1" > "$BATS_TEST_TMPDIR/a"; echo "$BATS_TEST_TMPDIR/a")" \
        "$(losses "$2" > "$BATS_TEST_TMPDIR/b"; echo "$BATS_TEST_TMPDIR/b")" |
        awk -v tol="$3" -v count="$4" '{ d = $1 - $2; if (d < 0) d = -d; if (!(d <= tol)) bad++; n++; if (d > m) m = d }
             END { print n " losses, largest difference " m; exit !(n == count && !bad) }'
}
