#!/usr/bin/env bats
# The program as a whole: help, version, unknown subcommands, lost output.

setup() {
    DEQ=${DEQ:-build/deq}
    DEQ=$(realpath "$DEQ")
    cd "$BATS_TEST_TMPDIR"
}

@test "no subcommand: the list on stderr, nothing on stdout, exit 64" {
    run bash -c "'$DEQ' 2>/dev/null"
    [ "$status" -eq 64 ]
    [ -z "$output" ]
    run "$DEQ"
    [[ "$output" == *"usage: deq SUBCOMMAND"* ]]
}

@test "help, --help and -h print the same list on stdout" {
    run bash -c "'$DEQ' help 2>/dev/null"
    [ "$status" -eq 0 ]
    list=$output
    [[ "$list" == *"  info "* ]]
    [[ "$list" == *" 75  stopped early and saved"* ]]
    for option in --help -h; do
        run bash -c "'$DEQ' $option 2>/dev/null"
        [ "$status" -eq 0 ]
        [ "$output" = "$list" ]
    done
}

@test "--version prints one line" {
    run "$DEQ" --version
    [ "$status" -eq 0 ]
    [[ "$output" =~ ^deq\ [^[:space:]]+$ ]]
}

@test "every listed subcommand has help, by all three spellings" {
    names=$("$DEQ" help | sed -n 's/^  \([a-z]*\)  *[a-z].*/\1/p' | grep -vx help)
    [ -n "$names" ]
    for name in $names; do
        run "$DEQ" help "$name"
        [ "$status" -eq 0 ]
        [[ "$output" == *"usage: deq $name"* ]]
        text=$output
        for option in --help -h; do
            run "$DEQ" "$name" $option
            [ "$status" -eq 0 ]
            [ "$output" = "$text" ]
        done
    done
}

@test "help of help" {
    run "$DEQ" help help
    [ "$status" -eq 0 ]
    [[ "$output" == *"deq help config"* ]]
}

@test "an unknown subcommand names the nearest one, exit 64" {
    run "$DEQ" ifno
    [ "$status" -eq 64 ]
    [ "$output" = "deq: ifno: unknown subcommand; did you mean info?" ]
    run "$DEQ" help ifno
    [ "$status" -eq 64 ]
    [ "$output" = "deq help: ifno: unknown subcommand; did you mean info?" ]
    run "$DEQ" frobnicate
    [ "$status" -eq 64 ]
    [ "$output" = "deq: frobnicate: unknown subcommand; deq help lists them" ]
    run "$DEQ" ""
    [ "$status" -eq 64 ]
}

@test "too many words after help" {
    run "$DEQ" help info extra
    [ "$status" -eq 64 ]
    run "$DEQ" help config --html
    [ "$status" -eq 64 ]
    [ "$output" = "deq help: --html: unknown option; see --help" ]
}

@test "output that is lost is a failure, exit 74" {
    [ -w /dev/full ] || skip "no /dev/full"
    run bash -c "'$DEQ' help > /dev/full"
    [ "$status" -eq 74 ]
    [[ "$output" == "deq help: cannot write to standard output:"* ]]
    run bash -c "'$DEQ' --version >&-"
    [ "$status" -eq 74 ]
}
