/* Measures OpenBLAS's SGEMM and a copy from memory to memory. */
#include "cmd/machine.h"

#include "backend/cpu/openblas.h"
#include "base/clock.h"
#include "base/mem.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SGEMM_M = 1024, SGEMM_N = 2048, SGEMM_K = 512, BEST_OF = 3 };
enum { COPY_FLOATS = 1 << 23 }; /* 32 MiB from, 32 MiB to */

static void make_peer_fair(char **argv)
{
    const char *core = NULL;
    if (getenv("OPENBLAS_CORETYPE") != NULL)
        return;
    const char *now = machine_core();
    bool old = strcmp(now, "Prescott") == 0 || strcmp(now, "Core2") == 0 ||
               strcmp(now, "Nehalem") == 0 || strcmp(now, "Katmai") == 0;
#if defined(__x86_64__)
    if (old && __builtin_cpu_supports("avx512vl"))
        core = "SkylakeX";
    else if (old && __builtin_cpu_supports("avx2"))
        core = "Haswell";
#else
    (void)old;
#endif
    if (core == NULL)
        return;
    fprintf(stderr, "OpenBLAS takes this processor for a %s; measuring it as %s\n", now, core);
    setenv("OPENBLAS_CORETYPE", core, 1);
    execv("/proc/self/exe", argv); /* on failure the comparison flatters us */
}

enum status machine_restart_if_unfair(struct error *err)
{
    enum { MAX_ARGS = 256, MAX_BYTES = 65536 };
    char *text = NULL, *args[MAX_ARGS + 1];
    int count = 0;
    TRY(mem_alloc((void **)&text, MAX_BYTES, 1, err));
    FILE *f = fopen("/proc/self/cmdline", "rb");
    size_t len = f == NULL ? 0 : fread(text, 1, MAX_BYTES - 1, f);
    if (f != NULL)
        fclose(f);
    for (size_t at = 0; at < len && count < MAX_ARGS; at += strlen(text + at) + 1)
        args[count++] = text + at;
    args[count] = NULL;
    if (count > 0)
        make_peer_fair(args);
    mem_free(text);
    return STATUS_OK;
}

enum status machine_create(struct machine **out, int threads, struct error *err)
{
    struct machine *m = NULL;
    enum status status = STATUS_OK;
    TRY(mem_alloc((void **)&m, 1, sizeof *m, err));
    m->threads = threads;
    *(void **)&m->product = openblas_function("cblas_sgemm");
    void (*set_threads)(int);
    *(void **)&set_threads = openblas_function("openblas_set_num_threads");
    if (m->product == NULL || set_threads == NULL) {
        status = error_set(err, STATUS_DEVICE,
                           "OpenBLAS, to compare with, cannot be loaded: it is missing, or ulimit "
                           "-v leaves it too little memory");
        goto out;
    }
    TRY_OUT(mem_alloc((void **)&m->a, (size_t)SGEMM_M * SGEMM_K, sizeof(float), err));
    TRY_OUT(mem_alloc((void **)&m->b, (size_t)SGEMM_K * SGEMM_N, sizeof(float), err));
    TRY_OUT(mem_alloc((void **)&m->c, (size_t)SGEMM_M * SGEMM_N, sizeof(float), err));
    TRY_OUT(mem_alloc((void **)&m->from, COPY_FLOATS, sizeof(float), err));
    TRY_OUT(mem_alloc((void **)&m->to, COPY_FLOATS, sizeof(float), err));
    for (int i = 0; i < SGEMM_M * SGEMM_K; i++)
        m->a[i] = (float)(i % 7) - 3;
    for (int i = 0; i < SGEMM_K * SGEMM_N; i++)
        m->b[i] = (float)(i % 5) - 2;
    for (int i = 0; i < COPY_FLOATS; i++)
        m->from[i] = (float)(i % 3);
    set_threads(threads);
    machine_measure(m);
    m->count = 0; /* that one started the library */
    *out = m;
    return STATUS_OK;
out:
    machine_free(m);
    return status;
}

void machine_free(struct machine *m)
{
    if (m == NULL)
        return;
    mem_free(m->a);
    mem_free(m->b);
    mem_free(m->c);
    mem_free(m->from);
    mem_free(m->to);
    mem_free(m);
}

static double copy_seconds(struct machine *m)
{
    double start = clock_seconds();
#pragma omp parallel for schedule(static) num_threads(m->threads)
    for (int64_t i = 0; i < COPY_FLOATS; i++)
        m->to[i] = m->from[i];
    return clock_seconds() - start;
}

void machine_measure(void *machine)
{
    struct machine *m = machine;
    double product = INFINITY, copy = INFINITY;
    if (m->count == MACHINE_SAMPLES)
        return;
    for (int i = 0; i < BEST_OF; i++) {
        double start = clock_seconds();
        m->product(CblasRowMajor, CblasNoTrans, CblasNoTrans, SGEMM_M, SGEMM_N, SGEMM_K, 1, m->a,
                   SGEMM_K, m->b, SGEMM_N, 0, m->c, SGEMM_N);
        product = fmin(product, clock_seconds() - start);
    }
    for (int i = 0; i < BEST_OF; i++)
        copy = fmin(copy, copy_seconds(m));
    m->sgemm[m->count] = 2.0 * SGEMM_M * SGEMM_N * SGEMM_K / product / 1e9;
    m->bandwidth[m->count] = 2.0 * COPY_FLOATS * sizeof(float) / copy / 1e9;
    m->count++;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int64_t count)
{
    qsort(x, (size_t)count, sizeof *x, compare);
    return x[count / 2];
}

double machine_sgemm(struct machine *m)
{
    return median(m->sgemm, m->count);
}

double machine_bandwidth(struct machine *m)
{
    return median(m->bandwidth, m->count);
}

const char *machine_core(void)
{
    const char *(*core)(void);
    *(void **)&core = openblas_function("openblas_get_corename");
    return core != NULL ? core() : "none";
}

double machine_memory_line(const char *key)
{
    char line[256];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtod(line + strlen(key), NULL);
    if (f != NULL)
        fclose(f);
    return kib * 1024;
}
