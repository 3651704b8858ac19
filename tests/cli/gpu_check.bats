#!/usr/bin/env bats
# scripts/gpu-check.sh without a GPU: what it refuses, and, with the tools around it played by
# fakes and the device by the processor, its steps and its report. scripts/bundle.sh's answers.

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    tmp=$BATS_TEST_TMPDIR
    deq=$(realpath "${DEQ:-$root/build/deq}")
    report=$(dirname "$deq")/tests/tools/gpu_report
    cd "$tmp"
    export OMP_NUM_THREADS=1
    unset DEQ CUDA_HOME
}

# A tree with the scripts, whose make "builds" a deq that takes the processor for a GPU.
fake_tree() {
    mkdir -p tree bin cuda/bin
    cp -r "$root/scripts" "$root/configs" tree/
    echo 'test-cuda:' >tree/Makefile
    printf '#!/bin/sh\necho "Fake A100-SXM4-40GB, 1.2, 100 MiB"\n' >bin/nvidia-smi
    printf '#!/bin/sh\necho "release 13.0, V13"\n' >cuda/bin/nvcc
    cat >bin/make <<END
#!/bin/sh
for word; do
    case \$word in
    BUILD=*) build=\${word#BUILD=} ;;
    test-cuda) cat "$tmp/suite"; exit "\$(cat "$tmp/suite-code")" ;;
    esac
done
mkdir -p "\$build"
cp "$tmp/bin/deq" "\$build/deq"
END
    cat >bin/deq <<END
#!/bin/sh
case \$1:\$* in
bench:*) cp report.json "$tmp/midway.json" || :; cat "$tmp/bench"; exit 0 ;;
train:*run-tf32 | train:*run-bf16) # no processor has tf32, and time is short
    for folder; do :; done
    cp -r "\$(dirname "\$folder")/run-cuda" "\$folder"
    exit 0
    ;;
esac
for word; do
    shift
    case \$word in
    cuda) word=cpu ;;
    train.precision=*) word=train.precision=fp32 ;; # not every processor has bf16
    esac
    set -- "\$@" "\$word"
