#!/usr/bin/env bats
# Configurations as users meet them: the reference, bare names, --set, messages and exit codes.

setup() {
    DEQ=${DEQ:-build/deq}
    DEQ=$(realpath "$DEQ")
    cd "$BATS_TEST_TMPDIR"
}

@test "help config KEY describes a key, the end of its path, or a section" {
    run "$DEQ" help config train.lr
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 2 ]
    [[ "${lines[0]}" == "train.lr = 0.001  (number; "* ]]
    run "$DEQ" help config lr
    [[ "${lines[0]}" == "train.lr = "* ]]
    run "$DEQ" help config tol
    [ "$(grep -c '^solver\.[a-z]*\.tol = ' <<<"$output")" -eq 2 ]
    run "$DEQ" help config solver.backward
    [ "$(grep -c '^solver\.backward\.' <<<"$output")" -gt 5 ]
    [ "$(grep -c '^[a-z].* = ' <<<"$output")" -eq "$(grep -c '^solver\.backward\.' <<<"$output")" ]
    run "$DEQ" help config train.lrr
    [ "$status" -eq 64 ]
    [ "$output" = "deq help: train.lrr: no key of a configuration; did you mean train.lr?" ]
}

@test "help config lists every key that info --config prints" {
    echo '{}' > a.json
    "$DEQ" help config > reference
    "$DEQ" help config --markdown > table
    head -2 table | tail -1 | grep -q '^|---|'
    names=$("$DEQ" info --config a.json | sed -n 's/^ *"\([a-z_0-9]*\)": [^{].*/\1/p' | sort -u)
    [ "$(echo "$names" | wc -l)" -gt 50 ]
    for name in $names; do
        grep -q "^[a-z.]*\.$name = " reference
        grep -q "^| \`[a-z.]*\.$name\` |" table
    done
}

@test "derived values are filled in, and the output is a configuration again" {
    echo '{"model": {"d_model": 96, "n_head": 3}}' > a.json
    "$DEQ" info --config a.json > b.json
    grep -q '"d_head": 32' b.json
    grep -q '"d_embed": 96' b.json
    "$DEQ" info --config b.json > c.json
    cmp b.json c.json
}

@test "--set reaches any key and may be repeated" {
    echo '{}' > a.json
    run "$DEQ" info --config a.json --set model.cutoffs=20,40 --set train.lr=0.25 \
        --set solver.forward.method=broyden --set data.dir=here
    [ "$status" -eq 0 ]
    [[ "$output" == *'"cutoffs": [20, 40]'* ]]
    [[ "$output" == *'"tie_projs": [false, true, true]'* ]]
    [[ "$output" == *'"lr": 0.25'* ]]
    [[ "$output" == *'"method": "broyden"'* ]]
    [[ "$output" == *'"dir": "here"'* ]]
}

@test "--json prints one line with the configuration in it" {
    echo '{}' > a.json
    run "$DEQ" info --config a.json --json
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ "$output" == '{"file":"a.json","kind":"config","parameters":null,"config":{"data":{"dir":"data/kjv","format":"auto","end_of_text":-1},'*'}}' ]]
}

@test "parameters are counted once the vocabulary is known" {
    # tables 10 x 8 and 20 x 4, projections 8 x 8 twice (in, out) and 8 x 4; biases 30, one cluster row
    # of 8 + 1; injection 24 x 8 and 24; f: (24 + 8 + 8) x 8 + 2 x 16 x 8, biases 8 + 16 + 8, r_w and
    # r_r of 8 each
    echo '{"model": {"d_model": 8, "n_head": 2, "d_inner": 16, "cutoffs": [10], "div_val": 2,
            "wnorm": false, "vocab_size": 30}}' > a.json
    run "$DEQ" info --config a.json --json
    [[ "$output" == *'"parameters":1199,"parameters_reported":1199,"parameters_by_part":{"embedding":256,"softmax":103,"injection":216,"f":624},'* ]]
    run "$DEQ" info --config a.json
    [[ "$output" == *"parameters: 1199 (embedding 256, softmax 103, injection 216, f 624) for a vocabulary of 30"* ]]
    # the vocabulary of a tokenized folder
    tool=$(dirname "$DEQ")/tests/tools/info_files
    [ -x "$tool" ] || skip "$tool is not built (make tests)"
    mkdir data
    "$tool" data
    echo '{"data": {"dir": "data"}, "model": {"d_model": 8, "n_head": 2}}' > b.json
    run "$DEQ" info --config b.json
    [[ "$output" == *"for a vocabulary of 5"* ]]
    [[ "$output" == *'"vocab_size": 5,'* ]]
}

