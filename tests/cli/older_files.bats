# Files that version 0.1.0 wrote, before the source was rearranged, are read as they were meant:
# shards of words and bytes, run folders of a transformer with a learned initial guess and a
# Jacobian penalty, of a trellis and of an untied network. tests/golden/0.1 holds them.

setup()
{
    export OMP_NUM_THREADS=1
    cp -r "$BATS_TEST_DIRNAME/../golden/0.1/." "$BATS_TEST_TMPDIR/"
    cd "$BATS_TEST_TMPDIR"
}

# The values are those that 0.1.0 printed on a processor with AVX-512. Float32 sums in another order
# move f by some 1e-7 of it. Anderson's mixing amplifies that in a solve that has not converged: with
# kernels for AVX2 the losses differ by up to 9e-6.
near()
{
    awk -v a="$1" -v b="$2" -v tol="$3" 'BEGIN { d = a / b - 1; exit !(a > 0 && d * d < tol * tol) }'
}

# An evaluation of CHECKPOINT has this loss, and its weights this digest.
reads()
{
    "$DEQ" info --check "$1"
    "$DEQ" info --json "$1" | grep -F "\"weights_digest\":\"$2\""
    nll=$("$DEQ" eval --device cpu --json "$1" | tail -n 1 | sed 's/.*"nll":\([0-9.]*\).*/\1/')
    near "$nll" "$3" 1e-4
}

# Continues RUN to STEPS, and compares the losses of its last steps. The older program went on along
# the cosine over all steps, whose rates are given one by one.
continues()
{
    run_folder=$1
    steps=$2
    shift 2
    n=$((steps - $#))
    for want; do
        n=$((n + 1))
        rate=$(awk "BEGIN { print 1e-30 + 0.0025 * (1 + cos(3.14159265358979 * ($n - 2) / ($steps - 2))) }")
        "$DEQ" train -q --device cpu "$run_folder" --set train.steps=$n --set train.lr="$rate" \
            --set train.schedule=constant --set train.warmup_steps=0
        loss=$(sed -n 's/.*"event":"step","step":'$n',"loss":\([0-9.]*\).*/\1/p' "$run_folder/log.jsonl")
        near "$loss" "$want" 1e-4
    done
}

@test "a run of a transformer is evaluated and continued" {
    reads transformer/last.bin cfc9679c90d4b22d 2.6481983532776705
    continues transformer 16 2.710904248058796 2.629504255950451 2.650913394987583 2.7166426107287407
}

@test "a run of a trellis on bytes is evaluated and continued" {
    reads trellis/last.bin dfe48645fb9a8386 5.493279463698341
    continues trellis 12 5.504495054483414 5.48930287361145 5.480026364326477 5.492460668087006
}

@test "a run of an untied network with AdamW is evaluated and continued" {
    reads untied/last.bin 7236e24b259f4e0c 2.733232188869167
    continues untied 16 2.7407966926693916 2.6999150663614273 2.612568147480488 2.909491650760174
}

@test "its configurations and shards are described" {
    "$DEQ" info --config transformer/config.json
    "$DEQ" info --config trellis/config.json
    "$DEQ" info --check words/train-00000.bin
    "$DEQ" info --check bytes/valid-00000.bin
}