done
exec "$deq" "\$@"
END
    chmod +x bin/* cuda/bin/nvcc
    echo '{"tokens_per_s":1234,"product_gflops":5000,"product_fraction":0.7,"copy_gbytes_per_s":40,"step_seconds":0.01,"busy_seconds":0.009,"ops":[{"name":"gemm","calls":4,"seconds":0.03},{"name":"fill","calls":1,"seconds":0.01}],"phases":[{"name":"x","seconds":1}]}' >bench
    echo "1..1" >suite
    echo 0 >suite-code
    PATH=$tmp/bin:$PATH
    export CUDA_HOME=$tmp/cuda
}

@test "no driver, no device, no toolkit: exit 69 and one line" {
    mkdir bare
    for tool in sh sed head cut dirname; do
        ln -s "$(command -v "$tool")" bare/
    done
    PATH=$tmp/bare run "$root/scripts/gpu-check.sh"
    [ "$status" -eq 69 ]
    [ "$output" = "gpu-check.sh: no GPU here: there is no nvidia-smi (NVIDIA driver)" ]
    printf '#!/bin/sh\nexit 9\n' >bare/nvidia-smi
    chmod +x bare/nvidia-smi
    PATH=$tmp/bare run "$root/scripts/gpu-check.sh"
    [ "$status" -eq 69 ]
    [ "$output" = "gpu-check.sh: no GPU here: nvidia-smi lists none" ]
    printf '#!/bin/sh\necho "A, 1, 2"\n' >bare/nvidia-smi
    PATH=$tmp/bare CUDA_HOME=$tmp/none run "$root/scripts/gpu-check.sh"
    [ "$status" -eq 69 ]
    [ "$output" = "gpu-check.sh: no nvcc ($tmp/none/bin/nvcc): install the CUDA Toolkit or set CUDA_HOME" ]
    run "$root/scripts/gpu-check.sh" nowhere.safetensors
    [ "$status" -eq 66 ]
}

@test "the steps and the report" {
    fake_tree
    run tree/scripts/gpu-check.sh -o report.json "$root/tests/golden/f_mem10.safetensors"
    [ "$status" -eq 0 ]
    for step in build ops verify tokenize train-cpu train-cuda losses train-tf32 losses-tf32 \
        train-bf16 losses-bf16 bench-default bench-wide-bf16 \
        bench-published-bf16 plan-published-bf16; do
        grep -q "\"name\": \"$step\", \"result\": \"passed\"" report.json
    done
    grep -q '"name": "memcheck", "result": "skipped"' report.json
    grep -q '"name": "train-two", "result": "skipped", .*"note": "one GPU here"' report.json
    grep -q '"gpu": "Fake A100-SXM4-40GB"' report.json
    grep -q '"toolkit": "13.0"' report.json
    grep -q '"passed": true' report.json
    grep -q '"complete": true' report.json
    grep -q '"output": {"steps": 20, "worst_relative_difference": 0}' report.json
    head -n 1 report.txt | grep -q '^deq on Fake A100-SXM4-40GB, CUDA 13.0, 20'
    grep -q '^bench-default  *passed ' report.txt
    grep -q '^    1234 tokens/s, a step 10.00 ms, of which operations take 9.00; products at 0.70 of 5.0 TFLOP/s, copies 40 GB/s$' report.txt
    grep -q '^     75.0 %  gemm$' report.txt
    grep -q '^    losses differ by 0 at most$' report.txt
    run "$report" report.json
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" == "Fake A100-SXM4-40GB | 1.2 | 100 MiB | 13.0 | "* ]]
    [[ "$output" == *$'\nlosses passed\n'* ]]
    sed 's/"result": "passed"/"result": "failed"/' report.json >damaged.json
    run "$report" damaged.json
    [ "$status" -eq 1 ]
}

@test "a suite that fails is a step that failed" {
    fake_tree
    printf '1..1\nnot ok 1 - gemm\n' >suite
    echo 2 >suite-code
    run tree/scripts/gpu-check.sh -o report.json
    [ "$status" -eq 1 ]
    grep -q '"name": "ops", "result": "failed", .*"note": "exit code 2' report.json
    grep -q '"name": "losses", "result": "passed"' report.json
    grep -q '"passed": false' report.json
}

@test "a low precision whose losses go elsewhere is a step that failed" {
    fake_tree
    sed -i 's/ | train:\*run-bf16)/)/; s/^    cuda) word=cpu ;;/&\n    train.precision=bf16) word=train.lr=0.02 ;;/' bin/deq
    run tree/scripts/gpu-check.sh -o report.json
    [ "$status" -eq 1 ]
    grep -q '"name": "losses-tf32", "result": "passed"' report.json
    grep -q '"name": "losses-bf16", "result": "failed", .*"output": {"steps": 20, ' report.json
}

@test "a step that hangs is ended, and the report is written as it goes, sanitizers last" {
    fake_tree
    cp bin/make make.good
    printf '#!/bin/sh\nexec sleep 1000\n' >bin/make
    run tree/scripts/gpu-check.sh -t 1 -o hangs.json
    [ "$status" -eq 1 ]
    grep -q '"name": "build", "result": "failed", .*"note": "not done after 1 s"' hangs.json
    cp make.good bin/make
    printf '#!/bin/sh\nshift 4\nexec "$@"\n' >cuda/bin/compute-sanitizer
    chmod +x cuda/bin/compute-sanitizer
    sed -i 's|cp report.json|cp ../report.json|' bin/deq
    run tree/scripts/gpu-check.sh -o report.json
    echo "$output"
    [ "$status" -eq 0 ]
    grep -q '"complete": false' midway.json
    grep -q '"name": "losses", "result": "passed"' midway.json
    run "$report" midway.json
    [ "$status" -eq 0 ]
    run "$report" report.json
    [ "$(sed -n '/^bench-default/,$p' <<<"$output" | tail -n 6)" = "$(printf '%s passed\n' memcheck \
        memcheck-bf16 racecheck initcheck racecheck-bf16 initcheck-bf16)" ]
    for seconds in 0 1s -1; do
        run tree/scripts/gpu-check.sh -t "$seconds"
        [ "$status" -eq 64 ]
    done
}

@test "what does not fit into the time of all steps is skipped, with the reason" {
    fake_tree
    printf '#!/bin/sh\nexec sleep 1000\n' >bin/make
    run tree/scripts/gpu-check.sh -T 3 -o report.json
    [ "$status" -eq 1 ]
    grep -q '"name": "build", "result": "failed", .*"note": "not done after 3 s"' report.json
    [ "$SECONDS" -lt 60 ]
    run tree/scripts/gpu-check.sh -T 1 -o report.json
    grep -q '"name": "build", "result": "skipped", .*"note": "no time left of 1 s"' report.json
    run tree/scripts/gpu-check.sh -T 08
    [ "$status" -eq 64 ]
}

# Two reports that differ in what a reader wants to know.
@test "gpu_compare.py: results, losses, speed and operations of two reports" {
    command -v python3 >/dev/null || skip "no python3"
    cat >a.json <<'END'
{"gpu": "A", "driver": "1", "memory": "1", "toolkit": "13", "version": "v1", "passed": true, "complete": true,
 "steps": [
  {"name": "ops", "result": "passed", "seconds": 3, "note": ""},
  {"name": "losses", "result": "passed", "seconds": 1, "note": "", "output": {"steps": 20, "worst_relative_difference": 1e-6}},
  {"name": "bench-wide-bf16", "result": "passed", "seconds": 9, "note": "", "output":
   {"tokens_per_s": 1000, "product_fraction": 0.6, "step_seconds": 0.01, "steps": 10,
    "ops": [{"name": "gemm", "calls": 10, "seconds": 0.05}, {"name": "attention", "calls": 10, "seconds": 0.04}]}}
 ]}
END
    sed 's/"v1"/"v2"/; s/: 1000/: 1500/; s/"seconds": 0.04/"seconds": 0.01/' a.json >b.json
    run "$root/scripts/gpu_compare.py" a.json b.json
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" == "before: A, CUDA 13, v1"* ]]
    [[ "$output" == *"bench-wide-bf16"*"1000"*"1500"*"+50.0 %"* ]]
    [[ "$output" == *"attention"*"4.000"*"1.000"*"-75.0 %"* ]]
    run "$root/scripts/gpu_compare.py" b.json a.json
    [ "$status" -eq 1 ]
    [[ "$output" == *"slower: bench-wide-bf16 (-33.3 %)"* ]]
    run "$root/scripts/gpu_compare.py" --slack 40 b.json a.json
    [ "$status" -eq 0 ]
    sed 's/"ops", "result": "passed"/"ops", "result": "failed"/' a.json >c.json
    run "$root/scripts/gpu_compare.py" a.json c.json
    [ "$status" -eq 1 ]
    [[ "$output" == *"worse: ops (passed, then failed)"* ]]
    run "$root/scripts/gpu_compare.py" a.json none.json
    [ "$status" -eq 66 ]
    [[ "$output" == *"none.json"* ]]
    echo '{' >d.json
    run "$root/scripts/gpu_compare.py" a.json d.json
    [ "$status" -eq 65 ]
}

# The folder deps/ of the archive: a library there needs another one there.
@test "a program linked with the archive's libraries finds what these need themselves" {
    fake_tree
    mkdir -p tree/deps/lib tree/deps/include
    echo 'int inner(void) { return 0; }' >inner.c
    echo 'int inner(void); int outer(void) { return inner(); }' >outer.c
    echo 'int outer(void); int main(void) { return outer(); }' >main.c
    gcc -shared -fPIC -o tree/deps/lib/libinner.so inner.c
    gcc -shared -fPIC -o tree/deps/lib/libouter.so outer.c -Ltree/deps/lib -linner
    cat >bin/make <<END
#!/bin/sh
for word; do
    case \$word in
    LDFLAGS=*) echo "\${word#LDFLAGS=}" >"$tmp/ldflags" ;;
    esac
done
exit 1
END
    run tree/scripts/gpu-check.sh -o report.json
    [ "$status" -eq 1 ]
    # The linker looks for libinner by the same path.
    # shellcheck disable=SC2046
    gcc -o main main.c $(cat ldflags) -louter
    ./main
}

# A Toolkit from pip has lib/ in place of lib64/, and no libcublas.so to link with.
@test "make finds a CUDA Toolkit by nvcc and its static runtime, wherever that lies" {
    for folder in lib64 targets/x86_64-linux/lib lib; do
        rm -rf toolkit
        mkdir -p toolkit/bin "toolkit/$folder"
        printf '#!/bin/sh\necho "release 13.0, V13"\n' >toolkit/bin/nvcc
        chmod +x toolkit/bin/nvcc
        run make -C "$root" BUILD="$tmp/build" CUDA=1 CUDA_HOME="$tmp/toolkit" -n "$tmp/build/deq"
        [ "$status" -eq 2 ]
        [[ "$output" == *"no CUDA Toolkit: looked in CUDA_HOME ($tmp/toolkit)"*libcudart_static.a* ]]
        touch "toolkit/$folder/libcudart_static.a"
        run make -C "$root" BUILD="$tmp/build" CUDA=1 CUDA_HOME="$tmp/toolkit" -n "$tmp/build/deq"
        [ "$status" -eq 0 ]
        [[ "$output" == *"-L$tmp/toolkit/$folder "* ]]
    done
}

@test "two GPUs: two processes, whose losses are compared, twice" {
    command -v mpirun >/dev/null || skip "no mpirun: apt-get install openmpi-bin"
    ! OMPI_COMM_WORLD_SIZE=2 "$deq" train --config /nonexistent 2>&1 | grep -q "without MPI" ||
        skip "the program was built without MPI"
    export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl=self,vader OMPI_MCA_pml=ob1 \
        OMPI_MCA_btl_vader_single_copy_mechanism=none
    fake_tree
    printf '#!/bin/sh\nfor i in 0 1; do echo "Fake A100-SXM4-40GB, 1.2, 100 MiB"; done\n' >bin/nvidia-smi
    run tree/scripts/gpu-check.sh -o report.json
    echo "$output"
    [ "$status" -eq 0 ]
    for step in train-two train-two-again losses-two repeats-two; do
        grep -q "\"name\": \"$step\", \"result\": \"passed\"" report.json
    done
    grep -q '"output": {"steps": 20, .*, "transport": "Open MPI' report.json
    run "$report" report.json
    [ "$status" -eq 0 ]
}

@test "a suite that finds no device, or losses that differ, fail" {
    fake_tree
    echo "1..0 # SKIP no device" >suite
    sed -i 's/cuda) word=cpu ;;/cuda) word=cpu ;; train.steps=20) [ "$seen" ] || word=train.steps=19; seen=1 ;;/' bin/deq
    run tree/scripts/gpu-check.sh -o report.json
    [ "$status" -eq 1 ]
    grep -q '"name": "ops", "result": "failed"' report.json
    grep -q '"name": "losses", "result": "failed"' report.json
    grep -q '"name": "verify", "result": "skipped"' report.json
    grep -q '"passed": false' report.json
    run "$report" report.json
    [ "$status" -eq 0 ]
}

@test "text in a report is quoted, whatever is in it" {
    fake_tree
    printf '#!/bin/sh\nprintf "Fake \\\\ \\"GPU\\"\\t1, 1.2, 100 MiB\\n"\n' >bin/nvidia-smi
    echo 'echo "no \"room\"	here \\" >&2; exit 3' >bin/make
    run tree/scripts/gpu-check.sh -o report.json
    [ "$status" -eq 1 ]
    run "$report" report.json
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" == 'Fake \ "GPU" 1 | 1.2 | 100 MiB'* ]]
    [ "${lines[1]}" = "build failed" ]
}

# What stands in for packages on a machine without any.
@test "bundle.sh packs headers and libraries that suffice by themselves" {
    [ "${CI:-}" = true ] || skip "a minute: CI=true"
    run "$root/scripts/bundle.sh" "$tmp/bundle.tar.gz"
    echo "$output"
    [ "$status" -eq 0 ]
    tar -xzf bundle.tar.gz
    [ -x deq/scripts/gpu-check.sh ]
    for header in cblas cjson/cJSON dnnl utf8proc xxhash zlib; do
        echo "#include <$header.h>"
    done >all.c
    echo 'int main(void) { return cJSON_Version() == 0 || zlibVersion() == 0 || dnnl_version() == 0 ||
        XXH_versionNumber() == 0 || utf8proc_version() == 0 || openblas_get_num_threads() < 1; }' >>all.c
    gcc -H -fsyntax-only -Ideq/deps/include all.c 2>headers
    for header in cblas cJSON dnnl utf8proc xxhash zlib; do
        grep -q "^\. deq/deps/include/.*$header\.h" headers
    done
    gcc -o all -Ideq/deps/include all.c -Ldeq/deps/lib \
        -Wl,--disable-new-dtags,-rpath,"$tmp/deq/deps/lib" -ldnnl -lopenblas -lcjson -lz -lxxhash -lutf8proc
    # Those that are there, what they need themselves included, come from there.
    for library in deq/deps/lib/*.so.*; do
        ! ldd all | grep -F "${library##*/} =>" | grep -qvF "$tmp/deq/deps/lib" || return 1
    done
    [ "$(ldd all | grep -c "$tmp/deq/deps/lib")" -gt 5 ]
    ./all
}

@test "bundle.sh: its help, and a wrong option" {
    run "$root/scripts/bundle.sh" --help
    [ "$status" -eq 0 ]
    [[ "$output" == *"scripts/bundle.sh [OUTPUT.tar.gz]"* ]]
    run "$root/scripts/bundle.sh" --all
    [ "$status" -eq 64 ]
    [ "$output" = "bundle.sh: unknown option --all" ]
}
