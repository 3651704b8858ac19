#!/bin/sh
# Checks the CUDA backend on the GPU of this machine, and measures it. Writes one JSON report.
#
#   scripts/gpu-check.sh [-o REPORT.json] [-b BUILD] [REFERENCE.safetensors]...
#
#   -o  the report (BUILD/gpu-check.json); outputs of all steps go to BUILD/gpu-check/
#   -b  build folder (build-gpu)
#
# Steps: build with CUDA=1; the operations' suite on the GPU (make test-cuda); deq verify on the
# given reference files; 20 training steps whose losses must follow the processor's within 1e-4, on
# one GPU and, where there are more and Open MPI, on two, twice with the same bits;
# compute-sanitizer (memcheck, racecheck, initcheck) over two steps; deq bench train at the default
# and the published setting, beside what deq plan expects. A step that cannot run here is reported
# as skipped, with the reason. Exit 1 if one failed, 69 without a GPU or the CUDA Toolkit.
#
# Needs a driver, nvcc, cuBLAS, make, gcc and g++, and no network. cJSON, zlib, xxHash, oneDNN,
# OpenBLAS and cmocka are taken from the system; where they are missing, make the archive of
# scripts/bundle.sh on a machine that has them and unpack it here: its folder deps/ is used by
# itself.
# Functions are called through step:
# shellcheck disable=SC2317
set -eu
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)
build='build-gpu'
report=
while getopts o:b:h option; do
    case $option in
    o) report=$OPTARG ;;
    b) build=$OPTARG ;;
    h)
        sed -n '2,/^# Functions/{/^# Functions/d;s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))

unavailable()
{
    echo "gpu-check.sh: $*" >&2
    exit 69
}

for file; do
    shift
    [ -f "$file" ] || {
        echo "gpu-check.sh: no such file: $file" >&2
        exit 66
    }
    set -- "$@" "$(realpath "$file")"
done
command -v nvidia-smi >/dev/null || unavailable "no GPU here: there is no nvidia-smi (NVIDIA driver)"
gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null |
    head -n 1) || gpu=
[ -n "$gpu" ] || unavailable "no GPU here: nvidia-smi lists none"
nvcc=${CUDA_HOME:+$CUDA_HOME/bin/nvcc}
[ -n "$nvcc" ] || nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || unavailable "no nvcc ($nvcc): install the CUDA Toolkit or set CUDA_HOME"
for tool in make gcc g++; do
    command -v "$tool" >/dev/null || unavailable "no $tool"
done
grep -q '^test-cuda:' "$root/Makefile" || unavailable "this version of deq has no CUDA backend"

