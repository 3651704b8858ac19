/* What a checkpoint of a run holds, which is its configuration, vocabulary, state, parameters,
 * optimizer moments and segment memory, in the container of store/checkpoint.h. Evaluation and
 * sampling need nothing else, and a resumed training continues as if it had not stopped. */
#ifndef DEQ_STORE_SNAPSHOT_H
#define DEQ_STORE_SNAPSHOT_H

#include "data/vocab.h"
#include "deq/model.h"
#include "optimizer/optimizer.h"
#include "store/checkpoint.h"

enum { SNAPSHOT_ORIGIN_MAX = 512, SNAPSHOT_STATE_FORMAT = 1 };

/* Figures of an evaluation beside its loss, NaN where there are none (train/evaluation.h). */
struct snapshot_figures {
    bool known; /* else the file is of an older program, or there was no evaluation */
    double bits_per_byte, bits_per_byte_known, unknown;
};

/* Where a training stands. Random numbers are functions of the seed and of the counters below, so
 * that no other state of theirs is needed. */
struct train_state {
    int64_t step;           /* optimizer steps done, skipped ones included */
    int64_t tokens;         /* targets trained on */
    int64_t skipped;        /* steps without an update, as the gradient was not finite */
    int64_t updates;        /* of the optimizer */
    int64_t epoch, segment; /* the next segment to read */
    int64_t position;       /* tokens of the epoch read so far, of all streams, -1 if not known */
    int64_t schedule_start; /* step after which the schedule of the learning rate began */
    int64_t reset;          /* what --reset began anew in this run, as TRAINER_RESET_... */
    uint64_t train_text;    /* stream_digest of the text trained on, or 0 if not known */
    uint64_t valid_text;    /* and of the text that best_nll was measured on */
    int64_t micro;          /* parts of batches trained on, which number the dropout masks */
    double best_nll;        /* lowest validation loss so far, infinite before the first */
    int64_t best_step;
    struct snapshot_figures best; /* of the same evaluation */
    int64_t evaluated;            /* step of the last finished evaluation */
    int64_t waited;               /* evaluations since the best one */
    int64_t ranks;                /* processes of the last step */
    int64_t logged;               /* lines of steps and evaluations in the log, 0 if not known */
    double seconds;               /* spent in training so far */
    char origin[SNAPSHOT_ORIGIN_MAX]; /* the file that --resume named, cut if longer, or "" */
};

/* What a snapshot is made from. All pointers are borrowed. */
struct snapshot_source {
    const struct config *config;
    const struct vocab *vocab;
    const struct train_state *state;
    struct model *model;
    const struct optimizer *optimizer;
};

/* A copy of all that in host memory, so that a file can be written from it while training goes on.
 * It takes 4 bytes a parameter, as many again for each of the optimizer's states and for an
 * average, and those of the segment memory. With several ranks it is rank 0 that holds it; a file
 * is the same for any number of ranks. */
struct snapshot_image {
    struct dist *dist;                 /* borrows; NULL: one rank */
    const struct params *params;       /* borrows: names and sizes; its numbers are not looked at */
    const struct vocab *vocab;         /* borrows */
    bool compress;                     /* the numbers in the file */
    char *config, *state;              /* owns: JSON */
    float *w;                          /* owns: [params->total], the average with train.ema */
    float *raw;                        /* owns: the weights under training then, else NULL */
    const struct optimizer_kind *kind; /* borrows */
    float *moment[OPTIMIZER_MAX_STATES]; /* owns: [optimizer_state_end] for each of its states */
    int memories;
    struct image_memory *memory; /* owns [memories] */
    float *own, *all;            /* owns, what a rank sends to rank 0, and what arrives there */
};

struct image_memory {
    int64_t batch, count, width; /* with the batch of all ranks */
    float *rows;                 /* owns [batch,count,width], allocated for a full memory */
};

/* Allocates the buffers. Returns STATUS_NOMEM on failure. The caller frees them with
 * snapshot_image_free. */
enum status snapshot_image_create(struct snapshot_image *image, const struct snapshot_source *s,
                                  struct error *err);
