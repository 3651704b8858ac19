#!/bin/sh
# Tests what deq export --format hf writes: losses, gradients, tokens and generated texts in PyTorch
# against deq's own, under two versions of transformers.
#
#   scripts/test-python.sh [-n] [MODEL]...
#
#   -n  ends with 77 where the environment is not there, which is otherwise made by pip: 6 GB in
#       build-python, or in the folder that PYTHON_ENV names
#
# MODEL is one of tests/python/models.sh; losses and gradients of these alone are then compared, under
# the newest version. DEQ names the program (build/deq), TOOLS the folder of tests/tools/segments and
# encode as built (build/tests/tools).
set -eu
cd "$(dirname "$0")/.."
versions="5.24 4.57"
env=${PYTHON_ENV:-$PWD/build-python}
deq=$(realpath "${DEQ:-build/deq}")
tools=$(realpath "${TOOLS:-build/tests/tools}")
install=yes
if [ "${1:-}" = -n ]; then
    install=
    shift
fi
[ $# -eq 0 ] || versions=5.24

# torch lies in an environment of its own, each version of transformers in a folder beside it.
if [ ! -e "$env/torch/ready" ]; then
    [ -n "$install" ] || {
        echo "no PyTorch in $env: make test-python installs it"
        exit 77
    }
    python3 -m venv "$env/torch"
    "$env/torch/bin/pip" install -q --no-cache-dir torch numpy safetensors
    touch "$env/torch/ready"
fi
if ! "$env/torch/bin/python" -c "import sentencepiece" 2>/dev/null; then
    [ -n "$install" ] || {
        echo "no sentencepiece in $env: make test-python installs it"
        exit 77
    }
    "$env/torch/bin/pip" install -q --no-cache-dir sentencepiece
fi
for version in $versions; do
    [ ! -e "$env/transformers-$version/ready" ] || continue
    [ -n "$install" ] || {
        echo "no transformers $version in $env: make test-python installs it"
        exit 77
    }
    rm -rf "$env/transformers-$version"
    "$env/torch/bin/pip" install -q --no-cache-dir --target "$env/transformers-$version" \
        "transformers~=$version.0"
    touch "$env/transformers-$version/ready"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
export HF_HOME="$work/home" HF_HUB_OFFLINE=1 TQDM_DISABLE=1 OMP_NUM_THREADS=1
export TRANSFORMERS_VERBOSITY=error PYTHONDONTWRITEBYTECODE=1
# shellcheck disable=SC2086
tests/python/models.sh "$deq" "$tools/segments" "$work/models" "$@"
code=0
for version in $versions; do
    export PYTHONPATH="$env/transformers-$version"
    "$env/torch/bin/python" tests/python/compare.py "$work/models" "$@" || code=1
    [ $# -eq 0 ] || continue
    "$env/torch/bin/python" tests/python/text.py "$work/models" "$deq" "$tools/encode" || code=1
    "$env/torch/bin/python" tests/python/tokens.py "$work/tokens-$version" "$deq" "$tools/encode" || code=1
    "$env/torch/bin/python" tests/python/published.py "$work/models" \
        tests/golden/dropout.safetensors || code=1
done
exit "$code"
