#!/usr/bin/env bats
# The test runner must see every way in which a program can fail.

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    cd "$BATS_TEST_TMPDIR"
}

# fake NAME: a program made of standard input.
fake() {
    { echo '#!/bin/sh'; cat; } >"$1"
    chmod +x "$1"
}

runner() {
    run "$root/tests/run.sh" -o out "$@"
    last=${lines[-1]}
}

@test "a passing program counts its tests" {
    fake good <<'END'
echo 1..2
echo "ok 1 - a"
echo "ok 2 - b"
END
    runner good
    [ "$status" -eq 0 ]
    [ "$last" = "2 passed, 0 failed, 0 skipped" ]
}

@test "a failed test fails the run and its output is shown" {
    fake bad <<'END'
echo 1..2
echo "ok 1 - a"
echo "# the reason why"
echo "not ok 2 - b"
exit 1
END
    runner bad
    [ "$status" -eq 1 ]
    [ "$last" = "1 passed, 1 failed, 0 skipped" ]
    [[ "$output" == *"the reason why"* ]]
}

@test "a crash after passed tests is a failure" {
    fake crash <<'END'
echo 1..2
echo "ok 1 - a"
kill -SEGV $$
END
    runner crash
    [ "$status" -eq 1 ]
    [ "$last" = "1 passed, 1 failed, 0 skipped" ]
    [[ "$output" == *"signal 11"* ]]
}

@test "a program that hangs is stopped and fails" {
    fake hang <<'END'
echo 1..1
sleep 60
END
    runner -t 1 hang
    [ "$status" -eq 1 ]
    [ "$last" = "0 passed, 1 failed, 0 skipped" ]
    [[ "$output" == *"stopped after 1 s"* ]]
}

@test "fewer results than planned fail, even with exit code 0" {
    fake short <<'END'
printf '1..3\nok 1 - a\n'
END
    runner short
    [ "$status" -eq 1 ]
    [ "$last" = "1 passed, 1 failed, 0 skipped" ]
}

@test "a bad exit code after passed tests fails: a leak found at the end" {
    fake leak <<'END'
printf '1..1\nok 1 - a\n'
exit 23
END
    runner leak
    [ "$status" -eq 1 ]
    [ "$last" = "1 passed, 1 failed, 0 skipped" ]
}

@test "exit code 77 with a reason skips the program; alone it is no pass" {
    fake skipped <<'END'
echo "no reference data"
exit 77
END
    fake good <<'END'
printf '1..1\nok 1 - a\n'
END
    runner skipped good
    [ "$status" -eq 0 ]
    [ "$last" = "1 passed, 0 failed, 1 skipped" ]
    [[ "$output" == *"no reference data"* ]]
    runner skipped
    [ "$status" -eq 1 ]
    [ "$last" = "0 passed, 0 failed, 1 skipped" ]
}

@test "a program that is not there is a failure" {
    runner ./missing
    [ "$status" -eq 1 ]
    [ "$last" = "0 passed, 1 failed, 0 skipped" ]
}

@test "one failure among many, side by side, fails the run" {
    for i in 1 2 3 4 5 6; do
        fake "good$i" <<'END'
printf '1..1\nok 1 - a\n'
END
    done
    fake bad <<'END'
printf '1..1\nnot ok 1 - a\n'
exit 1
END
    runner -j 4 good1 good2 good3 bad good4 good5 good6
    [ "$status" -eq 1 ]
    [ "$last" = "6 passed, 1 failed, 0 skipped" ]
}

@test "without arguments: every source, and what was not built fails" {
    mkdir -p tests/base build/tests/base build-asan/tests/base
    touch tests/base/test_a.c tests/base/test_b.c
    for dir in build build-asan; do
        fake "$dir/tests/base/test_a" <<'END'
printf '1..1\nok 1 - a\n'
END
    done
    runner
    [ "$status" -eq 1 ]
    [ "$last" = "2 passed, 2 failed, 0 skipped" ]
}

@test "the emulated tests run with sanitizers in CI only" {
    mkdir -p tests/emu build/tests/emu
    touch tests/emu/test_a.cpp
    fake build/tests/emu/test_a <<'END'
printf '1..1\nok 1 - a\n'
END
    CI='' runner
    [ "$status" -eq 0 ]
    [ "$last" = "1 passed, 0 failed, 0 skipped" ]
    CI=true runner
    [ "$status" -eq 1 ]
    [ "$last" = "1 passed, 1 failed, 0 skipped" ]
}
