#!/bin/sh
# What the compiler makes of every kernel in cuda/*.cu: registers a thread, spilled bytes, static
# shared memory a block, and the occupancy that follows. Needs the CUDA Toolkit's nvcc, no GPU.
#
#   scripts/ptxas-report.sh [-a ARCH] [-t THREADS] [-v] [FILE.cu]...
#
#   -a  sm_80, sm_90 (default), ...
#   -t  threads a block for the occupancy (256, the backend's most common)
#   -v  shows the compiler's own report too
#
# Occupancy: warps resident on a multiprocessor over its most, limited by registers (allocated 256
# at a time a warp), static shared memory (a block's also costs 1 KiB) and warps. Dynamic shared
# memory is chosen at the launch and not in it. The limits are the CUDA Programming Guide's (compute
# capabilities). CUDA_HOME names a toolkit. Exit 1 if a kernel spills, 69 without nvcc.
set -eu
export LC_ALL=C
arch=sm_90
threads=256
verbose=
while getopts a:t:vh option; do
    case $option in
    a) arch=$OPTARG ;;
    t) threads=$OPTARG ;;
    v) verbose=1 ;;
    h)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))
case $threads in
'' | *[!0-9]* | 0*)
    echo "ptxas-report.sh: -t: want a number of threads, got \"$threads\"" >&2
    exit 64
    ;;
esac
# warps, blocks and KiB of shared memory of a multiprocessor
case $arch in
sm_80) limits="64 32 164" ;;
sm_86 | sm_89) limits="48 16 100" ;;
sm_90 | sm_100) limits="64 32 228" ;;
*)
    echo "ptxas-report.sh: -a: want sm_80, sm_86, sm_89, sm_90 or sm_100, got \"$arch\"" >&2
    exit 64
    ;;
esac
root=$(cd "$(dirname "$0")/.." && pwd)
nvcc=${CUDA_HOME:+$CUDA_HOME/bin/nvcc}
if [ -z "$nvcc" ]; then
    nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
fi
if [ ! -x "$nvcc" ]; then
    echo "ptxas-report.sh: no nvcc ($nvcc): install the CUDA Toolkit or set CUDA_HOME" >&2
    exit 69
fi
[ $# -gt 0 ] || set -- "$root"/cuda/*.cu
if [ ! -f "$1" ]; then
    echo "ptxas-report.sh: no such file: $1" >&2
    exit 66
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
for file; do
    # The flags of the build that matter to the code (Makefile, NVCC_FLAGS).
    if ! "$nvcc" -std=c++17 -O3 -lineinfo -I"$root/src" -I"$root" -I"$root/cuda" -arch="$arch" \
        -cubin -Xptxas -v -o "$tmp/cubin" "$file" >"$tmp/log" 2>&1; then
        cat "$tmp/log" >&2
        echo "ptxas-report.sh: $file does not compile" >&2
        exit 1
    fi
    [ -z "$verbose" ] || cat "$tmp/log"
    {
        echo "file ${file##*/}"
        cat "$tmp/log"
    } >>"$tmp/all"
done
# Readable names where there is a demangler; without parameters and types.
if command -v c++filt >/dev/null; then
    sed "s/.*Compiling entry function '\([^']*\)'.*/kernel \1/" "$tmp/all" | c++filt |
        sed 's/^kernel void /kernel /; /^kernel /s/(.*//; /^kernel /s/, /,/g' >"$tmp/named"
else
    sed "s/.*Compiling entry function '\([^']*\)'.*/kernel \1/" "$tmp/all" >"$tmp/named"
fi
awk -v limits="$limits" -v threads="$threads" -v arch="$arch" '
function least(a, b) { return a < b ? a : b }
function occupancy(registers, shared,    a_warp, by_warps, by_registers, by_shared, blocks, warps) {
    warps = int((threads + 31) / 32)
    a_warp = int((registers * 32 + 255) / 256) * 256
    by_warps = int(most_warps / warps)
    # the 65536 registers lie in four quarters
    by_registers = int(4 * int(16384 / a_warp) / warps)
    by_shared = int(most_shared * 1024 / (shared + 1024))
    blocks = least(least(by_warps, by_registers), least(by_shared, most_blocks))
    return 100 * blocks * warps / most_warps
}
BEGIN {
    split(limits, limit, " ")
    most_warps = limit[1]
    most_blocks = limit[2]
    most_shared = limit[3]
    printf "%-20s %-44s %9s %7s %9s %10s\n", "file", "kernel, " arch, "registers", "spilled",
        "shared, B", "occupancy"
}
$1 == "file" { file = $2 }
$1 == "kernel" { kernel = substr($0, 8); spilled = 0; open = 1 }
/bytes spill stores/ && open { # stack frame, stores, loads
    n = split($0, part, ",")
    for (i = 1; i <= n; i++)
        if (part[i] ~ /spill/) {
            sub(/^ */, "", part[i])
            spilled += part[i] + 0
        }
}
/Used [0-9]+ registers/ && open {
    for (i = 1; i < NF; i++)
        if ($i == "Used")
            registers = $(i + 1) + 0
    shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART, RLENGTH) + 0 : 0
    printf "%-20s %-44s %9d %7d %9d %9.0f%%\n", file, kernel, registers, spilled, shared,
        occupancy(registers, shared)
    kernels++
    if (spilled > 0)
        bad++
    open = 0
}
END {
    if (!kernels) {
        print "ptxas-report.sh: no kernel found" >"/dev/stderr"
        exit 1
    }
    printf "%d kernels, %d spill; occupancy at %d threads a block\n", kernels, bad, threads
    exit bad > 0
}' "$tmp/named"
