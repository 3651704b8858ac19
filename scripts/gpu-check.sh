#!/bin/sh
# Checks the CUDA backend on the GPU of this machine, and measures it. Writes one JSON report.
#
#   scripts/gpu-check.sh [-o REPORT.json] [-b BUILD] [-t SECONDS] [-T SECONDS] [REFERENCE.safetensors]...
#
#   -o  the report (BUILD/gpu-check.json), beside it a page of text (.txt); outputs of all steps go to
#       BUILD/gpu-check/
#   -b  build folder (build-gpu)
#   -t  the most seconds of any step; each has a limit of its own too
#   -T  the most seconds of all steps together (480); what no longer fits is skipped, the least needed
#       last
#
# It builds with CUDA=1 and runs the suite of the operations (make test-cuda) and deq verify on the
# given reference files. It trains 20 steps in fp32, tf32 and bf16, whose losses must follow the processor's
# in fp32 within 1e-4, 2e-3 and 1e-2.
# Where there are several GPUs and Open MPI, two processes train the same steps, twice with the same
# bits. It measures deq bench train at the default and the published setting, beside what deq plan
# expects, and at 16 heads of 64 and 1,024 positions, with a timeline (gpu-check/wide.json). The slow compute-sanitizer (memcheck, racecheck, initcheck) comes last, over five steps in fp32
# and in bf16, the last of which are CUDA graphs.
#
# The report is written anew after each step, so one that is cut short still says what was found. Its
# field "complete" is true at the end. The page has a line a step, and for benches the speed, the share of
# the device's own fastest product, and where the time goes. scripts/gpu_compare.py compares two reports. A step that cannot run here is reported as skipped, with the
# reason. Exit 1 if one failed, 69 without a GPU or the CUDA Toolkit.
#
# Needs a driver, nvcc, cuBLAS, make, gcc and g++, and no network. cJSON, zlib, xxHash, utf8proc, oneDNN,
# OpenBLAS and cmocka are taken from the system. Where they are missing, make the archive of
# scripts/bundle.sh on a machine that has them and unpack it here. Its folder deps/ is used without
# further options.
# Functions are called through step, and say in its result what failed. Each of their commands that can
# fail is followed by "|| return".
# shellcheck disable=SC2310,SC2317
set -eu
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)
build='build-gpu'
report=
most=
budget=480
while getopts o:b:t:T:h option; do
    case $option in
    o) report=$OPTARG ;;
    b) build=$OPTARG ;;
    t) most=$OPTARG ;;
    T) budget=$OPTARG ;;
    h)
        sed -n '2,/^# Functions/{/^# Functions/d;s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))
for seconds in "$most" "$budget"; do
    case $seconds in
    *[!0-9]* | 0*)
        echo "gpu-check.sh: -t, -T: want a number of seconds, got \"$seconds\"" >&2
        exit 64
        ;;
    esac
done
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
for tool in make gcc g++ timeout; do
    command -v "$tool" >/dev/null || unavailable "no $tool"
done
started=$(date +%s)
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
complete=false
: >"$out/steps"
page=${report%.json}.txt
echo "deq on ${gpu%%,*}, CUDA $toolkit, $(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$page"

# quoted TEXT: a JSON string
quoted()
{
    printf '"%s"' "$(printf '%s' "$1" | tr '\n\t' '  ' | sed 's/[\\"]/\\&/g')"
}

