/* Faults on purpose: the n-th call of a kind fails.
 *
 * faults.c defines the C library's functions anew; those of the executable stand in front of the
 * library's own, for the program and for the libraries it uses. A call is counted if it comes from
 * the program itself. */
#ifndef DEQ_TESTS_TORTURE_FAULTS_H
#define DEQ_TESTS_TORTURE_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* X(NAME, name, what fails and how) */
#define FAULT_LIST(X)                                                                    \
    X(ALLOC, "alloc", "an allocation, ours or cJSON's")                                  \
    X(ALLOC_ON, "alloc-on", "an allocation and all after it")                            \
    X(LIBRARY, "library", "an allocation of oneDNN's or OpenBLAS's by posix_memalign")   \
    X(OPEN, "open", "opening or making a file or a folder, EMFILE")                      \
    X(READ, "read", "a read, EIO")                                                       \
    X(READ_END, "read-end", "a read finds the end of the file")                          \
    X(READ_SHORT, "read-short", "a read gives one byte; no failure")                     \
    X(WRITE, "write", "a write, EIO")                                                    \
    X(WRITE_FULL, "write-full", "a write takes half, and from then on the disk is full") \
    X(WRITE_SHORT, "write-short", "a write takes one byte; no failure")                  \
    X(INTERRUPT, "interrupt", "a read or write is interrupted, EINTR; no failure")       \
    X(SYNC, "sync", "forcing to disk, EIO")                                              \
    X(CLOSE, "close", "closing, EIO, as network file systems do")                        \
    X(RENAME, "rename", "a rename or a link, EACCES")                                    \
    X(THREAD, "thread", "starting a thread, EAGAIN")                                     \
    X(KILL, "kill", "the process is killed (-9) before a call that changes files")

enum fault {
#define X(name, text, what) FAULT_##name,
    FAULT_LIST(X)
#undef X
        FAULT_COUNT
};

const char *fault_name(enum fault kind);
const char *fault_what(enum fault kind);

/* Shared with the process that forked us. */
struct fault_state {
    enum fault kind;
    int64_t at;                 /* the call that fails, from 1; 0: none */
    int64_t count[FAULT_COUNT]; /* calls so far */
    bool armed;                 /* calls are counted */
    bool reached;               /* the call happened */
    int64_t blocks;             /* of memory held by the program (not with AddressSanitizer) */
};

/* Where the state lies; before the first call of any other function. */
void faults_use(struct fault_state *state);

#endif