from=$PWD
cd "$root"
case $build in
/*) ;;
*) build=$root/$build ;;
esac
case $report in
'') report=$build/gpu-check.json ;;
/*) ;;
*) report=$from/$report ;;
esac
out=$build/gpu-check
rm -rf "$out"
mkdir -p "$out"
deq=$build/deq
toolkit=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
failed=0
entries=0
: >"$out/steps"

# quoted TEXT: a JSON string
quoted()
{
    printf '"%s"' "$(printf '%s' "$1" | tr '\n\t' '  ' | sed 's/[\\"]/\\&/g')"
}

# entry NAME RESULT SECONDS NOTE [KEY JSON]: one step of the report
entry()
{
    [ "$entries" -eq 0 ] || printf ',\n' >>"$out/steps"
    entries=$((entries + 1))
    {
        printf '    {"name": %s, "result": "%s", "seconds": %s, "note": %s' "$(quoted "$1")" "$2" \
            "$3" "$(quoted "$4")"
        [ $# -lt 6 ] || printf ', "%s": %s' "$5" "$6"
        printf '}'
    } >>"$out/steps"
    echo "gpu-check.sh: $1: $2${4:+ ($4)}" >&2
    [ "$2" != failed ] || failed=1
}

# step NAME COMMAND...: runs it, its output into $out/NAME.log and .out
step()
{
    name=$1
    shift
    begin=$(date +%s)
    code=0
    "$@" >"$out/$name.out" 2>"$out/$name.log" </dev/null || code=$?
    took=$(($(date +%s) - begin))
    if [ "$code" -eq 0 ]; then
        note=
        result=passed
    else
        note="exit code $code: $(tail -n 1 "$out/$name.log")"
        result=failed
    fi
    last=$(tail -n 1 "$out/$name.out")
    case $last in
    '{'*'}') entry "$name" "$result" "$took" "$note" output "$last" ;;
    *) entry "$name" "$result" "$took" "$note" ;;
    esac
    return "$code"
}

write_report()
{
    {
        printf '{\n  "gpu": %s,\n  "driver": %s,\n' "$(quoted "${gpu%%,*}")" \
            "$(quoted "$(echo "$gpu" | cut -d, -f2 | tr -d ' ')")"
        printf '  "memory": %s,\n  "toolkit": %s,\n' \
            "$(quoted "$(echo "$gpu" | cut -d, -f3 | sed 's/^ *//')")" "$(quoted "$toolkit")"
        printf '  "version": %s,\n  "passed": %s,\n  "steps": [\n' \
            "$(quoted "$("$deq" --version 2>/dev/null || cat "$root/VERSION")")" \
            "$([ "$failed" -eq 0 ] && echo true || echo false)"
        cat "$out/steps"
        printf '\n  ]\n}\n'
    } >"$report.tmp"
    mv "$report.tmp" "$report"
    echo "$report"
}

set_flags()
{
    cflags='-O2 -g'
    ldflags=
    [ -d "$root/deps/lib" ] || return 0
    cflags="$cflags -I$root/deps/include"
    ldflags="-L$root/deps/lib -Wl,-rpath,$root/deps/lib"
}

build_with()
{
    make BUILD="$build" CUDA=1 CFLAGS="$cflags" LDFLAGS="$ldflags" WERROR= "$@"
}

# The suite says "skipped" where it finds no device: here that is a failure.
ops_suite()
{
    build_with test-cuda
    ! grep '# SKIP' "$out/ops.out" >&2
}

# Text of a thousand words that follow each other by a rule with noise, so that there is something
# to learn.
make_text()
{
    awk -v seed="$1" 'BEGIN {
        srand(seed)
        word = 1
        for (line = 0; line < 2000; line++) {
            text = ""
            for (i = 0; i < 12; i++) {
                word = rand() < 0.7 ? (word * 7 + 3) % 1000 : int(1000 * rand() * rand())
                text = text "w" word " "
            }
            print text
        }
    }'
}

# losses LOG: one a step
losses()
{
    grep '"event": *"step"' "$1" | sed 's/.*"loss": *\([-0-9.e+]*\).*/\1/'
}

# train DEVICE [OPTION]...: by $launch, if that is set
launch=
train()
{
    device=$1
    shift
    # A list of words.
    # shellcheck disable=SC2086
    $launch "$deq" train --config "$root/configs/demo.json" --set data.dir="$out/data" \
        --set train.batch=8 --set train.tgt_len=32 --set train.mem_len=32 \
        --set train.pretrain_steps=0 --set train.eval_every=0 --set train.checkpoint_every=0 \
        --set train.log_every=1 --set solver.backward.stop=fixed --device "$device" --resume never "$@"
}

# compare_losses RUN RUN [TRANSPORT]
compare_losses()
{
    losses "$out/$1/log.jsonl" >"$out/losses.one"
    losses "$out/$2/log.jsonl" >"$out/losses.other"
    paste "$out/losses.one" "$out/losses.other" | awk -v by="${3:-}" '
    {
        d = ($1 - $2) / $1
        d = d < 0 ? -d : d
        if (!(d <= worst))
            worst = d
        n++
    }
    END {
        printf "{\"steps\": %d, \"worst_relative_difference\": %g%s}\n", n, worst,
            by == "" ? "" : ", \"transport\": " by
        exit !(n == 20 && worst <= 1e-4)
    }'
}