# figures JSON: those of deq bench, deq plan or a comparison of losses, for people
figures()
{
    printf '%s' "$1" | tr '{},' '[\n*]' | sed 's/[]["]//g; s/^ *//; s/: */:/' | awk -F: '
    $1 == "name" && !phases { name = $2 }
    $1 == "phases" { phases = 1 }
    $1 == "ops" { inside = 1 }
    !inside { at[$1] = $2 }
    inside && !phases && $1 == "seconds" { seconds[++n] = $2; op[n] = name }
    inside && !phases { total += $1 == "seconds" ? $2 : 0 }
    END {
        if ("worst_relative_difference" in at)
            printf "    losses differ by %g at most\n", at["worst_relative_difference"]
        if (!("tokens_per_s" in at))
            exit
        printf "    %.0f tokens/s", at["tokens_per_s"]
        if ("step_seconds" in at)
            printf ", a step %.2f ms", 1e3 * at["step_seconds"]
        if (at["busy_seconds"] > 0)
            printf ", of which operations take %.2f", 1e3 * at["busy_seconds"]
        if (at["product_gflops"] > 0)
            printf "; products at %.2f of %.1f TFLOP/s, copies %.0f GB/s", at["product_fraction"],
                at["product_gflops"] / 1e3, at["copy_gbytes_per_s"]
        printf "\n"
        for (i = 1; i <= n && i <= 8 && total > 0; i++)
            printf "    %5.1f %%  %s\n", 100 * seconds[i] / total, op[i]
    }'
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
    printf '%-22s %-8s %4s s  %s\n' "$1" "$2" "$3" "$4" >>"$page"
    [ "$2" != passed ] || [ $# -lt 6 ] || figures "$6" >>"$page"
    [ "$2" != failed ] || failed=1
    write_report
}

# within COMMAND...: runs it for $limit seconds at most
within()
{
    timeout -k 10 "$limit" "$@"
}

# step NAME SECONDS COMMAND...: runs it, its output into $out/NAME.log and .out. The command is
# `within` or a function that uses it. In such a function set -e is off, since step looks at its exit
# code: all but its last command want a "|| return".
step()
{
    name=$1
    limit=$2
    [ -z "$most" ] || [ "$most" -ge "$limit" ] || limit=$most
    shift 2
    begin=$(date +%s)
    left=$((budget - (begin - started)))
    if [ "$left" -lt 2 ]; then
        entry "$name" skipped 0 "no time left of $budget s"
        return 1
    fi
    [ "$left" -ge "$limit" ] || limit=$left
    code=0
    "$@" >"$out/$name.out" 2>"$out/$name.log" </dev/null || code=$?
    took=$(($(date +%s) - begin))
    if [ "$code" -eq 0 ]; then
        note=
        result=passed
    else
        note="exit code $code: $(tail -n 1 "$out/$name.log")"
        [ "$code" -ne 124 ] && [ "$code" -ne 137 ] || note="not done after $limit s"
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
        printf '  "version": %s,\n  "passed": %s,\n  "complete": %s,\n  "steps": [\n' \
            "$(quoted "$(timeout 10 "$deq" --version 2>/dev/null || cat "$root/VERSION")")" \
            "$([ "$failed" -eq 0 ] && echo true || echo false)" "$complete"
        cat "$out/steps"
        printf '\n  ]\n}\n'
    } >"$report.tmp"
    mv "$report.tmp" "$report"
}

finish()
{
    complete=true
    write_report
    echo "$report"
    exit "$failed"
}

set_flags()
{
    cflags='-O2 -g'
    ldflags=
    [ -d "$root/deps/lib" ] || return 0
    cflags="$cflags -I$root/deps/include"
    # With the newer RUNPATH in place of RPATH, what these libraries need themselves would be looked
    # for in the system alone.
    ldflags="-L$root/deps/lib -Wl,--disable-new-dtags,-rpath,$root/deps/lib"
}

build_with()
{
    within make -j"$(nproc)" BUILD="$build" CUDA=1 CFLAGS="$cflags" LDFLAGS="$ldflags" WERROR= "$@"
}

# The suite says "skipped" where it finds no device: here that is a failure.
ops_suite()
{
    build_with test-cuda || return
    if grep '# SKIP' "$out/ops.out" >&2; then
        return 1
    fi
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
    within $launch "$deq" train --config "$root/configs/demo.json" --set data.dir="$out/data" \
        --set train.batch=8 --set train.tgt_len=32 --set train.mem_len=32 \
        --set train.pretrain_steps=0 --set train.eval_every=0 --set train.checkpoint_every=0 \
        --set train.log_every=1 --set solver.backward.stop=fixed --device "$device" --resume never "$@"
}

# compare_losses RUN RUN MOST [TRANSPORT]: no relative difference above MOST
compare_losses()
{
    losses "$out/$1/log.jsonl" >"$out/losses.one" || return
    losses "$out/$2/log.jsonl" >"$out/losses.other" || return
    paste "$out/losses.one" "$out/losses.other" | awk -v most="$3" -v by="${4:-}" '
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
        exit !(n == 20 && worst <= most)
    }'
}

