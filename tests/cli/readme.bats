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

# Code in backquotes and code blocks, one a line, of which those are printed that call this program, or
# that are options for the README's training.
commands_of()
{
    awk '/^```/ { fenced = !fenced; next }
         fenced { sub(/ +#.*/, ""); print; next }
         { text = text " " $0 }
         END { n = split(text, part, "`"); for (i = 2; i <= n; i += 2) print part[i] }' "$@" |
        sed -n 's/^mpirun -np [0-9]* //; s#^build/deq #deq #; s/^--config /deq train &/
                s/^--set /deq train --config kjv.json &/; /^deq /p'
}

# Fails with the program's complaint. Options are read in order: the one that does not exist is the
# first to be refused. Keys are held to the configuration they are set in.
check_command()
{
    local words config=kjv.json set=() i
    mapfile -t words < <(sed 's/\<N\>/1/g; s/\<X\>/0.5/g' <<< "$1" | xargs -n 1 printf '%s\n')
    if [ "${words[1]}" = help ]; then
        "$DEQ" "${words[@]:1}" >/dev/null
        return
    fi
    run "$DEQ" "${words[@]:1}" --no-such-option
    [[ "$status" -eq 64 && "$output" == *": --no-such-option: unknown option"* ]] || return 1
    for ((i = 2; i < ${#words[@]}; i++)); do
        case ${words[i - 1]} in
        --config) config=${words[i]} ;;
        --set) set+=(--set "${words[i]}") ;;
        esac
    done
    [ "$config" != FILE ] || config=wikitext103
    [[ "${set[*]}" != *KEY=VALUE* ]] || return 0
    run "$DEQ" info --config "$config" "${set[@]}"
    [ "$status" -eq 0 ]
}

@test "the commands of README.md, data/README.md and deq help are accepted" {
    cd "$BATS_TEST_DIRNAME/../.."
    DEQ=$(realpath "$DEQ")
    count=0
    while read -r line; do
        check_command "$line" || { echo "$line: $output"; false; }
        count=$((count + 1))
    done < <(commands_of README.md data/README.md
        for name in $("$DEQ" help | awk '/^  [a-z]+  / { print $1 }'); do
            "$DEQ" help "$name" | sed -n 's/^  deq /deq /p'
        done
        for tool in $("$DEQ" help bench | awk '/^  [a-z]+  / { print $1 }'); do
            "$DEQ" help bench "$tool" | sed -n 's/^  deq /deq /p'
        done)
    [ "$count" -gt 60 ]
}

@test "data/README.md says how to make what the presets read" {
    cd "$BATS_TEST_DIRNAME/../.."
    for config in configs/*.json; do
        dir=$(sed -n 's/.*"dir": *"\([^"]*\)".*/\1/p' "$config")
        grep -q "[\` ]$dir\`" data/README.md || { echo "$config: $dir"; false; }
    done
}
