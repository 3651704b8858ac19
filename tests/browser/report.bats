#!/usr/bin/env bats
# The page of deq report in headless Chromium: it draws, tells values where a pointer is, and asks for
# nothing.

setup_file()
{
    export OMP_NUM_THREADS=1
    home=$BATS_FILE_TMPDIR
    export home
    why=
    python=/usr/bin/python3
    for program in chromium chromedriver $python; do
        command -v $program >/dev/null || why="no $program (scripts/deps.sh browser)"
    done
    [ -n "$why" ] || $python -c 'import selenium' 2>/dev/null || why="no selenium (scripts/deps.sh browser)"
    export why
    [ -z "$why" ] || return 0
    cd "$home"
    printf '</script><img src=x onerror=alert(1)> <!-- <script> & caf\303\251\n' >text
    for _ in $(seq 40); do cat text; done >texts
    "$DEQ" tokenize --train texts --valid texts --out data --bytes >/dev/null
    cat >tiny.json <<'CONFIG'
{ "data": { "dir": "data" },
  "model": { "d_model": 16, "n_head": 2, "d_inner": 32, "init_std": 0.1 },
  "train": { "steps": 30, "batch": 2, "tgt_len": 16, "mem_len": 8, "pretrain_steps": 5, "warmup_steps": 2,
             "eval_every": 10, "checkpoint_every": 0 },
  "eval": { "batch": 2, "tgt_len": 16, "mem_len": 16, "max_iter": 8 } }
CONFIG
    "$DEQ" train -q --config tiny.json --out one
    "$DEQ" train -q --config tiny.json --set train.lr=0.01 --out two
    if ! "$DEQ" report one two --out page.html --text text --sample-tokens 20 2>err; then
        why="built without a chart library (scripts/deps.sh report)"
        grep -q libjs-chart err
        return
    fi
    HOME=$home $python "$BATS_TEST_DIRNAME/look.py" page.html >facts
}

setup()
{
    [ -z "$why" ] || skip "$why"
    cd "$home"
}

# The value of a fact.
seen()
{
    sed -n "s/^$1	//p" facts
}

# The logged value of a field of step 3 of the first run, in four digits.
logged()
{
    awk -v field="\"$1\":" '/"event":"step","step":3,/ {
        at = index($0, field)
        printf "%.4g\n", substr($0, at + length(field)) }' one/log.jsonl
}

@test "the page loads without an error and asks for nothing" {
    [ "$(seen title)" = "one, two – deq report" ]
    [ "$(seen errors)" = "[]" ]
    [ "$(seen requests)" = "['file://$(realpath page.html)']" ]
}

@test "every chart is drawn" {
    [ "$(grep -c '^chart-' facts)" -eq 6 ]
    while read -r name pixels; do
        [ "$pixels" -gt 2000 ] || { echo "$name $pixels"; false; }
    done < <(grep '^chart-' facts)
}

@test "a point says what the log says" {
    [[ "$(seen "hover loss")" == "['Steps 3', 'one, training: $(logged loss)'"* ]]
    [[ "$(seen "hover perplexity")" == "['Steps 3', 'one, training: $(logged ppl)'"* ]]
    # A rate may be written as 5e-4.
    read -r rate < <(seen "hover tokens" | sed -n "s/^\['Tokens $(logged tokens)', 'one: \([0-9.e-]*\)'.*/\1/p")
    awk -v a="$rate" -v b="$(logged lr)" 'BEGIN { exit !(a != "" && a + 0 == b + 0) }'
}

@test "a token says what deq score says" {
    "$DEQ" score one text --tokens >scores 2>err
    read -r _ logprob rank _ token < <(sed -n 5p scores)
    # The text begins with a line, and the page tells surprise in three digits.
    fact=$(seen surprise)
    [[ "$fact" == "“$token” | surprise "*" nats ("*" bits), probability "*" %"*" | rank $rank of all tokens | "*" evaluations of f" ]]
    awk -v a="${fact#*surprise }" -v b="$logprob" 'BEGIN { d = a + b; exit !(d < 0.02 && d > -0.02) }'
    [[ "$(seen evaluations)" == "“$(sed -n 6p scores | awk '{ print $5 }')” | surprise "* ]]
    [ "$(seen "surprise colour")" != "$(seen "evaluations colour")" ]
}

@test "a text of markup is shown and does nothing" {
    [ "$(seen images)" = 0 ]
    [ "$(seen text)" = "$(cat text)↵ | " ]
}

@test "a run is hidden, the dark is dark, and a phone is wide enough" {
    [ "$(seen hidden)" = "[False, True]" ]
    [ "$(seen dark)" = "rgb(20, 23, 28)" ]
    [ "$(seen width)" = 390 ]
}