same_weights()
{
    for run; do
        "$deq" info --json "$out/$run/last.bin" | sed 's/.*"weights_digest":"\([0-9a-f]*\)".*/\1/'
    done >"$out/digests"
    [ "$(wc -l <"$out/digests")" -eq $# ] && [ "$(sort -u "$out/digests" | wc -l)" -eq 1 ]
}

# Two processes with a GPU each, against the one of train-cuda.
check_two()
{
    why=
    if [ "$(nvidia-smi --query-gpu=name --format=csv,noheader | wc -l)" -le 1 ]; then
        why="one GPU here"
    elif ! command -v mpirun >/dev/null; then
        why="no mpirun"
    elif OMPI_COMM_WORLD_SIZE=2 "$deq" train --config /nonexistent 2>&1 | grep -q "without MPI"; then
        why="built without MPI"
    fi
    if [ -n "$why" ]; then
        entry train-two skipped 0 "$why"
        return 0
    fi
    launch="env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -np 2"
    if step train-two train cuda --set train.steps=20 --out "$out/run-two" &&
        step train-two-again train cuda --set train.steps=20 --out "$out/run-two-again"; then
        by=$(sed -n 's/^2 processes over \(.*\); each with:$/\1/p' "$out/train-two.log")
        step losses-two compare_losses run-cuda run-two "$(quoted "$by")" || :
        step repeats-two same_weights run-two run-two-again || :
    fi
    launch=
}

sanitizer=$(dirname "$nvcc")/compute-sanitizer
[ -x "$sanitizer" ] || sanitizer=$(command -v compute-sanitizer || true)

set_flags
if ! step build build_with all; then
    write_report
    exit 1
fi
step ops ops_suite || :
if [ $# -gt 0 ]; then
    step verify "$deq" verify --device cuda --json "$@" || :
else
    entry verify skipped 0 "no reference files were given"
fi

make_text 1 >"$out/train.txt"
make_text 2 >"$out/valid.txt"
if step tokenize "$deq" tokenize --train "$out/train.txt" --valid "$out/valid.txt" \
    --out "$out/data" --min-count 2 --unk map --json --force; then
    # Dropout masks are the same on both: the random numbers are counted, not drawn.
    if step train-cpu train cpu --set train.steps=20 --out "$out/run-cpu" &&
        step train-cuda train cuda --set train.steps=20 --out "$out/run-cuda"; then
        step losses compare_losses run-cpu run-cuda || :
        check_two
    fi
    for tool in memcheck racecheck initcheck; do
        if [ -n "$sanitizer" ]; then
            step "$tool" "$sanitizer" --tool "$tool" --error-exitcode 1 "$deq" train \
                --config "$root/configs/demo.json" --set data.dir="$out/data" \
                --set train.steps=2 --set train.pretrain_steps=1 --set train.eval_every=0 \
                --device cuda --resume never --out "$out/run-$tool" || :
        else
            entry "$tool" skipped 0 "no compute-sanitizer in the Toolkit"
        fi
    done
fi

step bench-default "$deq" bench train --device cuda --json || :
for precision in fp32 tf32 bf16; do
    set -- --config "$root/configs/wikitext103.json" --set model.vocab_size=267735 \
        --set train.precision="$precision"
    step "bench-published-$precision" "$deq" bench train "$@" --device cuda --steps 10 --json || :
    case $gpu in
    *H200*) chip=h200 ;;
    *H100*) chip=h100 ;;
    *A100*40GB*) chip=a100-40 ;;
    *A100*) chip=a100 ;;
    *) chip= ;;
    esac
    if [ -n "$chip" ]; then
        step "plan-published-$precision" "$deq" plan "$@" --device "$chip" --json || :
    else
        entry "plan-published-$precision" skipped 0 "deq plan does not know this chip"
    fi
done
write_report
exit "$failed"
