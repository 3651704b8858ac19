#!/usr/bin/env bats
# What the description of a command gives it: its help, its options, and the fields of its JSON.

load tiny_run

setup_file()
{
    tiny_run
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
}

# Every command, one a line: "eval", "bench memory".
commands()
{
    local name
    for name in $("$DEQ" help | awk '/^  [a-z]+  / { print $1 }'); do
        [ "$name" = bench ] || echo "$name"
    done
    "$DEQ" help bench | awk '/^  [a-z]+  / { print "bench " $1 }'
}

# The options in the help of a command, one a line: "tokens N", "quiet".
options_of()
{
    # shellcheck disable=SC2086
    "$DEQ" help $1 | sed -n 's/^  \(-[a-z],\|   \) --\([a-z-]*\)\( [A-Za-z|=-]*\)\?\( .*\)\?$/\2\3/p' |
        sort | grep -v '^help'
}

# Whether an option of a command may be repeated, by its help.
may_repeat()
{
    # shellcheck disable=SC2086
    "$DEQ" help $1 | awk -v option="--$2" '
        /^  (-|    --)/ { inside = 0; for (i = 1; i <= NF; i++) if ($i == option) inside = 1 }
        inside { text = text " " $0 }
        END { gsub(/ +/, " ", text); exit text !~ /May be repeated\./ }'
}

@test "every line of every help has at most 80 columns and no blanks at its end" {
    [ "$(commands | wc -l)" -gt 15 ]
    while read -r name; do
        # shellcheck disable=SC2086
        "$DEQ" help $name >text
        awk -v name="$name" 'length > 80 || / $/ { print name ": " $0; bad = 1 } END { exit bad }' text
    done < <(commands; echo bench; echo)
}

@test "every option has a help that is a sentence" {
    count=0
    while read -r name; do
        while read -r option _; do
            # shellcheck disable=SC2086
            "$DEQ" help $name | awk -v option="--$option" '
                /^  (-|    --)/ { inside = 0; for (i = 1; i <= NF; i++) if ($i == option) inside = 1 }
                /^$/ { inside = 0 }
                inside { text = text " " $0 }
                END { exit text !~ / [a-z0-9A-Z].*[.)]$/ }' || { echo "$name --$option"; false; }
            count=$((count + 1))
        done < <(options_of "$name")
    done < <(commands)
    [ "$count" -gt 100 ]
}

@test "a tool of bench has help of its own, by all three spellings" {
    for tool in train solve memory runtime growth gradient; do
        run "$DEQ" help bench "$tool"
        [ "$status" -eq 0 ]
        [[ "$output" == "usage: deq bench $tool "* ]]
        text=$output
        for option in --help -h; do
            run "$DEQ" bench "$tool" $option
            [ "$status" -eq 0 ]
            [ "$output" = "$text" ]
        done
    done
    run "$DEQ" help bench tarin
    [ "$status" -eq 64 ]
    [[ "$output" == 'deq help: want one of train, solve, memory, runtime, growth or gradient, got "tarin"'* ]]
    run "$DEQ" help eval train
    [ "$status" -eq 64 ]
}

@test "deq version prints what --version prints" {
    run "$DEQ" version
    [ "$status" -eq 0 ]
    [ "$output" = "$("$DEQ" --version)" ]
    run "$DEQ" version 2
    [ "$status" -eq 64 ]
}

# A value that the option of a help line takes.
value_of()
{
    case $1 in
    N) echo 2 ;;
    X) echo 0.5 ;;
    TIME) echo 3h ;;
    LIST) echo 1,2 ;;
    KEY=VALUE) echo train.steps=3 ;;
    NAME) case $2 in --split) echo test ;; *) echo cpu ;; esac ;;
    *) echo "${1%%|*}" ;;
    esac
}

# Options are read before anything else is done, so the commands need no files here.
@test "an option given twice that can stand only once is an error, of every kind and everywhere" {
    count=0
    while read -r name; do
        while read -r option value; do
            args=("--$option")
            [ -z "$value" ] || args+=("$(value_of "$value" "--$option")")
            # shellcheck disable=SC2086
            run "$DEQ" $name "${args[@]}" "${args[@]}" --no-such-option
            [ "$status" -eq 64 ]
            if may_repeat "$name" "$option"; then
                [[ "$output" == *": --no-such-option: unknown option"* ]] ||
                    { echo "$name --$option: $output"; false; }
            else
                [[ "$output" == "deq ${name%% *}: --$option: given twice; it can stand only once" ]] ||
                    { echo "$name --$option: $output"; false; }
                count=$((count + 1))
            fi
        done < <(options_of "$name")
    done < <(commands)
    [ "$count" -gt 80 ]
    # by a letter and by a name, and by an abbreviation
    run "$DEQ" train -q --quiet
    [ "$output" = "deq train: --quiet: given twice; it can stand only once" ]
    run "$DEQ" sample --seed 1 --se 2
    [ "$output" = "deq sample: --seed: given twice; it can stand only once" ]
    # a list can stand as often as it is needed
    "$DEQ" info --config "$home/tiny.json" --set train.steps=3 --set train.steps=4 >two
    "$DEQ" info --config "$home/tiny.json" --set train.steps=4 >one
    cmp one two
}