/* Makes the image of a training at step 0 with the declared parameters, moments of zero and no
 * segment memory. The caller fills image->w. Returns STATUS_NOMEM on failure. */
enum status snapshot_image_of_weights(struct snapshot_image *image, const struct config *config,
                                      const struct vocab *vocab, const struct params *declared,
                                      struct error *err);
void snapshot_image_free(struct snapshot_image *image);
size_t snapshot_image_bytes(const struct snapshot_image *image);

/* All ranks. Copies the source as it is now. Returns STATUS_NOMEM, or STATUS_DEVICE for a fault of
 * the device. On rank 0 also STATUS_CHECK if a weight is not finite, after all ranks have sent
 * their parts: such an image must not replace a checkpoint. */
enum status snapshot_take(struct snapshot_image *image, const struct snapshot_source *s,
                          struct error *err);
/* Writes what was copied to `path`, which appears whole or not at all. It may run in a thread of
 * its own, since it reads nothing but the image, names and sizes of the parameters, and the
 * vocabulary. Returns STATUS_CANTCREATE, STATUS_IO, STATUS_NOMEM, or STATUS_INTERNAL if zlib does
 * not start. */
enum status snapshot_write(const char *path, const struct snapshot_image *image, struct error *err);

/* A checkpoint opened for use. */
struct snapshot {
    struct checkpoint *file; /* owns */
    struct vocab *vocab;     /* owns */
    struct config config;    /* resolved */
    struct train_state state;
};

/* Opens a checkpoint and checks its configuration, vocabulary and state. The caller frees it with
 * snapshot_close. Returns STATUS_NOINPUT if the file cannot be opened, STATUS_DATA if it is no
 * checkpoint of this program or damaged, STATUS_CONFIG if the values of its configuration do not
 * fit each other, STATUS_IO, STATUS_NOMEM, or STATUS_INTERNAL if zlib does not start. */
enum status snapshot_open(struct snapshot *s, const char *path, struct error *err);
void snapshot_close(struct snapshot *s);

/* Reads the vocabulary of a checkpoint, with the tokenizer of its subwords. The caller frees *out
 * with vocab_free. *out is NULL on error. Returns STATUS_DATA, STATUS_IO or STATUS_NOMEM. */
enum status snapshot_read_vocab(struct checkpoint *file, struct vocab **out, struct error *err);

/* Fills the parameters, each of which must be in the file with its sizes and finite. Returns
 * STATUS_DATA, STATUS_IO, STATUS_NOMEM, or STATUS_DEVICE for a fault of the device. */
enum status snapshot_read_params(struct snapshot *s, struct params *params, struct error *err);
/* The same into host memory, host[declared->total], for parameters that are only declared. */
enum status snapshot_read_weights(struct snapshot *s, const struct params *declared, float *host,
                                  struct error *err);
/* Records STATUS_DATA for a weight of the checkpoint `path` that is not finite, and returns it. */
enum status snapshot_refuse_weight(const char *path, const char *name, double value,
                                   struct error *err);
/* Fills the parameters as snapshot_read_params does, and goes on training with them. With train.ema
 * those of the file are its average, so that the weights under training replace them in `params`. A
 * file without an average has it begin at its weights. Returns what snapshot_read_params returns.
 */
enum status snapshot_read_training(struct snapshot *s, struct params *params, struct optimizer *o,
                                   struct error *err);
/* Fills the moments, and the number of updates from the state. Returns what snapshot_read_params
 * returns. */
enum status snapshot_read_optimizer(struct snapshot *s, struct optimizer *o, struct error *err);
/* Fills the segment memory with this rank's streams of it. Of a longer memory it keeps the newest
 * positions. *taken becomes false, and the memory stays empty, if the file has none of this batch
 * and width. Returns STATUS_DATA, STATUS_IO or STATUS_NOMEM. */
enum status snapshot_read_memory(struct snapshot *s, struct model *m, const struct dist *dist,
                                 bool *taken, struct error *err);

#endif
