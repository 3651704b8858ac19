# The watch over a long training: what it writes, and that it sees a leak.

endurance=$BATS_TEST_DIRNAME/endurance.sh

# A file of 40 lines; $1: KiB, $2: open files, $3: tokens/s more in each line.
lines()
{
    awk -v kib="$1" -v files="$2" -v rate="$3" 'BEGIN { print "seconds"
        for (i = 1; i <= 40; i++) printf("%d\t%d\t%d\t4\t%d\t%d\t%d\t%d\n", 30 * i, 90000 + kib * i,
            9 + int(files * i), 29 * i, 100 * i, 1000 + rate * i, 1000 + rate * i) }'
}

@test "endurance: what stays as it is passes, whatever its speed" {
    lines 0 0 -10 >"$BATS_TEST_TMPDIR/flat"
    run "$endurance" -r "$BATS_TEST_TMPDIR/flat"
    [ "$status" -eq 0 ]
    [[ "$output" == "39 lines over 1200 s and 4000 steps"* ]]
    [[ "$output" =~ "tokens/s of a processor"\ +940.0\ +640.0\ +-31.91\ % ]]
}

@test "endurance: -w leaves out a faster start, and a line with an evaluation does not count" {
    lines 0 0 0 | awk 'NR > 1 && NR < 9 { $8 = 2000 } NR == 38 { $8 = 1 } { print }' >"$BATS_TEST_TMPDIR/slow"
    run "$endurance" -w 240 -r "$BATS_TEST_TMPDIR/slow"
    [ "$status" -eq 0 ]
    [[ "$output" =~ "tokens/s of a processor"\ +1000.0\ +1000.0\ +\+0.00\ % ]]
}

@test "endurance: growing memory and files that stay open are told" {
    lines 80 0 0 >"$BATS_TEST_TMPDIR/memory"
    run "$endurance" -r "$BATS_TEST_TMPDIR/memory"
    [ "$status" -eq 1 ]
    lines 0 0.1 0 >"$BATS_TEST_TMPDIR/files"
    run "$endurance" -r "$BATS_TEST_TMPDIR/files"
    [ "$status" -eq 1 ]
}

# Whether out.tsv has four lines and three of a training that gets on.
good_lines()
{
    awk 'NR > 2 && $2 > 1000 && $3 > 3 && $4 > 0 && $6 > steps && $8 > 0 { steps = $6; good++ }
        END { exit !(good > 2 && NR > 4) }' out.tsv 2>/dev/null
}

@test "endurance: follows a training" {
    cd "$BATS_TEST_TMPDIR"
    awk 'BEGIN { srand(7); for (i = 0; i < 300; i++) { line = ""
        for (j = 0; j < 9; j++) line = line " w" int(rand() * rand() * 20); print line } }' >text
    "$DEQ" tokenize --train text --valid text --out data
    echo '{ "data": { "dir": "data" }, "model": { "d_model": 16, "n_head": 2, "d_inner": 32 } }' >c.json
    # A training that is not done in time: the test ends it, once enough lines have been written.
    OMP_NUM_THREADS=1 "$endurance" -e 0.2 -w 0 -o out.tsv -- -q --config c.json --out run --time-limit 10m \
        --set train.batch=4 --set train.tgt_len=12 --set train.mem_len=8 --set eval.batch=2 \
        --set train.steps=1000000000 --set train.eval_every=0 > said 2>&1 3>&- &
    watcher=$!
    for _ in $(seq 3000); do # five minutes, in case it hangs
        ! good_lines || break
        kill -0 "$watcher" || break
        sleep 0.1
    done
    kill -TERM "$watcher" || true
    # It goes on to its report, whatever that says of so few lines.
    wait "$watcher" || true
    cat said out.tsv
    good_lines
    [[ "$(cat said)" == *" lines over "*"tokens/s of a processor"* ]]
    "$DEQ" info --check run/last.bin
}
