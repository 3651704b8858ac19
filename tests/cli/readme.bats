# The README's configuration reference is the program's own.

@test "the README has the configuration reference of this program" {
    cd "$BATS_TEST_DIRNAME/../.."
    scripts/update-readme.sh | diff README.md -
}

@test "every subcommand is in the README" {
    for name in $("$DEQ" help 2>/dev/null | awk '/^  [a-z]+  / { print $1 }'); do
        grep -q "deq $name" "$BATS_TEST_DIRNAME/../../README.md"
    done
}

@test "data/README.md says how to make what the presets read" {
    cd "$BATS_TEST_DIRNAME/../.."
    for config in configs/*.json; do
        dir=$(sed -n 's/.*"dir": *"\([^"]*\)".*/\1/p' "$config")
        grep -q "[\` ]$dir\`" data/README.md || { echo "$config: $dir"; false; }
    done
}
