#!/usr/bin/env bats
# Completion of command lines in bash, zsh and fish.

setup()
{
    root=$(realpath "$BATS_TEST_DIRNAME/../..")
    DEQ=$(realpath "${DEQ:-build/deq}")
    cd "$BATS_TEST_TMPDIR"
    mkdir bin folder configs
    ln -s "$DEQ" bin/deq
    touch file.txt 'a blank.txt' configs/own.json
    PATH=$PWD/bin:$PATH
}

# What the program itself offers for the words, without descriptions, in one line.
offers() { "$DEQ" --complete "$@" | cut -f 1 | paste -sd ' '; }

is() { [ "$output" = "$1" ] || { echo "got  $output"; echo "want $1"; return 1; }; }

@test "subcommands, tools and topics" {
    [ "$(offers tr)" = train ]
    [ "$(offers '')" = "$("$DEQ" help | awk '/^  [a-z]+  / { print $1 }' | paste -sd ' ') --help --version" ]
    [ "$(offers bench '')" = "$("$DEQ" help bench | awk '/^  [a-z]+  / { print $1 }' | paste -sd ' ')" ]
    [ "$(offers help conf)" = config ]
    [ "$(offers help bench mem)" = memory ]
    [ "$(offers help config train.wa)" = "train.warmup_steps" ]
    [ -z "$(offers nothing '')" ]
    [ -z "$(offers bench nothing '')" ]
    "$DEQ" --complete
}

@test "every option of every help is offered, once" {
    for name in $("$DEQ" help | awk '/^  [a-z]+  / { print $1 }'); do
        [ "$name" != bench ] || continue
        [ "$("$DEQ" --complete "$name" -- | cut -f 1 | sort)" = \
            "$("$DEQ" help "$name" | grep -oE '^ {2,6}(-., )?--[a-z-]+' | grep -oE -- '--[a-z-]+' | sort)" ]
    done
    [ "$(offers train --quiet --qu)" = "" ]
    [ "$(offers train --set train.lr=1 --se)" = --set ]
    [ "$(offers train -q --qu)" = "" ]
}

@test "values of options" {
    [ "$(offers train --preset '')" = "auto small medium large" ]
    [ "$(offers train --preset=s)" = "--preset=small" ]
    [ "$(offers eval x --split '')" = "valid test train" ]
    [ "$(offers tokenize --split p)" = punctuation ]
    [ "$(offers train --resume '')" = "auto never :files" ]
    [ "$(offers train --reset optimizer,s)" = "optimizer,schedule" ]
    [ "$(offers train --data '')" = :folders ]
    [ "$(offers train --config ow)" = "own :files" ]
    offers train --config '' | grep -qw kjv
    [ -z "$(offers sample -n '')" ]
    # The value of an option is none of the operands, and may be missing for --config.
    [ "$(offers eval --split valid '')" = :files ]
    [ "$(offers info --config --js)" = --json ]
    [ "$(offers eval -- --js)" = :files ]
}

@test "keys of the configuration and their values" {
    [ "$("$DEQ" --complete train --set '' | wc -l)" -eq "$("$DEQ" help config | grep -c ' = .*;')" ]
    [ "$(offers train --set model.ce)" = "model.cell=" ]
    [ "$(offers train --set model.cell=tr)" = "model.cell=transformer model.cell=trellis" ]
    [ "$(offers train --set model.wnorm=)" = "model.wnorm=true model.wnorm=false" ]
    [ "$(offers train --set=train.schedule=w)" = "--set=train.schedule=wsd" ]
    [ -z "$(offers train --set model.no=)" ]
}

@test "bash" {
    run bash "$root/tests/tools/tab.bash" "$root/scripts/completion/deq.bash" "deq tr" \
        "deq train --pre" "deq train --preset " "deq train --preset=s" "deq train --set model.ce" \
        "deq train --set model.cell=tr" "deq train --set=model.cell=tre" "deq eval f" \
        "deq train --data f" "deq train --config=fi" "deq eval a" "bin/deq bench mem" "./none tr"
    is "[deq tr] train
[deq train --pre] --preset
[deq train --preset ] auto small medium large
[deq train --preset=s] small
[deq train --set model.ce] model.cell=
[deq train --set model.cell=tr] transformer trellis
[deq train --set=model.cell=tre] trellis
[deq eval f] file.txt folder
[deq train --data f] folder
[deq train --config=fi] file.txt
[deq eval a] a blank.txt
[bin/deq bench mem] memory
[./none tr]"
    [ "$(bash -c ". $root/scripts/completion/deq.bash; complete -p deq")" = "complete -F _deq deq" ]
}

@test "zsh" {
    command -v zsh >/dev/null || skip "no zsh (scripts/deps.sh shells)"
    run timeout 60 zsh -f "$root/tests/tools/tab.zsh" "$root/scripts/completion" "deq tr" \
        "deq train --pre" "deq train --preset me" "deq train --set model.ce" \
        "deq train --set model.cell=tre" "deq eval fi" "deq train --config=fi" "deq train --data f" \
        "deq train --preset=s" "deq bench mem" "deq train --config kj"
    is "[deq tr] deq train |
[deq train --pre] deq train --preset |
[deq train --preset me] deq train --preset medium |
[deq train --set model.ce] deq train --set model.cell=|
[deq train --set model.cell=tre] deq train --set model.cell=trellis |
[deq eval fi] deq eval file.txt |
[deq train --config=fi] deq train --config=file.txt |
[deq train --data f] deq train --data folder/|
[deq train --preset=s] deq train --preset=small |
[deq bench mem] deq bench memory |
[deq train --config kj] deq train --config kjv |"
}

@test "fish" {
    command -v fish >/dev/null || skip "no fish (scripts/deps.sh shells)"
    tab() { XDG_CONFIG_HOME=$PWD/.config fish --no-config -c "source $root/scripts/completion/deq.fish; complete -C '$1'" | cut -f 1 | paste -sd ' '; }
    [ "$(tab 'deq tr')" = train ]
    [ "$(tab 'deq train --pre')" = --preset ]
    [ "$(tab 'deq train --preset ')" = "auto large medium small" ]
    [ "$(tab 'deq train --preset=s')" = --preset=small ]
    [ "$(tab 'deq train --set model.cell=tr')" = "model.cell=transformer model.cell=trellis" ]
    [ "$(tab 'deq eval f')" = "file.txt folder/" ]
    [ "$(tab 'deq train --data fo')" = folder/ ]
    [ "$(tab 'deq train --config=fi')" = --config=file.txt ]
    [ "$(tab 'bin/deq bench mem')" = memory ]
}
