/* The language model. It embeds tokens, finds the equilibrium of a cell, and has an adaptive
 * softmax behind it. Segments follow each other with memory.
 *
 * A training step goes this way:
 *
 *   model_refresh                  effective weights; gradients become zero
 *   for each part of the batch:
 *     model_select_memory          the part's own memory, if there are several parts
 *     model_begin                  tokens -> e, under masks; the cell injects e
 *     model_weigh_term             what this part's loss terms weigh, where that changes
 *     model_solve                  z* = f(z*; e), H = f(z*)
 *     model_loss                   H -> loss; gradients of the softmax and of H
 *     model_backward               adjoint y; loss terms; y through f, to parameters and embedding
 *     model_remember               states become memory of the next segment
 *   model_finish_gradients         from effective weights to parameters
 *   optimizer_step
 *
 * Evaluation takes model_refresh once, then model_begin, model_solve, model_loss and model_remember
 * for each segment.
 */
#ifndef DEQ_DEQ_MODEL_H
#define DEQ_DEQ_MODEL_H

#include "deq/loss_term.h"
#include "deq/vocabulary_layers.h"

struct model_plan {
    int64_t batch, length, mem_len; /* largest B and L of a segment, positions remembered */
    int memories;                   /* memories side by side (model_select_memory), 0 means 1 */
    bool train;                     /* gradients and dropout */
    bool vjp;                       /* products with J^T without the rest of training */
    bool keep_states; /* the memory of training (train implies it, tests want it alone) */
    bool replay;      /* segments may begin again without model_remember */
};

/* What a model's memory is for, in bytes of the backend. */
struct model_bytes {
    size_t parameters;  /* with effective weights, and gradients */
    size_t vocabulary;  /* a chunk of logits, lists of tokens */
    size_t activations; /* states, what f saves of them, gradients, scratch, all at their peak */
    size_t solver;      /* what histories and residuals add to that peak */
    size_t remembered;  /* segment memory */
};

struct model {
    struct backend *be; /* borrows */
    struct model_bytes bytes;
    struct config config; /* resolved */
    struct model_plan plan;
    struct params own;     /* owns, unless borrowed */
    struct params *params; /* &own, or borrows those of another model */
    struct vocabulary_layers vocab;
    struct cell *cell;      /* owns */
    struct equilibrium *eq; /* owns */
    bool sees_all;          /* the softmax sees the whole state, not some of its columns */
    struct workspace *ws;   /* owns all buffers but the parameters */
    struct tensor e;        /* [B,L,E] embedded tokens */
    struct tensor out;      /* [B,L,O] what the softmax sees, where it is not the state */
    struct tensor nll;      /* [B*L] */
    /* In training, gradients of what the softmax sees [B,L,O], of the state [B,L,W] and of e
     * [B,L,E]. Where the softmax sees all of the state, dq serves for both. */
    struct tensor dq, dstate, de;
    struct tensor mask_in;    /* [B,1,E] */
    struct tensor mask_out;   /* [B,1,O], or [B,L,1] where positions are dropped */
    struct tensor mask_word;  /* [V,1], emb_dropout */
    struct tensor mask_token; /* [B,L,1], mask_word looked up for the segment */
    struct tensor found;      /* [B*L,1] scratch for that */
    struct initial_guess guess;
    struct loss_terms terms; /* train */
    /* of the current segment */
    int64_t length;
    const int32_t *target; /* borrowed by model_loss until model_backward */
    double scale;          /* of model_loss */
    struct masks masks;
    struct tensor q;     /* view of what the softmax sees */
    struct tensor state; /* with a head, what it was made of, borrowed */
};

/* Declares all parameters of a model, for counting them too. The vocabulary must be known.
 * STATUS_NOMEM. */
enum status model_declare(struct params *params, const struct config_model *model,
                          struct error *err);
/* Builds a model for a resolved configuration (config_resolve, vocab_size known). The
 * backend is borrowed. With `shared` not NULL those parameters are borrowed too, as an evaluation
 * beside a training does. They must be of the same configuration. Otherwise parameters are
 * allocated, not initialised. The caller frees *out. STATUS_CONFIG, STATUS_NOMEM, STATUS_DEVICE. */
enum status model_create(struct model **out, struct backend *be, const struct config *config,
                         struct params *shared, const struct model_plan *plan, struct error *err);
/* Accepts NULL. */
void model_free(struct model *m);

/* After a change of parameters, recomputes what depends on them and sets gradients to zero. */
void model_refresh(struct model *m);
/* Forgets earlier segments. */
void model_reset_memory(struct model *m);
/* Every stream of `to` goes on from where `from`, a model of one stream with the same configuration
 * and at most as long a memory, stands. */
void model_spread_memory(struct model *to, const struct model *from);
/* The segments that follow belong to memory number `index`. Parts of one batch take turns. */
void model_select_memory(struct model *m, int index);

/* Starts a segment of plan.batch streams. `input` [B*L] holds token ids on the host, where L is
 * `length`. It is copied. */
void model_begin(struct model *m, const int32_t *input, int64_t length, const struct masks *masks);
/* Finds its output. With `layers` above 0 that many plain applications of f take the place of a
 * solve. With `gradient` model_backward will follow. STATUS_DEVICE or STATUS_NOMEM, as the backend
 * reports. */
enum status model_solve(struct model *m, int64_t layers, bool gradient, struct error *err);
/* Writes the loss of every position, in nats, against target [B*L] on the host into m->nll. With
 * `gradient` it also leaves the gradient of scale * sum(nll) at the output for model_backward,
 * until when `target` stays valid, and adds the softmax's own gradients to params->g. */
void model_loss(struct model *m, const int32_t *target, double scale, bool gradient);
/* model_loss at any output state h [B,L,W] of the segment in place of the one that was solved for.
 */
void model_output_loss(struct model *m, const struct tensor *h, const int32_t *target, double scale,
                       bool gradient);
/* The gradient of the output state [B,L,W] that model_loss left, a view that model_backward
 * overwrites. */
struct tensor model_state_gradient(const struct model *m);
/* Before model_backward, gives a loss term another weight than the configuration's in this segment
 * (loss_terms_weigh). The configuration must want the term. */
void model_weigh_term(struct model *m, enum loss_term_id id, double weight,
                      const struct rng_key *key);
/* Propagates the gradient that model_loss left, and what the loss terms add, to every parameter and
 * adds it to params->g. STATUS_DEVICE or STATUS_NOMEM, as the backend reports. */
enum status model_backward(struct model *m, struct error *err);
/* Ends the segment. Its states become memory of the next. */
void model_remember(struct model *m);
/* After the last segment of a step, takes gradients of effective weights to those of parameters. */
void model_finish_gradients(struct model *m);

/* What the last segment's solves took (equilibrium_report). STATUS_NOMEM. */
enum status model_report(const struct model *m, struct solve_report *forward,
                         struct solve_report *backward, struct error *err);
/* Changes limits of later solves in one direction (equilibrium_set_limits). STATUS_CONFIG. */
enum status model_set_limits(struct model *m, enum solve_direction direction, int64_t max_iter,
                             double tol, enum solve_stop stop, struct error *err);
/* Mean of the last model_loss in nats, summed in double. If `each` is not NULL it receives the B*L
 * single values. Synchronises. */
double model_read_loss(struct model *m, double *each);

/* Sets *value to a loss term's value, without weight, in the last segment. False, and nothing is
 * set, if it did not run there. Synchronises. */
bool model_read_term(struct model *m, enum loss_term_id id, double *value);

#endif
