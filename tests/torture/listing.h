/* What lies in a folder, and whether it is whole. */
#ifndef DEQ_TESTS_TORTURE_LISTING_H
#define DEQ_TESTS_TORTURE_LISTING_H

#include "store/checkpoint.h"

#include <stdbool.h>

enum { FILES = 32 };

/* A file and a digest of what it means: the same for runs that differ in nothing but times. */
struct file {
    char name[128];
    char digest[WEIGHTS_DIGEST_TEXT];
    bool whole;
};

struct listing {
    struct file file[FILES];
    int count;
    int temporary; /* files of those that are not finished: they are not listed */
};

/* Reads a folder with the readers of the program; one that is not there is empty. */
void listing_read(const char *folder, struct listing *out);
/* The file of that name, or NULL. */
const struct file *listing_find(const struct listing *in, const char *name);
/* Whether both hold the same files, with the same digests. */
bool listing_same(const struct listing *a, const struct listing *b);

/* The end of the program, for what its own work needs: says what failed, with errno's text. */
_Noreturn void die(const char *what);
/* Whether `name` ends with `tail`. */
bool ends(const char *name, const char *tail);

#endif
