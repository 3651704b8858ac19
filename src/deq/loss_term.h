/* What adds to the loss, or to its gradient, beside the language model's own loss.
 *
 * Each term is a file of this folder that fills a struct loss_term_kind, and a line of LOSS_TERMS.
 * The model creates those that the configuration wants and runs them in the order of the list, all
 * at one moment of the backward pass. The adjoint y of the equilibrium is then known and has not
 * passed through f yet. At that moment a term may evaluate f in the spare slot, take vjps of any
 * slot, and add to y (equilibrium_add_cotangent).
 */
#ifndef DEQ_DEQ_LOSS_TERM_H
#define DEQ_DEQ_LOSS_TERM_H

#include "deq/equilibrium.h"
#include "deq/initial_guess.h"

/* Every term in the order in which they run. X(NAME, name) stands for TERM_NAME and the object
 * name_term. */
#define LOSS_TERMS(X)                     \
    X(JACOBIAN_PENALTY, jacobian_penalty) \
    X(CORRECTION, correction)             \
    X(INITIAL_GUESS, initial_guess)

enum loss_term_id {
#define LOSS_TERM_ID(NAME, name) TERM_##NAME,
    LOSS_TERMS(LOSS_TERM_ID)
#undef LOSS_TERM_ID
        TERM_COUNT
};

/* What a term asks of the cell beyond what the equilibrium does there. */
struct loss_term_needs {
    bool spare_slot; /* a slot of its own for evaluations, which all terms use in turn */
    bool losses;     /* losses of other output states */
    bool tangents;   /* second derivatives */
};

/* What a term is created for. All pointers are borrowed and outlive the term. */
struct loss_term_plan {
    struct workspace *ws;        /* where buffers are declared */
    const struct config *config; /* resolved */
    int64_t batch, length;       /* the largest B and L of a segment */
    struct cell *cell;
    int spare_slot;              /* the cell's slot for terms that need one */
    struct initial_guess *guess; /* where solves start */
};

/* The segment whose gradient is being taken. */
struct loss_segment {
    struct cell *cell;
    struct equilibrium *eq;
    double scale; /* factor of every position's loss, 1 / positions in the batch */
    void *model;  /* for the two functions */
    /* The language model's loss at the output state h [B,L,W] against the segment's targets. Writes
     * the loss of each position in nats into nll [B*L], adds the gradients of scale * sum(nll)
     * to the softmax's parameters, and returns the gradient of h [B,L,W], a view that is valid
     * until the next call. */
    struct tensor (*loss_at)(void *model, const struct tensor *h, const struct tensor *nll,
                             double scale);
    /* The embedded tokens [B,L,E] of the segment, a view. */
    struct tensor (*embedded)(void *model);
};

struct loss_term;

/* Declares a tensor [B,L,W] of a term. */
void loss_term_declare_state(const struct loss_term_plan *plan, struct tensor *t, const char *name,
                             struct lifetime life);

/* A kind of term. Functions that may be NULL say so. */
struct loss_term_kind {
    /* Whether the configuration asks for the term in any step. */
    bool (*wanted)(const struct config *config);
    /* The weight of a segment, unless loss_terms_weigh gives another. At 0 it is left out. */
    double (*weight)(const struct config *config);
    struct loss_term_needs (*needs)(const struct config *config);
    /* Declares buffers and sets t->own. STATUS_NOMEM. */
    enum status (*create)(struct loss_term *t, const struct loss_term_plan *plan,
                          struct error *err);
    /* Sees the iterate z [B,L,W] that evaluation number `evaluation` of a solve, from 0, is about
     * to evaluate. May be NULL. */
    void (*observe)(struct loss_term *t, int64_t evaluation, const struct tensor *z);
    /* Adds the gradient of weight * term to those of the parameters. Failures of the backend wait
     * for backend_check. */
    void (*apply)(struct loss_term *t, const struct loss_segment *segment);
    /* The term's value, without weight, when apply last ran. Synchronises. NULL if it is not kept.
     */
    double (*read)(struct loss_term *t);
    /* Also after a failed create. */
    void (*free)(struct loss_term *t);
};

#define LOSS_TERM_DECLARE(NAME, name) extern const struct loss_term_kind name##_term;
LOSS_TERMS(LOSS_TERM_DECLARE)
#undef LOSS_TERM_DECLARE

struct loss_term {
    const struct loss_term_kind *kind; /* NULL if the configuration does not want this term */
    struct backend *be;                /* borrows */
    void *own;                         /* owns the kind's state */
    /* of the current segment */
    double weight;
    bool applied; /* apply has run */
    bool draws;   /* random numbers are to be drawn from key, else they stay as they are */
    struct rng_key key;
};

struct loss_terms {
    struct loss_term term[TERM_COUNT];
};

/* What all terms of a configuration together ask of the cell in training. */
struct loss_term_needs loss_terms_needs(const struct config *config);
/* Creates the wanted terms. On failure *terms may be freed. STATUS_NOMEM. */
enum status loss_terms_create(struct loss_terms *terms, const struct loss_term_plan *plan,
                              struct error *err);
/* Accepts zeroed and partly created terms. */
void loss_terms_free(struct loss_terms *terms);

/* A segment begins. Every term gets the weight of its configuration. */
void loss_terms_begin(struct loss_terms *terms, const struct config *config);
/* Sets the weight of a wanted term for this segment. Its random numbers are drawn from `key`, or
 * with NULL stay as they are. */
void loss_terms_weigh(struct loss_terms *terms, enum loss_term_id id, double weight,
                      const struct rng_key *key);
/* A monitor of equilibrium_set_monitor whose context is the struct loss_terms. */
void loss_terms_observe(void *ctx, int64_t evaluation, const struct tensor *z);
/* Runs the terms that have a weight, in order. */
void loss_terms_apply(struct loss_terms *terms, const struct loss_segment *segment);
/* Sets *value to the term's value in the current segment. False, and nothing is set, if the term
 * did not run in it. Synchronises. */
bool loss_terms_read(struct loss_terms *terms, enum loss_term_id id, double *value);

#endif
