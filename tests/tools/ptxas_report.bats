#!/usr/bin/env bats
# scripts/ptxas-report.sh on kernels of known behaviour.

setup() {
    root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
    report=$root/scripts/ptxas-report.sh
    cd "$BATS_TEST_TMPDIR"
}

need_nvcc() {
    command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] ||
        skip "needs the CUDA Toolkit's nvcc"
}

@test "wrong options: exit 64; a missing file: exit 66; no toolkit: exit 69" {
    run "$report" -t many
    [ "$status" -eq 64 ]
    [ "$output" = 'ptxas-report.sh: -t: want a number of threads, got "many"' ]
    run "$report" -a sm_1
    [ "$status" -eq 64 ]
    mkdir -p none
    CUDA_HOME=none run "$report"
    [ "$status" -eq 69 ]
    [[ "$output" == *"no nvcc (none/bin/nvcc): install the CUDA Toolkit or set CUDA_HOME" ]]
    need_nvcc
    run "$report" none.cu
    [ "$status" -eq 66 ]
}

@test "registers, shared memory, occupancy; no spill: exit 0" {
    need_nvcc
    cat >plain.cu <<'END'
__global__ void k_plain(float *x) { x[threadIdx.x] *= 2; }
__global__ void k_shared(float *x)
{
    __shared__ float all[4096];
    all[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = all[255 - threadIdx.x];
}
END
    run "$report" plain.cu
    [ "$status" -eq 0 ]
    echo "$output" | grep -E 'k_plain +[0-9]+ +0 +0 +100%'
    # 16 KiB and 1 of the system's: 13 blocks fit into 228 KiB, and 8 of 8 warps are the most
    echo "$output" | grep -E 'k_shared +[0-9]+ +0 +16384 +100%'
    run "$report" -t 32 plain.cu
    # 13 blocks of one warp, of 64
    echo "$output" | grep -E 'k_shared +[0-9]+ +0 +16384 +20%'
    [[ "$output" == *"2 kernels, 0 spill"* ]]
}

@test "a kernel that spills: exit 1" {
    need_nvcc
    cat >spill.cu <<'END'
__global__ void __launch_bounds__(1024, 2) k_spill(float *x, int n)
{
    float a[64];
#pragma unroll
    for (int i = 0; i < 64; i++)
        a[i] = x[i * n + threadIdx.x];
#pragma unroll
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < n; j++)
            a[i] = a[i] * a[(i + 7) % 64] + 1;
#pragma unroll
    for (int i = 0; i < 64; i++)
        x[i * n + threadIdx.x] = a[i];
}
END
    run "$report" spill.cu
    [ "$status" -eq 1 ]
    echo "$output" | grep -E 'k_spill +[0-9]+ +[1-9][0-9]*'
    [[ "$output" == *"1 kernels, 1 spill"* ]]
}
