#!/bin/sh
# Installs the Debian packages that deq needs and this machine lacks. Prints nothing and does
# nothing when all are there.
#
#   scripts/deps.sh [GROUP]...       groups: build subwords report test browser mpi slurm demo
#                                  plot fuzz sanitize peers coverage lint manual shells package
#                                  (default: build)
#
# Without root it names what is missing and the command that installs it, and exits 69.
# Runs on a bare system: nothing but sh, dpkg and apt-get is used.

# installed, apt and install_missing are questions: each ends with the command that answers.
# shellcheck disable=SC2310
set -eu
export LC_ALL=C

packages_of()
{
    case $1 in
    # gcc alone only recommends the C library's headers.
    build)
        echo make gcc libc6-dev libdnnl-dev libopenblas-openmp-dev libcjson-dev zlib1g-dev \
            libxxhash-dev libutf8proc-dev libedit-dev
        ;;
    subwords) echo g++ libsentencepiece-dev ;;
    report) echo libjs-chart.js ;;
    browser) echo chromium chromium-driver python3-selenium ;;
    test) echo g++ libcmocka-dev librapidcheck-dev bats pkg-config ;;
    mpi) echo libopenmpi-dev openmpi-bin ;;
    slurm) echo slurmctld slurmd slurm-client munge ;;
    demo) echo bible-kjv ;;
    plot) echo gnuplot-nox jq ;;
    fuzz) echo clang libclang-rt-14-dev libomp-dev xz-utils ;;
    sanitize) echo clang libclang-rt-14-dev libomp-dev valgrind ;;
    peers) echo python3-torch ;;
    coverage) echo gcovr ;;
    manual) echo man-db groff mandoc ;;
    shells) echo bash zsh fish ;;
    package) echo dpkg-dev lintian debootstrap ;;
    lint) echo clang-tidy libomp-dev shellcheck bear ;;
    *) return 1 ;;
    esac
}

installed()
{
    case $(dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null) in
    *"ok installed"*) return 0 ;;
    esac
    return 1
}

if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    exit 0
fi
[ $# -gt 0 ] || set -- build

wanted=
for group; do
    if ! list=$(packages_of "$group"); then
        echo "deps.sh: unknown group $group (want build, subwords, report, test, browser, mpi," \
            "slurm, demo, plot, fuzz, sanitize, peers, coverage, lint, manual, shells or package)" >&2
        exit 64
    fi
    wanted="$wanted $list"
done

if ! command -v dpkg-query >/dev/null 2>&1; then
    # Not Debian: the names differ, and the Makefile looks for the libraries themselves.
    echo "deps.sh: this is no Debian system; needed are what Debian calls:$wanted" >&2
    exit 0
fi

missing=
for package in $wanted; do
    installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "deps.sh: missing:$missing" >&2
    echo "deps.sh: install them as root, then run this again:" >&2
    echo "    apt-get update && apt-get install -y --no-install-recommends$missing" >&2
    exit 69
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Its long output is shown only if it fails.
apt()
{
    apt-get -q -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1 </dev/null
}

install_missing()
{
    # One name a word.
    # shellcheck disable=SC2086
    apt install -y --no-install-recommends $missing
}

echo "deps.sh: installing$missing" >&2
# Package lists that are absent or too old are fetched once, and only then.
if ! install_missing; then
    echo "deps.sh: fetching the package lists" >&2
    if ! apt update || ! install_missing; then
        cat "$log" >&2
        echo "deps.sh: apt-get failed (its output is above); needed are:$missing" >&2
        exit 69
    fi
fi
