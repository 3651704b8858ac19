/* What deq info knows of a checkpoint before it prints anything. */
#ifndef DEQ_CMD_INFO_CONTENT_H
#define DEQ_CMD_INFO_CONTENT_H

#include "base/json.h"
#include "data/vocab.h"
#include "store/checkpoint.h"

enum { CONTENT_PARTS = 8 };

struct content {
    const char *path; /* borrows */
    struct checkpoint *file;
    struct json *state, *config; /* owns; NULL if there is no such section */
    struct vocab *vocab;         /* owns; NULL if there is none, or not asked for */
    char digest[WEIGHTS_DIGEST_TEXT];
    int64_t parameters, part[CONTENT_PARTS], tensors;
    int64_t unpacked; /* bytes of all sections */
};

/* The name of a part of the model, or NULL behind the last one. */
const char *content_part(int index);

/* Prints a line about a vocabulary: its size and its rule. */
void info_vocabulary(const struct vocab *v);
/* Prints about ten lines that a person wants to know. What the file does not hold has no line. */
void info_summary(const struct content *c);

#endif
