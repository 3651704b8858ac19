#!/usr/bin/env bats
# A training that is killed at random moments and started again by the same command ends with the
# weights of one that was left alone. `make kill9` does it a thousand times.

setup() {
    export OMP_NUM_THREADS=1
    kill9=$BATS_TEST_DIRNAME/../tools/kill9.sh
}

@test "25 kills with SIGKILL change nothing" {
    run "$kill9" -n 25
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"25 kills, "*" runs finished, all with the weights "* ]]
}

@test "a run with other weights is noticed" {
    # the second of two runs gets another seed, as if a kill had changed something
    cat > "$BATS_TEST_TMPDIR/deq" <<END
#!/bin/sh
case "\$*" in
*"--out run"*) exec "$DEQ" "\$@" --set train.seed=2 ;;
*) exec "$DEQ" "\$@" ;;
esac
END
    chmod +x "$BATS_TEST_TMPDIR/deq"
    run env DEQ="$BATS_TEST_TMPDIR/deq" TMPDIR="$BATS_TEST_TMPDIR" "$kill9" -n 25
    echo "$output"
    [ "$status" -eq 1 ]
    [[ "$output" == *"other weights than without a kill"* ]]
}
