# The pages for people: their reference is the program's own, their commands are accepted, and what they
# link to exists.

# The pages at the doors of the folders.
pages()
{
    printf '%s\n' README.md configs/README.md data/README.md src/README.md cuda/README.md \
        scripts/README.md tests/README.md tests/figures.md tests/research.md CONTRIBUTING.md
}

@test "configs/README.md has the reference of this program" {
    cd "$BATS_TEST_DIRNAME/../.."
    scripts/update-readme.sh | diff configs/README.md -
}

@test "README.md is short enough to be read" {
    [ "$(wc -l <"$BATS_TEST_DIRNAME/../../README.md")" -le 190 ]
}

@test "the files that the pages name exist" {
    cd "$BATS_TEST_DIRNAME/../.."
    count=0
    while read -r page; do
        # Links, and names in backquotes of files in the folders of the project.
        while read -r name; do
            [ -e "$name" ] || [ -e "$(dirname "$page")/$name" ] || { echo "$page: $name"; false; }
            count=$((count + 1))
        done < <(sed -n 's/[^]]*\](\([^)h][^)]*\))/\1\n/gp' "$page" | grep -v '^$\|[ |]' || true
            grep -o '`[a-zA-Z_./-]*`' "$page" | tr -d '\`' |
                grep -v NAME | grep -E '^(cmd|src|cuda|configs|data|scripts|tests)/[a-zA-Z_./-]*\.[a-z]+$|^[A-Z]+\.(md|cff)$' || true)
    done < <(pages)
    [ "$count" -gt 40 ]
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
    [ "$1" != "deq bench" ] || return 0 # the name of a group
    mapfile -t words < <(sed 's/\<N\>/1/g; s/\<X\>/0.5/g; s/help config KEY/help config train.lr/' <<< "${1%% | *}" | xargs -n 1 printf '%s\n')
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

@test "the commands of the pages and of deq help are accepted" {
    cd "$BATS_TEST_DIRNAME/../.."
    DEQ=$(realpath "$DEQ")
    count=0
    while read -r line; do
        check_command "$line" || { echo "$line: $output"; false; }
        count=$((count + 1))
    done < <(pages | xargs cat | commands_of
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