# check_precision PRECISION MOST: the losses of a training with such products
check_precision()
{
    if step "train-$1" 120 train cuda --set train.steps=20 --set train.precision="$1" \
        --out "$out/run-$1"; then
        step "losses-$1" 10 compare_losses run-cpu "run-$1" "$2" || :
    fi
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
    if step train-two 120 train cuda --set train.steps=20 --out "$out/run-two" &&
        step train-two-again 120 train cuda --set train.steps=20 --out "$out/run-two-again"; then
        by=$(sed -n 's/^2 processes over \(.*\); each with:$/\1/p' "$out/train-two.log")
        step losses-two 10 compare_losses run-cuda run-two 1e-4 "$(quoted "$by")" || :
        step repeats-two 10 same_weights run-two run-two-again || :
    fi
    launch=
}

sanitizer=$(dirname "$nvcc")/compute-sanitizer
[ -x "$sanitizer" ] || sanitizer=$(command -v compute-sanitizer || true)

set_flags
step build 600 build_with all || finish
step ops 120 ops_suite || :
if [ $# -gt 0 ]; then
    step verify 120 within "$deq" verify --device cuda --json "$@" || :
else
    entry verify skipped 0 "no reference files were given"
fi

make_text 1 >"$out/train.txt"
make_text 2 >"$out/valid.txt"
if step tokenize 30 within "$deq" tokenize --train "$out/train.txt" --valid "$out/valid.txt" \
    --out "$out/data" --split blanks --min-count 2 --unk map --json --force; then
    # Dropout masks are the same on both: the random numbers are counted, not drawn.
    if step train-cpu 120 train cpu --set train.steps=20 --out "$out/run-cpu" &&
        step train-cuda 120 train cuda --set train.steps=20 --out "$out/run-cuda"; then
        step losses 10 compare_losses run-cpu run-cuda 1e-4 || :
        # The units of rounding are 2^-11 and 2^-9. A loss is a mean over 256 positions, and Adam's
        # first steps are as long as the rate whatever was rounded.
        check_precision tf32 2e-3
        check_precision bf16 1e-2
        check_two
    fi
fi

step bench-default 30 within "$deq" bench train --device cuda --json || :
step bench-wide-bf16 60 within "$deq" bench train --device cuda --steps 5 --json \
    --trace "$out/wide.json" --set model.d_model=1024 --set model.n_head=16 --set model.d_inner=4096 \
    --set model.vocab_size=50000 --set train.batch=8 --set train.tgt_len=1024 --set train.mem_len=0 \
    --set train.precision=bf16 || :
for precision in bf16 fp32 tf32; do
    set -- --config "$root/configs/wikitext103.json" --set model.vocab_size=267735 \
        --set train.precision="$precision"
    step "bench-published-$precision" 60 within "$deq" bench train "$@" --device cuda --steps 10 --json || :
    case $gpu in
    *H200*) chip=h200 ;;
    *H100*) chip=h100 ;;
    *A100*40GB*) chip=a100-40 ;;
    *A100*) chip=a100 ;;
    *) chip= ;;
    esac
    if [ -n "$chip" ]; then
        step "plan-published-$precision" 30 within "$deq" plan "$@" --device "$chip" --json || :
    else
        entry "plan-published-$precision" skipped 0 "deq plan does not know this chip"
    fi
done

# check_memory TOOL PRECISION: a graph is recorded when a run comes for the second time, so that the steps
# from the fourth on are graphs.
check_memory()
{
    name=$1
    [ "$2" = fp32 ] || name=$1-$2
    if [ -z "$sanitizer" ]; then
        entry "$name" skipped 0 "no compute-sanitizer in the Toolkit"
    elif [ ! -d "$out/data" ]; then
        entry "$name" skipped 0 "no tokens to train on"
    else
        step "$name" 90 within "$sanitizer" --tool "$1" --error-exitcode 1 "$deq" train \
            --config "$root/configs/demo.json" --set data.dir="$out/data" --set train.precision="$2" \
            --set train.steps=5 --set train.pretrain_steps=1 --set train.eval_every=0 \
            --device cuda --resume never --out "$out/run-$name" || :
    fi
}

# The slowest at the end, and of these first what finds most.
check_memory memcheck fp32
check_memory memcheck bf16
check_memory racecheck fp32
check_memory initcheck fp32
check_memory racecheck bf16
check_memory initcheck bf16
finish
