/* A run of the program in a process of its own, with one of its calls failing. */
#ifndef DEQ_TESTS_TORTURE_PROGRAM_H
#define DEQ_TESTS_TORTURE_PROGRAM_H

#include "faults.h"
#include "listing.h"

enum { WORDS = 24, TEXT = 4096 };

/* A command line in the work folder. */
struct scenario {
    const char *name;
    const char *prepared; /* a folder to begin with, copied to `out`; NULL: none */
    const char *out;      /* the folder the command writes; NULL: it writes none */
    const char *words[WORDS];
    const char *insist; /* added to go on from what a killed one left; NULL: nothing */
    const char *mark;   /* the file without which its others count as unfinished; NULL: none */
    bool single;        /* writes one file, and leaves alone what a killed one left beside it */
};

/* What is shared with the processes. */
struct program {
    struct fault_state *state;
    int output;  /* file in memory: what a process wrote to stderr */
    int printed; /* the same for stdout */
};

/* What a run left behind. */
struct outcome {
    int code; /* exit code, or 128 + signal */
    bool reached;
    int64_t blocks, descriptors; /* held at the end beyond those of the beginning */
    char text[TEXT];             /* on stderr */
    uint64_t printed;            /* digest of stdout */
    struct listing files;
};

void program_open(struct program *p);
/* One run in the folder as it is, in which call `at` of a kind fails (0: none). */
void program_run(const struct program *p, const struct scenario *s, enum fault kind, int64_t at,
                 struct outcome *o);
/* Puts the folder that the command writes into the state it begins with. */
void program_begin(const struct scenario *s);

#endif
