/* Shared by the kinds of dumps. */
#ifndef DEQ_VERIFY_VERIFY_IMPL_H
#define DEQ_VERIFY_VERIFY_IMPL_H

#include "deq/model.h"
#include "verify/verify.h"

/* Tolerances, on the largest difference over the largest value of the tensor. u = 2^-24, the
 * rounding of float32; sums over some hundred products err by about sqrt(n) u at each of the ten
 * stages of f. */
enum tolerance {
    TOL_EXACT,    /* tables and copies: a few u */
    TOL_FORWARD,  /* one evaluation of f: ~ 50 u */
    TOL_GRADIENT, /* its vjp and weight gradients: twice as many stages, longer sums */
    TOL_SECOND, /* derivatives of that vjp: pairs through the same stages, sums of their products */
    TOL_SOLVED, /* an equilibrium: rounding of f amplified by 1 / (1 - |J|) */
    TOL_ADJOINT, /* gradients through an equilibrium */
    TOL_TRAINED, /* weights after some Adam steps, relative to the way they went: an update
                    divides by |g|, so that errors of the smallest gradients count fully */
    TOL_COURSE,  /* losses and gradient norms on the way there: earlier differences come back; the
                    dump's own solves end near 1e-8 */
    TOL_TRACE,   /* residuals of a solver, relative to the largest: quasi-Newton steps repeat
                    rounding errors of earlier ones */
    TOL_RADIUS,  /* a power method from another start */
    TOL_COUNT
};

/* How numbers lie in the dump, against our [B,T,C]. */
enum layout { LAYOUT_SAME, LAYOUT_BCT, LAYOUT_TBC };

struct verify {
    struct backend *be;
    const struct st_file *file;
    const char *path;
    struct verify_report *report;
    double tol; /* 0: the table's */
    bool *seen; /* owns [tensors of the file] */
    struct config config;
    struct model *model; /* owns */
};

/* --- verify.c: the report --- */
/* The tensor of that name, marked as seen; NULL if the file has none. */
const struct st_tensor *verify_find(struct verify *v, const char *name);
/* The same; its absence is STATUS_DATA. */
enum status verify_need(struct verify *v, const char *name, const struct st_tensor **out,
                        struct error *err);
/* Compares `ours` (count numbers in the dump's order) with tensor `name`, if the file has it. The
 * difference is taken relative to `scale`, or, with scale 0, to the largest value of the tensor. */
enum status verify_compare(struct verify *v, const char *name, const double *ours, int64_t count,
                           enum tolerance tol, double scale, struct error *err);
enum status verify_number(struct verify *v, const char *name, double ours, enum tolerance tol,
                          struct error *err);
/* Downloads t [B,T,C] (or any shape with LAYOUT_SAME) and compares. */
enum status verify_tensor(struct verify *v, const char *name, const struct tensor *t,
                          enum layout layout, enum tolerance tol, struct error *err);
/* Lists tensor `name` as not computed, if the file has it. */
enum status verify_skip(struct verify *v, const char *name, const char *why, struct error *err);
enum status verify_skip_prefix(struct verify *v, const char *prefix, const char *why,
                               struct error *err);
/* A failure that is no difference: something unknown or impossible. */
enum status verify_fail(struct verify *v, const char *name, const char *why, struct error *err);

/* --- setup.c --- */
/* Fills v->config from the file's metadata. *known is false, and a failure is reported, if this
 * program has no such model. */
enum status verify_setup_config(struct verify *v, bool *known, struct error *err);
/* Builds v->model for B streams with weights "PREFIX:name". */
enum status verify_setup_model(struct verify *v, int64_t batch, const char *prefix, bool train,
                               struct error *err);
/* Compares all weight gradients with "PREFIXname", as far as the file has them. */
enum status verify_compare_gradients(struct verify *v, const char *prefix, enum tolerance tol,
                                     struct error *err);
/* A tensor of the dump into a new one of `be` as [B,T,C]; freed with op_release. */
enum status verify_load_tensor(struct verify *v, const char *name, enum layout layout,
                               struct tensor *out, struct error *err);
/* A tensor of the dump into an existing one with as many numbers, in the order they lie. */
enum status verify_fill_tensor(struct verify *v, const char *name, const struct tensor *to,
                               struct error *err);
/* Tokens of stream [time, B], positions [start, start + length], as ids [B][length]. STATUS_DATA if
 * they are outside the vocabulary or the stream. */
enum status verify_take_tokens(struct verify *v, int64_t start, int64_t length, int32_t *out,
                               struct error *err);

/* --- kind_f.c: v^T J as computed, and the Jacobian's penalty of this one sample */
enum status verify_jacobian_product(struct verify *v, const struct tensor *vj, struct error *err);

/* --- trellis.c: what is particular to that cell --- */
enum status verify_trellis_f(struct verify *v, struct error *err);
/* Completes the configuration by the cutoffs of the split softmax, where the dump has one but does
 * not name them. */
enum status verify_trellis_cutoffs(struct verify *v, struct error *err);
/* The injection us of the segment at work, and the state that the next one will start from. */
enum status verify_trellis_injection(struct verify *v, const char *name, int64_t batch,
                                     int64_t length, struct error *err);
enum status verify_trellis_memory(struct verify *v, const char *name, struct error *err);
/* The mean loss with the configured softmax, and with a plain one over the same output, under their
 * names in the dump; target [B][L]. */
enum status verify_trellis_losses(struct verify *v, const char *softmax, const char *split,
                                  const int32_t *target, double mean, struct error *err);

/* --- kinds --- */
enum status verify_kind_f(struct verify *v, struct error *err);
enum status verify_kind_deq(struct verify *v, struct error *err);
enum status verify_kind_eval(struct verify *v, struct error *err);
enum status verify_kind_unrolled(struct verify *v, struct error *err);
enum status verify_kind_dropout(struct verify *v, struct error *err);
enum status verify_kind_jacreg(struct verify *v, struct error *err);
enum status verify_kind_train(struct verify *v, struct error *err);
enum status verify_kind_solver(struct verify *v, struct error *err);
enum status verify_kind_solver_map(struct verify *v, struct error *err);

#endif
