/* Texts that a report shows of a model. */
#ifndef DEQ_REPORT_SAMPLES_H
#define DEQ_REPORT_SAMPLES_H

#include "base/json.h"
#include "store/snapshot.h"

/* Draws from the likeliest tokens only whose probabilities add up to this. */
#define SAMPLES_TOP_P 0.9
enum { SAMPLES_SEED = 1 };

struct samples_plan {
    int64_t count, tokens; /* texts, and tokens of each behind the prompt */
    const char *prompt;    /* borrows, or NULL for the beginning of a line */
};

/* Makes the texts and writes them as an array of strings, with the prompt. Of a text only what is
 * UTF-8 is written as it is. Returns the statuses of text_encode, generation_check_memory,
 * generator_create, generator_feed and snapshot_read_params. */
enum status samples_write(const struct samples_plan *plan, struct backend *be,
                          struct snapshot *from, struct json_writer *w, const char *key,
                          struct error *err);

#endif