@test "a bare name is looked for here and in ./configs, with and without .json" {
    mkdir configs
    echo '{"train": {"seed": 77}}' > configs/mine.json
    for name in mine mine.json configs/mine.json; do
        run "$DEQ" info --config $name
        [ "$status" -eq 0 ]
        [[ "$output" == *'"seed": 77'* ]]
    done
    echo '{"train": {"seed": 78}}' > mine.json
    for name in mine mine.json; do # nearest first
        run "$DEQ" info --config $name
        [[ "$output" == *'"seed": 78'* ]]
    done
}

@test "a missing configuration: exit 66, the places named" {
    run "$DEQ" info --config nowhere
    [ "$status" -eq 66 ]
    [[ "$output" == "deq info: nowhere: no such configuration file, here, in ./configs or among the installed"* ]]
    run "$DEQ" info --config ./nowhere.json
    [ "$status" -eq 66 ]
    [ "$output" = "deq info: ./nowhere.json: no such configuration file" ]
    run "$DEQ" info --config ""
    [ "$status" -eq 64 ]
}

@test "bad configurations: exit 78, with file, line and key" {
    printf '{\n "solver": {\n  "forward": {"history": 0}}}' > a.json
    run "$DEQ" info --config a.json
    [ "$status" -eq 78 ]
    [ "$output" = "deq info: a.json:3: solver.forward.history: want 1..64, got 0" ]

    printf '{\n "model": {\n\n "d_modle": 1}}' > a.json
    run "$DEQ" info --config a.json
    [ "$status" -eq 78 ]
    [ "$output" = "deq info: a.json:4: model.d_modle: unknown key; the nearest known one is model.d_model" ]

    printf '{"model": {"d_model": 100}}' > a.json
    run "$DEQ" info --config a.json
    [ "$status" -eq 78 ]
    [ "$output" = "deq info: a.json: model.n_head: 8 does not divide model.d_model 100" ]

    printf '{"model": {"d_model": 100}' > a.json
    run "$DEQ" info --config a.json
    [ "$status" -eq 78 ]
    [ "$output" = "deq info: a.json:1:27: want ',' or '}' in an object" ]

    : > a.json
    run "$DEQ" info --config a.json
    [ "$status" -eq 78 ]
}

@test "bad assignments: exit 78" {
    echo '{}' > a.json
    run "$DEQ" info --config a.json --set train.lr=fast
    [ "$status" -eq 78 ]
    [ "$output" = 'deq info: --set: train.lr: want 0 < x <= 100, got "fast"' ]
    run "$DEQ" info --config a.json --set train.precision=fp8
    [ "$status" -eq 78 ]
    [ "$output" = 'deq info: --set: train.precision: want fp32, tf32 or bf16, got "fp8"' ]
}

@test "an installed tree that was moved finds its presets" {
    mkdir -p "moved here/bin" "moved here/share/deq"
    cp "$DEQ" "moved here/bin/deq"
    cp -r "$BATS_TEST_DIRNAME/../../configs" "moved here/share/deq/"
    mkdir elsewhere
    cd elsewhere
    run "../moved here/bin/deq" info --config wikitext103 --set model.vocab_size=267735
    [ "$status" -eq 0 ]
    [[ "$output" == *'"vocab_size": 267735'* ]]
    # A link on the PATH is followed.
    ln -s "../moved here/bin/deq" deq
    ./deq info --config wikitext103 --set model.vocab_size=267735 >/dev/null
    rm -r "../moved here/share"
    run ./deq info --config wikitext103
    [ "$status" -eq 66 ]
}
