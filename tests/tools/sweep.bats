# Fair comparisons: the grid, its growth, seeds, equal time, stopping and going on.

load ../cli/tiny_run

setup_file()
{
    tiny_run
    "$DEQ" tokenize --train text --valid text --test text --out data --force >/dev/null
    sed -i 's/"steps": 2/"steps": 12, "warmup_steps": 2/; s/"pretrain_steps": 1/"pretrain_steps": 0/' tiny.json
}

setup()
{
    command -v python3 >/dev/null || skip "python3 is not installed"
    export DEQ
    DEQ=$(realpath "$DEQ")
    sweep=$(realpath "$BATS_TEST_DIRNAME/../../scripts/sweep/sweep.py")
    cd "$BATS_TEST_TMPDIR"
}

# plan KEY...: a plan with those further members.
plan()
{
    cat >plan.json <<PLAN
{ "title": "tiny", "config": "$home/tiny.json",
  "networks": { "equilibrium": {}, "a layer": { "set": { "model.layers": 1 } } },
  "parameters_within": 0.05, "search": { "train.lr": [0.001, 0.002, 0.1] }$1 }
PLAN
}

@test "sweep: the best point of each network is trained with every seed, and grids grow" {
    plan ', "seeds": [1, 2]'
    run "$sweep" plan.json --jobs 2
    [[ "$status" -eq 0 || "$output" == *"lies at an edge"* ]]
    [[ "$output" == *"| equilibrium | "*" | 2 | 0 |"* ]]
    [ "$(find plan/runs -path '*final_*/result.json' | wc -l)" -eq 4 ]
    # 0.1 was better than what is below, so the grid has gone on to 5 and perhaps beyond.
    [ -e plan/runs/search_equilibrium_lr5_seed1/result.json ]
    # The point that was chosen is the one with the lowest validation loss.
    python3 -c '
import glob, json
best = json.load(open("plan/results.json"))["networks"]["equilibrium"]["best"]
tried = [json.load(open(f)) for f in glob.glob("plan/runs/search_equilibrium_*/result.json")]
assert min(tried, key=lambda r: r["valid_nll"])["point"] == best, (tried, best)'
    # Nothing is trained again.
    touch marker
    run "$sweep" plan.json
    [ -z "$(find plan/runs -newer marker -name result.json)" ]
}

@test "sweep: networks of unequal size are refused before any training" {
    plan ', "set": { "model.d_inner": 16 }'
    sed -i 's/"model.layers": 1/"model.layers": 1, "model.d_inner": 64/' plan.json
    run "$sweep" plan.json
    [ "$status" -eq 1 ]
    [[ "$output" == *"a layer has "*" parameters and equilibrium has "*"parameters_within"* ]]
    [ -z "$(ls plan/runs)" ]
}

@test "sweep: equal time gives the cheaper network more steps" {
    # An evaluation of f is a layer's, and the equilibrium has hundreds of them in a step.
    plan ', "seeds": [1], "equal_time": true, "search_set": {"train.steps": 4},
        "set": {"solver.forward.max_iter": 400, "train.steps": 40}'
    run "$sweep" plan.json
    [ "$(find plan/runs -name 'time_equilibrium*' | wc -l)" -eq 0 ]
    more=$(cat plan/runs/time_a-layer_*/result.json | sed -n 's/.*"train.steps": \([0-9]*\).*/\1/p')
    [ "$more" -gt 40 ]
    [[ "$output" == *"| a layer, equal time | "* ]]
}

@test "sweep: a stopped comparison goes on, and a run that broke down is the worst" {
    plan ', "seeds": [1]'
    sed -i 's/"train.lr": \[[^]]*\] }/"train.lr": [0.01, 0.02], "train.clip": [0.25, 100] }/' plan.json
    sed 's/"steps": 12/"steps": 1000000/' "$home/tiny.json" >long.json
    sed "s,$home/tiny.json,long.json," plan.json >long-plan.json
    # 3: bats waits for whoever holds it open
    "$sweep" long-plan.json --out long 3>&- 2>err &
    child=$!
    until ls long/runs/*/run/config.json >/dev/null 2>&1; do
        kill -0 "$child" || cat err
        kill -0 "$child"
        sleep 0.1
    done
    kill -TERM "$child"
    code=0
    wait "$child" || code=$?
    [ "$code" -eq 75 ]
    for folder in long/runs/*/run; do
        [ ! -e "$folder/config.json" ] || "$DEQ" info "$folder" >/dev/null # it was saved
    done
    [ -n "$(cat long/runs/*/seconds)" ]
    sed -i 's/\[0.25, 100\]/[0.25, 0]/; s/"networks": {/"set": {"model.norm": "rms", "model.pre_lnorm": true, "train.steps": 60}, &/; s/0.01, 0.02/0.01, 100/' plan.json
    run "$sweep" plan.json
    [[ "$output" == *"| broke down |"* ]]
    [ "$status" -eq 0 ]
}

@test "sweep: a plan with a fault is refused in words" {
    echo '{ "config": "x.json", "networks": {"a": {}}, "serch": {} }' >plan.json
    run "$sweep" plan.json
    [ "$status" -eq 1 ]
    [[ "$output" == *"plan.json: serch is no key of a plan"* ]]
    plan ', "preset": "small"'
    run "$sweep" plan.json
    [[ "$output" == *"want either config or preset"* ]]
    plan ''
    sed -i 's/"train.lr"/"train.rl"/' plan.json
    run "$sweep" plan.json
    [ "$status" -eq 1 ]
    [[ "$output" == *"train.rl"* ]]
    plan ''
    run "$sweep" plan.json --stage final --task 0
    [[ "$output" == *"points of the search have not ended"* ]]
    run "$sweep" plan.json --count search
    [ "$output" = 6 ]
}
