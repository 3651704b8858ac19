#!/bin/sh
# Runs test programs side by side and adds up their results.
#
#   tests/run.sh [-j JOBS] [-t SECONDS] [-b BUILD] [-o FOLDER] [PROGRAM]...
#
# PROGRAM is a test program that speaks TAP (cmocka does with CMOCKA_MESSAGE_OUTPUT=TAP) or a .bats
# file. Without one, everything the sources define: each tests/*/test_*.c and .cpp as built under
# BUILD (default build) and, with sanitizers, under BUILD-asan, and each tests/*/*.bats; those called
# test_*_tsan have ThreadSanitizer instead, and are under BUILD only, and so is what runs in the CUDA
# emulator unless CI=true. A program that is not there
# counts as a failure, so nothing is left out in silence.
#
#   -j  programs at a time, default: the number of cores
#   -t  seconds a program may take, default 1800; those called long_* three times as many. It is
#       there for what hangs: a busy machine may need ten times as long as a quiet one
#   -o  where the outputs go, default BUILD/test-output
#
# One line per program; the output of a failed one is shown. A program passes if it printed a plan
# (1..N), N results and ended with 0. Exit code 77 with a reason in its output is one skipped test.
# A crash, a time-out, a missing plan, a missing result or a bad exit code without a failed test
# is one failure. The last line is `N passed, N failed, N skipped`; exit 0 if none failed and some
# passed.
set -eu
export LC_ALL=C

usage()
{
    echo "run.sh: $1; usage: tests/run.sh [-j JOBS] [-t SECONDS] [-b BUILD] [-o FOLDER] [PROGRAM]..." >&2
    exit 64
}

now_ms()
{
    echo $(($(date +%s%N) / 1000000))
}

# Counts of one output: "plans passed failed skipped", the plans of several groups added up.
tally()
{
    awk '
    /^1\.\.[0-9]+/ { plan += substr($1, 4); plans++; if (/# *[Ss][Kk][Ii][Pp]/) skip_all = 1 }
    /^ok / { if (toupper($0) ~ /# *SKIP/) skipped++; else passed++ }
    # cmocka says it so
    /^not ok [0-9]+ # SKIP / { skipped++; next }
    /^not ok / { failed++ }
    END { print (plans ? plan + 0 : "none"), passed + 0, failed + 0, skipped + 0, skip_all + 0 }
    ' "$1"
}

# Runs one program; its counts go to $4.result.
run_one()
{
    program=$1
    limit=$2
    name=$3
    log=$4.log
    start=$(now_ms)
    code=0
    set -- "$program"
    case $program in
    *.bats) set -- bats --tap "$program" ;;
    esac
    if [ "$1" = bats ] && ! command -v bats >/dev/null; then
        echo "needs bats: apt-get install bats (or scripts/deps.sh test)" >"$log"
        code=127
    elif [ -e "$program" ]; then
        CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 5 "$limit" "$@" >"$log" 2>&1 </dev/null || code=$?
    else
        echo "there is no $program: not built?" >"$log"
        code=127
    fi
    tally "$log" >"$log.tally"
    read -r plan passed failed skipped skip_all <"$log.tally"
    ms=$(($(now_ms) - start))

    trouble=
    if [ "$code" -eq 77 ] && [ "$passed" -eq 0 ] && [ "$failed" -eq 0 ] && [ -s "$log" ]; then
        skipped=1
    elif [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then
        trouble="stopped after $limit s"
    elif [ "$code" -gt 128 ]; then
        trouble="killed by signal $((code - 128))"
    elif [ "$plan" = none ]; then
        trouble="exit code $code and no plan"
    elif [ "$skip_all" -eq 1 ] && [ "$plan" -eq 0 ] && [ "$code" -eq 0 ]; then
        skipped=1
    elif [ $((passed + failed + skipped)) -ne "$plan" ]; then
        trouble="exit code $code, $((passed + failed + skipped)) results of $plan planned"
    elif [ "$plan" -eq 0 ]; then
        trouble="it planned no tests"
    elif [ "$code" -ne 0 ] && [ "$failed" -eq 0 ]; then
        trouble="exit code $code though no test failed"
    elif [ "$code" -eq 0 ] && [ "$failed" -ne 0 ]; then
        trouble="exit code 0 though tests failed"
    fi
    [ -z "$trouble" ] || failed=$((failed + 1))
    echo "$passed $failed $skipped $ms" >"${log%.log}.result"

    # One write a program, so that programs side by side do not mix their lines.
    {
        verdict=ok
        [ "$failed" -eq 0 ] || verdict=FAILED
        [ "$failed" -gt 0 ] || [ "$passed" -gt 0 ] || verdict=skipped
        note=
        [ "$skipped" -eq 0 ] || note=", $skipped skipped"
        [ "$failed" -eq 0 ] || note="$note, $failed failed"
        printf '%-8s%7d.%02d s  %s: %d passed%s\n' "$verdict" $((ms / 1000)) $((ms / 10 % 100)) \
            "$name" "$passed" "$note"
        if [ "$failed" -ne 0 ]; then
            sed 's/^/    | /' "$log"
            [ -z "$trouble" ] || echo "    $name: $trouble"
        elif [ "$code" -eq 77 ]; then
            sed 's/^/    | /' "$log"
        else
            # Why tests were skipped is worth a line each.
            grep -i '# *skip' "$log" | sed 's/^/    | /' || true
        fi
    } >"$log.show"
    cat "$log.show"
}

if [ "${1:-}" = --one ]; then
    shift
    run_one "$@"
    exit 0
fi

jobs=$(nproc 2>/dev/null || echo 2)
limit=1800
build=build
out=
while getopts j:t:b:o:h option; do
    case $option in
    j) jobs=$OPTARG ;;
    t) limit=$OPTARG ;;
    b) build=$OPTARG ;;
    o) out=$OPTARG ;;
    h)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) usage "bad option" ;;
    esac
