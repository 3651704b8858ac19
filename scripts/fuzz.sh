#!/bin/sh
# Runs fuzz targets one after the other, each from its kept corpus, and prints what they did. Called
# by `make fuzz`, which builds them.
#
#   scripts/fuzz.sh [-b BUILD] [-r RUNS] [-t SECONDS] [-s SEED] [-k] [TARGET]...
#
#   -b  folder of the build (build-fuzz); what was found lies in BUILD/corpus/TARGET afterwards, and
#       a file that broke something in BUILD/crash/TARGET-*
#   -r  executions a target (10,000,000), -t  seconds a target (0: no limit), -s  of random numbers
#   -k  keeps what was found, without what adds nothing, in tests/fuzz/found.tar.xz, from which a
#       build's first run begins
#
# TARGET is config, vocab, ... as in tests/fuzz/fuzz_TARGET.c; default: all. Exit 1 if one broke.
set -eu
export LC_ALL=C
build="build-fuzz"
runs=10000000
seconds=0
seed=1
keep=
while getopts b:r:t:s:kh option; do
    case $option in
    b) build=$OPTARG ;;
    r) runs=$OPTARG ;;
    t) seconds=$OPTARG ;;
    s) seed=$OPTARG ;;
    k) keep=1 ;;
    h)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -eq 0 ]; then
    for source in "$root"/tests/fuzz/fuzz_*.c; do
        name=${source##*/fuzz_}
        set -- "$@" "${name%.c}"
    done
fi

# What is refused for its size is an answer; nothing may ask for 200 MB because of a small file.
export ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=200:detect_leaks=1
# What makes a run slower than what it tests.
ASAN_OPTIONS=$ASAN_OPTIONS:detect_stack_use_after_return=0:malloc_context_size=6:quarantine_size_mb=16
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
found=$root/tests/fuzz/found.tar.xz
if [ ! -d "$build/corpus" ]; then
    mkdir -p "$build/corpus"
    [ ! -f "$found" ] || tar -xJf "$found" -C "$build/corpus"
fi
failed=0
printf '%-12s %12s %8s %9s %9s %7s %8s\n' target executions per_s coverage features corpus seconds
for target; do
    mkdir -p "$build/corpus/$target" "$build/crash"
    log=$build/corpus/$target.log
    dict=
    [ ! -f "$root/tests/fuzz/$target.dict" ] || dict=-dict=$root/tests/fuzz/$target.dict
    # Longer ones reach nothing new and take their time.
    case $target in
    prompt | text) length=256 ;;
    log) length=640 ;;
    shard | vocab) length=2048 ;;
    subword) length=8192 ;;
    dump) length=3000 ;;
    checkpoint) length=16000 ;;
    *) length=4096 ;;
    esac
    begin=$(date +%s)
    code=0
    # $dict is one word or none.
    # shellcheck disable=SC2086
    "$build/tests/fuzz/fuzz_$target" $dict -runs="$runs" -max_total_time="$seconds" -seed="$seed" \
        -max_len=$length -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -reload=0 \
        -artifact_prefix="$build/crash/$target-" "$build/corpus/$target" \
        "$root/tests/fuzz/corpus/$target" >"$log" 2>&1 </dev/null || code=$?
    awk -v target="$target" -v seconds=$(($(date +%s) - begin)) '
    /cov: [0-9]+ ft: [0-9]+ corp: / {
        for (i = 1; i < NF; i++) {
            if ($i == "cov:") cov = $(i + 1)
            if ($i == "ft:") ft = $(i + 1)
            if ($i == "corp:") { split($(i + 1), part, "/"); corp = part[1] }
        }
    }
    /^stat::number_of_executed_units/ { runs = $2 }
    END {
        printf "%-12s %12d %8d %9d %9d %7d %8d\n", target, runs, seconds ? runs / seconds : runs,
            cov, ft, corp, seconds
    }' "$log"
    if [ "$code" -ne 0 ]; then
        failed=1
        echo "fuzz.sh: $target broke (exit code $code); the end of $log:" >&2
        tail -n 40 "$log" >&2
    fi
done
if [ -n "$keep" ]; then
    # What was kept of the targets that did not run stays.
    rm -rf "$build/kept"
    mkdir -p "$build/kept"
    [ ! -f "$found" ] || tar -xJf "$found" -C "$build/kept"
    for target; do
        rm -rf "$build/kept/${target:?}"
        mkdir "$build/kept/$target"
        "$build/tests/fuzz/fuzz_$target" -merge=1 -artifact_prefix="$build/crash/$target-" \
            "$build/kept/$target" "$build/corpus/$target" \
            >"$build/corpus/$target.merge.log" 2>&1
    done
    tar -C "$build/kept" --sort=name --mtime=@0 --owner=0 --group=0 -cJf "$found" .
fi
exit "$failed"
