/* What a checkpoint of a run holds, written to and read from the container of io/checkpoint.h:
 * configuration, vocabulary, state, parameters, optimiser moments, segment memory. Evaluation and
 * sampling need nothing else; a resumed training continues as if it had not stopped. */
#ifndef DEQ_TRAIN_SNAPSHOT_H
#define DEQ_TRAIN_SNAPSHOT_H

#include "io/checkpoint.h"
#include "io/vocab.h"
#include "model/model.h"
#include "train/optimizer.h"

/* Where a training stands. Random numbers are functions of seed and step, so that these say
 * everything about them too. */
struct train_state {
    int64_t step;           /* optimiser steps done, skipped ones included */
    int64_t tokens;         /* targets trained on */
    int64_t skipped;        /* steps without an update: gradient not finite */
    int64_t updates;        /* of the optimiser */
    int64_t epoch, segment; /* the next segment to read */
    int64_t micro;          /* parts of batches trained on: numbers the dropout masks */
    double best_nll;        /* of the validation so far; infinite: none yet */
    int64_t best_step;
    double seconds; /* spent in training so far */
};

struct snapshot_source {
    const struct config *config;
    const struct vocab *vocab;
    const struct train_state *state;
    struct model *model;
    const struct optimizer *optimizer;
};

/* Writes everything to `path`, which appears whole or not at all. */
enum status snapshot_write(const char *path, const struct snapshot_source *s, struct error *err);

/* A checkpoint opened for use. */
struct snapshot {
    struct checkpoint *file; /* owns */
    struct vocab *vocab;     /* owns */
    struct config config;    /* resolved */
    struct train_state state;
};

/* Opens and checks configuration, vocabulary and state. STATUS_DATA if the file is no checkpoint
 * of this program, or is damaged. */
enum status snapshot_open(struct snapshot *s, const char *path, struct error *err);
void snapshot_close(struct snapshot *s);

/* Fills declared parameters; every one must be in the file with its sizes. */
enum status snapshot_read_params(struct snapshot *s, struct params *params, struct error *err);
/* Fills the moments, and the number of updates from the state. */
enum status snapshot_read_optimizer(struct snapshot *s, struct optimizer *o, struct error *err);
/* Fills the segment memory as far as the batch and memory length are the same; else it stays
 * empty. */
enum status snapshot_read_memory(struct snapshot *s, struct model *m, struct error *err);

#endif