@test "a default in the help is the value that is used" {
    run "$DEQ" sample --prompt "the king" --checkpoint "$home/run/best.bin" --device cpu --json
    with=$(sed 's/.*"text":"\([^"]*\)".*/\1/' <<<"${lines[-1]}")
    defaults=()
    while read -r option value; do
        [ -n "$value" ] || continue
        standard=$("$DEQ" help sample | awk -v option="--$option" '
            /^  (-|    --)/ { inside = 0; for (i = 1; i <= NF; i++) if ($i == option) inside = 1 }
            /^$/ { inside = 0 }
            inside { text = text " " $0 }
            END { if (match(text, /Default: +[0-9.a-z]+\.$/)) {
                      text = substr(text, RSTART + 8); gsub(/ +|\.$/, "", text); print text } }')
        [ -z "$standard" ] || defaults+=("--$option" "$standard")
    done < <(options_of sample | grep -v device)
    [ "${#defaults[@]}" -eq 18 ]
    run "$DEQ" sample --prompt "the king" --checkpoint "$home/run/best.bin" --device cpu --json \
        "${defaults[@]}"
    [ "$(sed 's/.*"text":"\([^"]*\)".*/\1/' <<<"${lines[-1]}")" = "$with" ]
}

# The names at the top level of one line of JSON, sorted.
keys()
{
    tail -n 1 | awk '{
        for (i = 1; i <= length($0); i++) {
            c = substr($0, i, 1)
            if (quoted) {
                if (c == "\\") i++
                else if (c == "\"") { quoted = 0; if (depth == 1 && substr($0, i + 1, 1) == ":") print word }
                else word = word c
            } else if (c == "\"") { quoted = 1; word = "" }
            else if (c ~ /[{[]/) depth++
            else if (c ~ /[}\]]/) depth--
        } }' | sort
}

# documented NAME JSON-FILE: no field is missing in the help, and only those that the help calls
# "Only ..." are missing in the object.
documented()
{
    # shellcheck disable=SC2086
    "$DEQ" help $1 | awk '/^Fields of the JSON/ { inside = 1; next } /^$/ { inside = 0 }
        inside && /^  [a-z]/ { name = $1; sub(/\[\]$/, "", name); if (NF == 1) getline
                               print name, (/ Only / ? "may" : "must") }' | sort >described
    keys <"$2" >printed
    [ -s printed ]
    comm -13 <(cut -d' ' -f1 described) printed >undescribed
    comm -23 <(sed -n 's/ must$//p' described) printed >missing
    [ ! -s undescribed ] && [ ! -s missing ] ||
        { echo "$1: not in the help: $(cat undescribed); not printed: $(cat missing)"; return 1; }
}

@test "the help names the fields that --json prints" {
    best=$home/run/best.bin
    small="--set model.d_model=16 --set model.n_head=2 --set model.d_inner=32 --set train.batch=2
        --set train.tgt_len=8 --set train.mem_len=8 --set model.vocab_size=50"
    "$DEQ" tokenize --train "$home/text" --out data --json >o
    documented tokenize o
    "$DEQ" eval "$best" --json >o
    documented eval o
    "$DEQ" eval "$best" --json --nfe 2,3 --spectral-radius >o
    documented eval o
    "$DEQ" score "$best" "$home/text" --json >o
    documented score o
    "$DEQ" sample --checkpoint "$best" --prompt the --json >o 2>/dev/null
    documented sample o
    for file in "$best" "$home/data/train-00000.bin" "$BATS_TEST_DIRNAME/../golden/eval.safetensors"; do
        "$DEQ" info "$file" --check --json >o
        documented info o
    done
    "$DEQ" info --config "$home/tiny.json" --json >o
    documented info o
    "$DEQ" verify "$BATS_TEST_DIRNAME/../golden/solver_tanh.safetensors" --json >o
    documented verify o
    "$DEQ" export "$best" --out w --json >o
    documented export o
    "$DEQ" import w --out back.bin --json >o
    documented import o
    # shellcheck disable=SC2086
    {
        "$DEQ" plan $small --device h100 --json >o
        documented plan o
        "$DEQ" plan $small --device h100 --ranks 2 --json >o
        documented plan o
        "$DEQ" bench train $small --steps 1 --json >o
        documented "bench train" o
        "$DEQ" bench solve $small --steps 1 --json >o
        documented "bench solve" o
    }
    "$DEQ" bench gradient --checkpoint "$best" --segments 1 --json >o
    documented "bench gradient" o
}

@test "what is missing is asked for, with the command that explains it" {
    asks() # TEXT deq-arguments...
    {
        text=$1
        shift
        run "$DEQ" "$@"
        [ "$status" -eq 64 ]
        [[ "$output" == *": want $text (try deq help "*")" ]] || { echo "$output"; return 1; }
        # the remedy
        remedy=${output##*(try deq }
        # shellcheck disable=SC2086
        [[ "$("$DEQ" ${remedy%)})" == usage:* ]]
    }
    asks "--data DIR, --config FILE or the folder of a run to continue" train
    asks CHECKPOINT... eval
    asks "CHECKPOINT [FILE]" score
    asks "--out PATH" export x
    asks CHECKPOINT export --out x
    asks CHECKPOINT export
    asks "FILE|DIR" import --out x
    asks FILE... verify
    asks "one FILE, or --config FILE" info
    asks "--checkpoint FILE" bench gradient
    asks "one of train, solve, memory, runtime, growth or gradient" bench
    asks "--out DIR" tokenize --train x
}
