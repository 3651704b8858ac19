#!/bin/sh
# Installs what is missing, builds, and runs every test. The last line is
# `N passed, N failed, N skipped`; exit 0 if none failed (and some passed).
set -eu
cd "$(dirname "$0")/.."

# Nothing ran: that is a failure too, said in the form callers read.
broken()
{
    echo "test.sh: $1" >&2
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
}

scripts/deps.sh build test || {
    code=$?
    echo "0 passed, 1 failed, 0 skipped"
    exit "$code"
}
# More tests run with these, but none needs them; what is not there is skipped with its reason. Text
# and the chart library are small; a browser, subwords, several processes, batch jobs, further
# sanitizers, shells, packaging and PyTorch, with which deq is compared, are fetched where CI=true says
# that nobody waits.
optional="demo report"
if [ "${CI:-}" = true ]; then
    optional="demo report browser subwords mpi slurm sanitize peers coverage manual shells package"
fi
for group in $optional; do
    scripts/deps.sh "$group" 2>/dev/null || :
done
make all tests || broken "the build failed"
make asan || broken "the build with sanitizers failed"
make tsan valgrind-build || broken "the build with the thread sanitizer or for valgrind failed"
# The share of lines and branches that unit tests pass through. It is told, and fails nothing.
if [ "${LONG:-}" = true ] && command -v gcovr >/dev/null; then
    make coverage || echo "coverage: not measured"
fi
exec tests/run.sh
