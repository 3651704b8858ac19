#!/usr/bin/env bats
# The page of deq report as a file. tests/browser looks at it in a browser.

bats_require_minimum_version 1.5.0
load tiny_run

setup_file()
{
    tiny_run
    "$DEQ" train -q --config tiny.json --set train.lr=0.01 --set train.eval_every=1 --out other
    if "$DEQ" report run --no-text --no-samples --out probe.html 2>err; then built=yes; else built=no; fi
    export built
}

setup()
{
    cd "$BATS_TEST_TMPDIR"
    case $BATS_TEST_DESCRIPTION in
    without*) ;;
    *) [ "$built" = yes ] || skip "built without a chart library (scripts/deps.sh report)" ;;
    esac
}

# The data of a page, as JSON.
data_of()
{
    sed -n 's/^<script type="application\/json" id="data">\(.*\)<\/script>$/\1/p' "$1"
}

@test "without a chart library the package is named" {
    [ "$built" = no ] || skip "built with a chart library"
    run "$DEQ" report "$home/run" --out r.html
    [ "$status" -eq 69 ]
    [[ "$output" == *"apt-get install libjs-chart.js, then make again"* ]]
    [ ! -e r.html ]
}

@test "a page of two runs has all its parts, and needs nothing from elsewhere" {
    run --separate-stderr "$DEQ" report "$home/run" "$home/other/" --out r.html --samples 3 --sample-tokens 5
    [ "$status" -eq 0 ]
    [[ "$output" == "r.html: 2 runs, 0."*" MB" ]]
    [ "$(stat -c %s r.html)" -lt 3000000 ]
    data_of r.html >data.json
    for part in '"name":"run"' '"name":"other"' '"loss":{"mean":' '"config":{"data":' '"allocations":\[{' \
        '"text":{"name":"the beginning of the validation data in ' '"pieces":\[\["' '"samples":\["' \
        '"best":{"event":"evaluation"' '"parameters":'; do
        grep -q "$part" data.json || { echo "$part"; false; }
    done
    # No element names an address: what the library holds are comments and strings of it.
    [ "$(grep -cE '<(script|link|img|iframe)[^>]*(src|href)="[^d#]' r.html)" -eq 0 ]
    grep -q "default-src 'none'" r.html
}

@test "scores on the page are those of deq score" {
    printf 'the king said to the son\n' >text
    "$DEQ" score "$home/run/last.bin" text --tokens --json 2>err | head -n 1 >score
    "$DEQ" report "$home/run" --out r.html --text text --no-samples 2>err
    data_of r.html | grep -o '"pieces":\[\(\[[^]]*\],\?\)*\]' | grep -o '\["[^]]*\]' >pieces
    [ "$(wc -l <pieces)" -eq "$(grep -o '"logprob"' score | tail -n +2 | wc -l)" ]
    grep -o '"logprob":-[0-9.e-]*,"rank":[0-9]*,"nfe":[0-9]*' score | sed 's/"[a-z]*"://g; s/,/ /g' >wanted
    # A solve that has not converged depends on how many positions are solved at once.
    sed 's/^.*",//; s/\]$//; s/,/ /g' pieces | paste -d ' ' - wanted | awk '
        { d = $1 + $4; if (d < 0) d = -d
          if (NF != 6 || d > 0.01 * $1 || ($2 < 500 && $3 != $5)) { print; bad = 1 } }
        END { exit bad || NR < 5 }'
}

@test "an unknown word is shown as the text has it" {
    "$DEQ" tokenize --train "$home/text" --valid "$home/text" --unk map --split blanks --out data >/dev/null 2>&1
    "$DEQ" train -q --config "$home/tiny.json" --data data --out run
    printf 'the king said zebra\n' >text
    "$DEQ" report run --out r.html --text text --no-samples 2>err
    data_of r.html >data.json
    grep -q '"tokens":5,.*"unknown":1,' data.json
    grep -q '\[" zebra",[0-9.]*,[0-9]*,[0-9]*,1,true\]' data.json
}

@test "words like markup stay text" {
    printf '</script><img src=x onerror=alert(1)> <!-- <script>\n' >text
    for _ in 1 2 3 4 5 6 7 8 9; do cat text; done >texts
    "$DEQ" tokenize --train texts --out data --split blanks >/dev/null 2>&1
    "$DEQ" train -q --config "$home/tiny.json" --data data --out run
    "$DEQ" report run --out r.html --text text --prompt '<!--' 2>err
    [ "$(grep -o '<script' r.html | wc -l)" -eq 3 ]
    [ "$(grep -o '</script' r.html | wc -l)" -eq 3 ]
    data_of r.html | grep -q 'u003c/script>'
    [ "$(data_of r.html | grep -c '<')" -eq 0 ]
}

@test "what is missing is said, and the rest is made" {
    cp -r "$home/run" bare
    rm bare/*.bin
    run --separate-stderr "$DEQ" report bare --device cpu --out r.html
    [ "$status" -eq 0 ]
    [ "$stderr" = "deq report: bare: no shaded text and samples: bare: a folder without best.bin or last.bin" ]
    data_of r.html | grep -q '"missing":\["shaded text and samples: bare: '
    rm bare/config.json
    run --separate-stderr "$DEQ" report bare --device cpu --out r.html --json --no-text --no-samples
    [ "$status" -eq 0 ]
    [[ "$output" == *'"runs":[{"name":"bare","folder":"bare","missing":["configuration and memory map: '* ]]
    cp "$home/run/last.bin" bare
    "$DEQ" report bare --device cpu --out r.html --samples 1 --sample-tokens 2 2>err
    data_of r.html | grep -q '"samples":\['
    # A text that is gone takes the shading away alone.
    cp -r "$home/data" data
    "$DEQ" train -q --config "$home/tiny.json" --data data --out moved
    rm -r data
    run --separate-stderr "$DEQ" report moved --device cpu --out r.html --no-samples
    [ "$status" -eq 0 ]
    [[ "$stderr" == *"deq report: moved: no shaded text: data"*", or name a text by --text" ]]
    printf 'what is no word of it\n' >unknown
    run --separate-stderr "$DEQ" report moved --device cpu --out r.html --text unknown --samples 1 --sample-tokens 2
    [ "$status" -eq 0 ]
    [[ "$stderr" == *"deq report: moved: no shaded text: unknown"* ]]
    data_of r.html | grep -q '"samples":\['
}

@test "a run under way, without a step, and with damage" {
    mkdir new
    : >new/log.jsonl
    "$DEQ" report new --out r.html --no-text --no-samples 2>err
    data_of r.html | grep -q '"steps":0'
    cp -r "$home/run" torn
    printf '{"event":"step","st' >>torn/log.jsonl
    "$DEQ" report torn --out r.html --no-text --no-samples 2>err
    data_of r.html | grep -q '"unreadable":0'
    printf 'x\n' >>torn/log.jsonl
    "$DEQ" report torn --out r.html --no-text --no-samples 2>err
    data_of r.html | grep -q '"unreadable":1'
}

@test "what cannot be asked for" {
    run "$DEQ" report "$home/run" --out page.txt
    [ "$status" -eq 64 ]
    [[ "$output" == *"want a name that ends with .html"* ]]
    run "$DEQ" report "$home" --out r.html
    [ "$status" -eq 66 ]
    [[ "$output" == *"log.jsonl: no such file: want the folder of a run"* ]]
    run "$DEQ" report "$home/run" --out r.html --text none
    [ "$status" -eq 66 ]
    run "$DEQ" report "$home/run" --out r.html --no-text --text none
    [ "$status" -eq 64 ]
    run "$DEQ" report "$home/run" --out none/r.html --no-text --no-samples
    [ "$status" -eq 73 ]
    runs=()
    for i in $(seq 25); do runs+=("$home/run"); done
    run "$DEQ" report "${runs[@]}" --out r.html
    [ "$status" -eq 64 ]
    [ ! -e r.html ]
}
