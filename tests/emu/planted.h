/* For tests that plant a fault, which happens in a child, and demand that it is caught. */
#ifndef DEQ_TESTS_EMU_PLANTED_H
#define DEQ_TESTS_EMU_PLANTED_H

/* cmocka wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

extern "C" {
#include <cmocka.h>
}

#include "cuda/shim.h"
#include "emu/emu.h"
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs fault() in a child that says nothing to us but its end. What it wrote to stderr goes to
 * `said`. The result tells whether it ended badly. */
static inline bool ends_badly(void (*fault)(void), char *said, size_t size)
{
    int ends[2];
    fflush(stdout);
    fflush(stderr);
    if (pipe(ends) != 0)
        abort();
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        fault();
        _exit(0);
    }
    close(ends[1]);
    size_t have = 0;
    for (;;) {
        char rest[256];
        bool full = have + 1 >= size;
        ssize_t n =
            full ? read(ends[0], rest, sizeof rest) : read(ends[0], said + have, size - 1 - have);
        if (n <= 0)
            break;
        have += full ? 0 : static_cast<size_t>(n);
    }
    said[have] = 0;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The fault must end the child, and stderr must hold one of the two texts. */
static inline void expect_caught(void (*fault)(void), const char *text, const char *or_text)
{
    static char said[16384];
    bool bad = ends_badly(fault, said, sizeof said);
    if (!bad)
        fail_msg("the fault was not caught; stderr: %s", said);
    if (strstr(said, text) == nullptr && strstr(said, or_text) == nullptr)
        fail_msg("want \"%s\" or \"%s\" in: %s", text, or_text, said);
}

static inline void check_cuda(cudaError_t status)
{
    if (status != cudaSuccess)
        fail_msg("%s", cudaGetErrorString(status));
}

/* n floats on the device, all `value`. */
static inline float *device_floats(int n, float value)
{
    float *p = nullptr;
    check_cuda(cudaMalloc(&p, static_cast<size_t>(n) * sizeof *p));
    float *host = static_cast<float *>(malloc(static_cast<size_t>(n) * sizeof *host));
    for (int i = 0; i < n; i++)
        host[i] = value;
    check_cuda(cudaMemcpy(p, host, static_cast<size_t>(n) * sizeof *p, cudaMemcpyHostToDevice));
    free(host);
    return p;
}

static inline float device_float(const float *p)
{
    float x = 0;
    check_cuda(cudaMemcpy(&x, p, sizeof x, cudaMemcpyDeviceToHost));
    return x;
}

#endif
