# src/README.md tells the path of a training step. Each function that it names must be where it says.

setup()
{
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
}

# The lines of the section "The path of a step" of FILE.
path_lines()
{
    sed -n '/^## The path of a step/,/^## [^T]/p' "$1" | sed '1d;/^## /d'
}

# Prints "function file" for each `function` (`file`) in the text.
named()
{
    path_lines "$1" | grep -oE '`[a-z_0-9]+` \(`[a-z_/]+\.[ch]`\)' |
        sed -E 's/`([a-z_0-9]+)` \(`([a-z_\/.]+)`\)/\1 \2/'
}

# FILE, below src or cmd, defines FUNCTION: at the start of a line, not as a prototype.
defines()
{
    local file
    for file in "$root/src/$2" "$root/$2"; do
        [ ! -f "$file" ] || ! awk -v name="$1" '
            /^[a-z]/ && $0 ~ "[ *]" name "\\(" { open = 1 }
            open && /;[ \t]*$/ { open = 0 }
            open && /^{/ { found = 1; exit }
            END { exit !found }' "$file" || return 0
    done
    echo "$2 does not define $1" >&2
    return 1
}

@test "the path of a step has at most 30 lines, and each names a function and its file" {
    count=$(path_lines "$root/src/README.md" | grep -c '^[0-9-]')
    [ "$count" -ge 10 ]
    [ "$count" -le 30 ]
    [ "$(path_lines "$root/src/README.md" | grep '^[0-9-]' | grep -cE '`[a-z_0-9]+` \(`[a-z_/]+\.[ch]`\)')" -eq "$count" ]
}

@test "each function on the path is where it is said to be" {
    named "$root/src/README.md" >"$BATS_TEST_TMPDIR/named"
    [ "$(wc -l <"$BATS_TEST_TMPDIR/named")" -ge 20 ]
    while read -r function file; do
        defines "$function" "$file"
    done <"$BATS_TEST_TMPDIR/named"
}

@test "a function that has moved is noticed" {
    defines trainer_step train/trainer.c
    run defines trainer_step train/schedule.c
    [ "$status" -ne 0 ]
    run defines no_such_function train/trainer.c
    [ "$status" -ne 0 ]
}
