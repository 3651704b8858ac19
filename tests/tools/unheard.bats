#!/usr/bin/env bats
# A line that cannot fail its test is none: bash passes over what fails behind "!", and in front of
# "&&", unless it is the last command.

# unheard FILE...: such lines in tests, as FILE:LINE: TEXT; 1 if there are any.
unheard() {
    awk '
    FNR == 1 { inside = 0; kept = "" }
    /^@test / { inside = 1 }
    kept != "" && !/^}/ { print kept; found = 1 }
    { kept = "" }
    /^}/ { inside = 0 }
    inside && (/^ +! / || /^ +\[.*\] && \[.*\]$/) && !/\|\|/ {
        kept = FILENAME ":" FNR ": " $0
    }
    END { exit found }' "$@"
}

@test "every line of the tests can fail its test" {
    cd "$BATS_TEST_DIRNAME/../.."
    unheard tests/*/*.bats
}

@test "a line that cannot is found" {
    cd "$BATS_TEST_TMPDIR"
    printf '@test "a" {\n    ! false\n    [ 1 = 2 ] && [ 1 = 1 ]\n    true\n    ! true\n}\n' >planted
    run unheard planted
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 2 ]
    [[ "${lines[0]}" == "planted:2: "* ]]
    [[ "${lines[1]}" == "planted:3: "* ]]
}
