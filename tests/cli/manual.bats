#!/usr/bin/env bats
# The manual pages that deq help --man writes.

setup_file()
{
    DEQ=$(realpath "${DEQ:-build/deq}")
    cd "$BATS_FILE_TMPDIR"
    "$DEQ" help --man >deq.1
    "$DEQ" help config --man >deq-config.5
    for name in $("$DEQ" help | awk '/^  [a-z]+  / { print $1 }'); do
        "$DEQ" help "$name" --man >"deq-$name.1"
    done
}

setup()
{
    DEQ=$(realpath "${DEQ:-build/deq}")
    cd "$BATS_FILE_TMPDIR"
}

# The words of a page, without fonts and escapes.
words() { sed 's/\\f[BIR]//g; s/\\-/-/g; s/\\(aq/'"'"'/g; s/\\e/\\/g' "$1"; }

@test "groff, mandoc and man have nothing to say about any page" {
    found=
    for page in *.[15]; do
        if command -v groff >/dev/null; then
            found=yes
            run groff -ww -man -Tutf8 -z "$page"
            [ -z "$output" ] || { echo "$page: $output"; false; }
        fi
        if command -v mandoc >/dev/null; then
            found=yes
            run mandoc -T lint "$page"
            [ -z "$output" ] || { echo "$page: $output"; false; }
        fi
        if command -v man >/dev/null && [ -e /etc/manpath.config ]; then
            run bash -c "man --warnings -l '$page' 2>&1 >/dev/null"
            [ -z "$output" ] || { echo "$page: $output"; false; }
        fi
    done
    [ -n "$found" ] || skip "neither groff nor mandoc (scripts/deps.sh manual)"
}

@test "every page has its sections, and its title the version and a day" {
    version=$("$DEQ" --version)
    for page in *.[15]; do
        grep -q "^\.TH [A-Z-]* [15] [0-9]\{4\}-[0-9][0-9]-[0-9][0-9] \"$version\" " "$page"
        for section in NAME DESCRIPTION "SEE ALSO"; do
            grep -qx "\.SH $section" "$page" || { echo "$page: no $section"; false; }
        done
        case $page in
        *.1) grep -qx '\.SH SYNOPSIS' "$page" && grep -qx '\.SH EXIT STATUS' "$page" ;;
        esac
    done
    for section in OPTIONS ENVIRONMENT FILES EXAMPLES; do
        grep -qx "\.SH $section" deq-train.1
        grep -qx "\.SH $section" deq.1
    done
    # The variables of threads and the day are in no page that has nothing to do with them.
    ! grep -q '^\.SH ENVIRONMENT' deq-version.1
}

@test "pages have every option, field, example and default of the help" {
    for name in $("$DEQ" help | awk '/^  [a-z]+  / { print $1 }'); do
        tools=
        [ "$name" != bench ] || tools=$("$DEQ" help bench | awk '/^  [a-z]+  / { print $1 }')
        for tool in "" $tools; do
            "$DEQ" help "$name" $tool | grep -oE '^ {2,6}(-., )?--[a-z-]+|Default: [^ ]*' |
                sed 's/^ *//' >wanted
            while IFS= read -r line; do
                words "deq-$name.1" | tr '\n' ' ' | grep -qF -- "$line" || { echo "$name: $line"; false; }
            done <wanted
        done
    done
    words deq-bench.1 | grep -q '^reduction_vs_trellis70\|^rows\[\]'
    words deq-sample.1 | grep -qF "deq sample runs/kjv --prompt \"And God said\" -n 4 --stop '\\n'"
}

@test "the page of the configuration has every key, its default and its range" {
    "$DEQ" help config --markdown | sed -n 's/^| `\([^`]*\)` | \([a-z]*\) .*/\1 \2/p' >keys
    [ "$(wc -l <keys)" -gt 80 ]
    while read -r key type; do
        words deq-config.5 | grep -A 6 -Fx "$key" | grep -q "^($type"
    done <keys
    words deq-config.5 | grep -qFx '(integer: 1..1024 heads; default 8)'
}

@test "a line of a page never begins with what roff takes for a request" {
    for page in *.[15]; do
        run grep -nE "^['.]" "$page"
        [ "$(grep -cvE '^[0-9]+:\.(\\"|TH|nr HY 0|ad l|SH|SS|SY|YS|TP|PP|BR|EX|EE|br)( |$)' <<<"$output")" -eq 0 ]
    done
}

@test "requests that make no sense are refused" {
    run "$DEQ" help config train.lr --man
    [ "$status" -eq 64 ]
    [ "$output" = "deq help: train.lr: unexpected; want deq help config --man" ]
    run "$DEQ" help bench memory --man
    [ "$status" -eq 64 ]
    [ "$output" = "deq help: memory: its page is in deq help bench --man" ]
    run "$DEQ" help config --man --markdown
    [ "$status" -eq 64 ]
    run "$DEQ" help frobnicate --man
    [ "$status" -eq 64 ]
}