done
shift $((OPTIND - 1))
case $jobs$limit in
*[!0-9]* | '') usage "-j and -t want whole numbers" ;;
esac
out=${out:-$build/test-output}

if [ $# -eq 0 ]; then
    # The slowest start first: with sanitizers, then tests of the program.
    for source in tests/*/test_*.c tests/*/test_*.cpp; do
        [ -e "$source" ] || continue # no such source: the pattern itself
        case $source in
        *_tsan.*) ;;
        */test_suite_catches.c) ;; # wrong results on purpose of the code that test_ops_ref runs
        *_emu.* | *.cpp) # two minutes more
            [ "${CI:-}" != true ] || set -- "$@" "$build-asan/${source%.c*}"
            ;;
        *) set -- "$@" "$build-asan/${source%.c*}" ;;
        esac
    done
    for source in tests/*/*.bats; do
        [ ! -e "$source" ] || set -- "$@" "$source"
    done
    for source in tests/*/test_*.c tests/*/test_*.cpp; do
        [ ! -e "$source" ] || set -- "$@" "$build/${source%.c*}"
    done
fi
[ $# -gt 0 ] || usage "no test programs"

case $0 in
/*) self=$0 ;;
*) self=$PWD/$0 ;;
esac
root=$(cd "$(dirname "$self")/.." && pwd)
export DEQ="${DEQ:-$PWD/$build/deq}"
export DEQ_SHARED="${DEQ_SHARED:-$root/../shared}"
# A test that calls make must not talk to the make that called us.
unset MAKEFLAGS MFLAGS MAKELEVEL
# Programs share the cores: a thread that waits must not burn one.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}"

rm -rf "$out"
mkdir -p "$out"
start=$(now_ms)
index=0
for program; do
    # Relative paths are from here; a plain name would be looked for in PATH.
    case $program in
    */*) path=$program ;;
    *) path=./$program ;;
    esac
    seconds=$limit
    case ${path##*/} in long_*) seconds=$((3 * limit)) ;; esac
    printf '%s\0%s\0%s\0%s\0' "$path" "$seconds" "$program" "$out/$index"
    index=$((index + 1))
done >"$out/list"
xargs -0 -n 4 -P "$jobs" sh "$self" --one <"$out/list"

# A result that is not there (the runner itself was killed) is a failure too.
index=0
for program; do
    cat "$out/$index.result" 2>/dev/null || echo "0 1 0 0"
    index=$((index + 1))
done >"$out/results"
seconds=$((($(now_ms) - start) / 1000))
echo
awk -v n=$# -v s=$seconds '
{ passed += $1; failed += $2; skipped += $3 }
END {
    printf "%d programs in %d s\n", n, s
    printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
    exit failed > 0 || passed == 0
}' "$out/results"
