/* What a checkpoint of a run holds, written to and read from the container of store/checkpoint.h:
 * configuration, vocabulary, state, parameters, states of the optimizer, segment memory. Evaluation
 * and sampling need nothing else; a resumed training continues as if it had not stopped. */
#ifndef DEQ_STORE_SNAPSHOT_H
#define DEQ_STORE_SNAPSHOT_H

#include "data/vocab.h"
#include "deq/model.h"
#include "optimizer/optimizer.h"
#include "store/checkpoint.h"

enum { SNAPSHOT_ORIGIN_MAX = 512, SNAPSHOT_STATE_FORMAT = 1 };

/* Where a training stands. Random numbers are functions of seed and step, so that these say
 * everything about them too. */
struct train_state {
    int64_t step;           /* optimizer steps done, skipped ones included */
    int64_t tokens;         /* targets trained on */
    int64_t skipped;        /* steps without an update: gradient not finite */
    int64_t updates;        /* of the optimizer */
    int64_t epoch, segment; /* the next segment to read */
    int64_t micro;          /* parts of batches trained on: numbers the dropout masks */
    double best_nll;        /* of the validation so far; infinite: none yet */
    int64_t best_step;
    int64_t evaluated; /* step of the last evaluation; less than one that was due and broken off */
    int64_t ranks;     /* processes of the last step */
    int64_t logged;    /* lines of the log; 0: not known */
    double seconds;    /* spent in training so far */
    char origin[SNAPSHOT_ORIGIN_MAX]; /* the file that --resume named, cut if longer; "": none */
};

struct snapshot_source {
    const struct config *config;
    const struct vocab *vocab;
    const struct train_state *state;
    struct model *model;
    const struct optimizer *optimizer;
};

/* A copy of all that in host memory, so that a file can be written from it while training goes on.
 * It takes 4 bytes a parameter, as many again for each of the optimizer's states, and those of the
 * segment memory. With several ranks it is rank 0 that holds it; a
 * file is the same for any number of ranks. */
struct snapshot_image {
    struct dist *dist;                 /* borrows; NULL: one rank */
    const struct params *params;       /* borrows: names and sizes; its numbers are not looked at */
    const struct vocab *vocab;         /* borrows */
    bool compress;                     /* the numbers in the file */
    char *config, *state;              /* owns: JSON */
    float *w;                          /* owns: [params->total] */
    const struct optimizer_kind *kind; /* borrows */
    float *moment[OPTIMIZER_MAX_STATES]; /* owns: [params->total] for each state of the kind */
    int memories;
    struct image_memory *memory; /* owns: [memories] */
    float *own, *all;            /* owns: what a rank sends to rank 0, and what arrives there */
};

struct image_memory {
    int64_t batch, count, width; /* rows now: [batch,count,width], batch that of all ranks */
    float *rows;                 /* owns: room for the memory when it is full */
};

/* Plans the buffers. */
enum status snapshot_image_create(struct snapshot_image *image, const struct snapshot_source *s,
                                  struct error *err);
/* The same for a training of step 0 with the declared parameters, an optimizer whose states are
 * zero and no segment memory; image->w is left to the caller to fill. */
enum status snapshot_image_of_weights(struct snapshot_image *image, const struct config *config,
                                      const struct vocab *vocab, const struct params *declared,
                                      struct error *err);
void snapshot_image_free(struct snapshot_image *image);
size_t snapshot_image_bytes(const struct snapshot_image *image);

/* All ranks. Copies the source as it is now. */
enum status snapshot_take(struct snapshot_image *image, const struct snapshot_source *s,
                          struct error *err);
/* Writes what was copied to `path`, which appears whole or not at all. May run in a thread of its
 * own: it touches nothing but the image, names and sizes of the parameters, and the vocabulary. */
enum status snapshot_write(const char *path, const struct snapshot_image *image, struct error *err);

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
/* Fills the optimizer's states, and the number of updates from the state. */
enum status snapshot_read_optimizer(struct snapshot *s, struct optimizer *o, struct error *err);
/* Fills the segment memory with this rank's share of it, as far as the batch and memory length are
 * the same; else it stays empty. */
enum status snapshot_read_memory(struct snapshot *s, struct model *m, const struct dist *dist,
                                 struct error *err);

#endif
