#!/bin/sh
# Looks for what the build needs and says what it found, one line each. Called by the Makefile.
#
#   scripts/probe.sh COMPILE LINK [tests]
#
# COMPILE and LINK are lists of words, e.g. "gcc -std=c17" "-L/opt/lib"; with tests it looks for what
# the tests need instead.
#
# Each library is tried by a small program that is compiled, linked and run. Exit code 69 if one
# is missing; all are tried before that.

# found and has_rounding answer a question, and what is missing is collected.
# shellcheck disable=SC2310
set -eu
export LC_ALL=C
compile=$1
link=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
missing=
# A leak in a library is no reason to call it missing.
export ASAN_OPTIONS=detect_leaks=0

# say NAME TEXT
say()
{
    printf '  %-9s %s\n' "$1" "$2"
}

finish()
{
    [ -n "$missing" ] || exit 0
    echo "error: libraries are missing. As root: apt-get install$missing" >&2
    echo "       (or scripts/deps.sh build test)" >&2
    exit 69
}

# warn LINE...: in a frame, not to be missed.
warn()
{
    echo "  **********************************************************************************"
    printf "  WARNING: %s\n" "$1"
    shift
    printf "  %s\n" "$@"
    echo "  **********************************************************************************"
}

# found NAME PACKAGE LIBS INCLUDES STATEMENT: the statement prints one line about the library.
found()
{
    printf '#include <stdio.h>\n#include <string.h>\n%s\nint main(void)\n{\n    %s\n    return 0;\n}\n' "$4" "$5" >"$dir/p.c"
    # Command prefixes and libraries are lists of words.
    # shellcheck disable=SC2086
    if $compile -o "$dir/p" "$dir/p.c" $link $3 >"$dir/log" 2>&1 &&
        "$dir/p" >"$dir/answer" 2>>"$dir/log"; then
        say "$1" "$(cat "$dir/answer")"
        return 0
    fi
    say "$1" "MISSING: apt-get install $2"
    sed -n '1,3s/^/            /p' "$dir/log"
    missing="$missing $2"
    return 1
}

# shellcheck disable=SC2086
if ! printf 'int main(void) { return 0; }\n' >"$dir/p.c" ||
    ! $compile -o "$dir/p" "$dir/p.c" >"$dir/log" 2>&1; then
    cat "$dir/log" >&2
    echo "no working compiler ($compile): apt-get install gcc libc6-dev" >&2
    exit 69
fi
if ! "$dir/p"; then
    echo "compiled programs do not run here ($compile): try make ARCH=x86-64-v3" >&2
    exit 69
fi

if [ "${3:-}" = tests ]; then
    found cmocka libcmocka-dev -lcmocka "#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>" 'printf("yes\n");' || :
    finish
fi
found OpenMP gcc '' '#include <omp.h>' \
    'printf("yes, %d threads here\n", omp_get_max_threads());' || :
found oneDNN libdnnl-dev -ldnnl '#include <dnnl.h>' \
    'const dnnl_version_t *v = dnnl_version(); printf("%d.%d.%d%s\n", v->major, v->minor,
    v->patch, v->cpu_runtime == DNNL_RUNTIME_OMP ? ", OpenMP" : ", WARNING: not its OpenMP build");' || :
found cJSON libcjson-dev -lcjson '#include <cjson/cJSON.h>' \
    'printf("%s\n", cJSON_Version());' || :
found zlib zlib1g-dev -lz '#include <zlib.h>' 'printf("%s\n", zlibVersion());' || :
found xxHash libxxhash-dev -lxxhash '#include <xxhash.h>' \
    'unsigned v = XXH_versionNumber(); printf("%u.%u.%u\n", v / 10000, v / 100 % 100, v % 100);' || :
found utf8proc libutf8proc-dev -lutf8proc '#include <utf8proc.h>' \
    'printf("%s, Unicode %s\n", utf8proc_version(), utf8proc_unicode_version());' || :
if found OpenBLAS libopenblas-openmp-dev -lopenblas '#include <cblas.h>' \
    'static const char *kind[] = {"sequential", "pthreads", "OpenMP"}; int p = openblas_get_parallel();
    const char *name = openblas_get_config(); printf("%.*s, %s kernels, %s\n",
    (int)strcspn(name + 9, " ") + 9, name, openblas_get_corename(), p >= 0 && p <= 2 ? kind[p] : "unknown threads");'; then
    case $(cat "$dir/answer") in
    *", OpenMP") ;;
    *)
        warn "this OpenBLAS is not its OpenMP build. Its threads and those of deq fight for" \
            "the cores: expect about half the speed. Remedy:" \
            "    apt-get install libopenblas-openmp-dev" \
            "then make again (or LDFLAGS=-L... for a build of your own with USE_OPENMP=1)."
        ;;
    esac
    # An OpenBLAS older than the processor may not know it and take its kernels for any x86-64.
    case $(cat "$dir/answer") in
    *", Prescott kernels"* | *", Core2 kernels"* | *", Nehalem kernels"*)
        if grep -q "^flags.* avx2 " /proc/cpuinfo 2>/dev/null; then
            core=Haswell
            ! grep -q "^flags.* avx512vl " /proc/cpuinfo || core=SkylakeX
            warn "this OpenBLAS does not know the processor and takes slow kernels: expect a" \
                "fraction of the speed wherever it is used. Remedy, before running deq:" \
                "    export OPENBLAS_CORETYPE=$core"
        fi
        ;;
    esac
fi

# SentencePiece is optional in the same way, and C++.
if [ "${SENTENCEPIECE:-0}" = 0 ]; then
    say subwords "left out (SENTENCEPIECE=0)"
elif [ -n "${SPM_LIBS:-}" ]; then
    printf '#include <sentencepiece_trainer.h>\nint main()\n{\n    sentencepiece::SentencePieceProcessor p;\n    return p.status().ok();\n}\n' >"$dir/p.cc"
    # shellcheck disable=SC2086
    if ${CXX:-g++} -std=c++17 -o "$dir/p" "$dir/p.cc" $SPM_LIBS >"$dir/log" 2>&1 && "$dir/p"; then
        say subwords "yes, by SentencePiece"
    else
        say subwords "MISSING: SentencePiece does not work: apt-get install g++ libsentencepiece-dev, or SENTENCEPIECE=0"
        sed -n '1,3s/^/            /p' "$dir/log"
        missing="$missing libsentencepiece-dev g++"
    fi
else
    say subwords "no (no SentencePiece): deq tokenize --subwords wants: apt-get install g++ libsentencepiece-dev"
fi

# MPI is optional: what the Makefile found (MPI_CFLAGS, MPI_LIBS) must work, and with MPI=1 be there.
if [ "${MPI:-0}" = 0 ]; then
    say MPI "left out (MPI=0)"
elif [ -n "${MPI_LIBS:-}" ]; then
    compile="$compile ${MPI_CFLAGS:-}"
    found MPI "libopenmpi-dev openmpi-bin" "$MPI_LIBS" '#include <mpi.h>' \
        'char name[MPI_MAX_LIBRARY_VERSION_STRING]; int n = 0; MPI_Get_library_version(name, &n);
        printf("%.*s: training on several processes\n", (int)strcspn(name, ","), name);' || :
elif [ "$MPI" = 1 ]; then
    say MPI "MISSING: no mpicc: apt-get install libopenmpi-dev openmpi-bin, or set MPI_LIBS"
    missing="$missing libopenmpi-dev openmpi-bin"
else
    say MPI "no (no mpicc): one process trains; for several: apt-get install libopenmpi-dev openmpi-bin"
fi

finish
