#!/bin/sh
# Tests what deq export --format hf writes: losses, gradients, tokens and generated texts in PyTorch
# against deq's own, under two versions of transformers. Before that, the modern cell against a module
# in PyTorch with every option (tests/python/modern.py). Last comes the path through everything, from a
# text over subwords, a training, transformers and an import to a sample (tests/python/path.py).
#
#   scripts/test-python.sh [-n] [-l] [MODEL]...
#
#   -n  ends with 77 where the environment is not there, which is otherwise made by pip: 7 GB in
#       build-python, or in the folder that PYTHON_ENV names
#   -l  tests only what stands below: lm-evaluation-harness by deq and by the exported folder, and
#       checkpoints of other programs through scripts/from_torch.py
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
others=
while getopts nl option; do
    case $option in
    n) install= ;;
    l) others=only ;;
    *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || versions=5.24
[ -z "$others" ] || versions=
[ $# -gt 0 ] || others=${others:-yes}

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
# The harness has an environment of its own, which sees torch in the other one.
harness=$env/lm_eval
if [ -n "$others" ] && [ ! -e "$harness/ready" ]; then
    [ -n "$install" ] || {
        echo "no lm_eval in $env: make test-python installs it"
        exit 77
    }
    rm -rf "$harness"
    python3 -m venv "$harness"
    (cd "$env/torch" && echo "$PWD"/lib/python3*/site-packages) >"$("$harness/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("purelib"))')/torch.pth"
    "$harness/bin/pip" install -q --no-cache-dir "lm_eval~=0.4.13" accelerate "transformers~=4.57.0"
    "$harness/bin/pip" install -q --no-cache-dir --no-deps "torchdeq==0.1.0"
    touch "$harness/ready"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
export HF_HOME="$work/home" HF_HUB_OFFLINE=1 TQDM_DISABLE=1 OMP_NUM_THREADS=1
export TRANSFORMERS_VERBOSITY=error PYTHONDONTWRITEBYTECODE=1
export HF_DATASETS_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_CACHE="$work/home/datasets"
code=0
if [ -n "$others" ]; then
    "$harness/bin/python" tests/python/checkpoints.py "$work/checkpoints" "$deq" || code=1
    tests/python/models.sh "$deq" "$tools/segments" "$work/harness" marks bytes pieces
    "$harness/bin/python" tests/python/harness.py "$work/harness" "$deq" || code=1
fi
[ -n "$versions" ] || exit "$code"
if [ $# -eq 0 ]; then
    "$env/torch/bin/python" tests/python/modern.py "$work/dumps" || code=1
    "$deq" verify -q --device ref "$work"/dumps/*.safetensors || code=1
fi
tests/python/models.sh "$deq" "$tools/segments" "$work/models" "$@"
for version in $versions; do
    export PYTHONPATH="$env/transformers-$version"
    "$env/torch/bin/python" tests/python/compare.py "$work/models" "$@" || code=1
    [ $# -eq 0 ] || continue
    "$env/torch/bin/python" tests/python/text.py "$work/models" "$deq" "$tools/encode" || code=1
    "$env/torch/bin/python" tests/python/tokens.py "$work/tokens-$version" "$deq" "$tools/encode" || code=1
    "$env/torch/bin/python" tests/python/published.py "$work/models" \
        tests/golden/dropout.safetensors || code=1
    "$env/torch/bin/python" tests/python/path.py "$work/path-$version" "$deq" || code=1
done
exit "$code"
