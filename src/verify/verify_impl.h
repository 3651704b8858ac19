/* What the kinds of dumps share.
 *
 * All functions that take a struct verify fail with STATUS_NOMEM and STATUS_DEVICE. Other statuses
 * are named at each. */
#ifndef DEQ_VERIFY_VERIFY_IMPL_H
#define DEQ_VERIFY_VERIFY_IMPL_H

#include "deq/model.h"
#include "verify/verify.h"

/* Tolerances on the largest difference over the largest value of a tensor. The rounding of float32
 * is u = 2^-24, and a sum over some hundred products errs by about sqrt(n) u at each of the ten
 * stages of f. */
enum tolerance {
    TOL_EXACT,    /* tables and copies, a few u */
    TOL_FORWARD,  /* one evaluation of f, about 50 u */
    TOL_GRADIENT, /* its vjp and weight gradients, with twice as many stages and longer sums */
    TOL_SECOND,   /* derivatives of that vjp, which are sums of products of such numbers */
    TOL_SOLVED,   /* an equilibrium, which amplifies the rounding of f by 1 / (1 - |J|) */
    TOL_ADJOINT,  /* gradients through an equilibrium */
    TOL_TRAINED,  /* weights after some Adam steps, relative to the distance they went. An update
                     divides by |g|, so that errors of the smallest gradients count fully */
    TOL_COURSE,   /* losses and gradient norms of these steps, which build on earlier differences.
                     The dump's own solves end near 1e-8 */
    TOL_TRACE,    /* residuals of a solver, relative to the largest. Quasi-Newton steps repeat the
                     rounding errors of earlier ones */
    TOL_RADIUS,   /* a power method from another start */
    TOL_COUNT
};

/* How a dump lays out what is [B,T,C] here. */
enum layout { LAYOUT_SAME, LAYOUT_BCT, LAYOUT_TBC };

struct verify {
    struct backend *be;           /* borrows */
    const struct st_file *file;   /* borrows */
    const char *path;             /* borrows */
    struct verify_report *report; /* borrows */
    double tol;                   /* 0 takes the table's tolerances */
    bool *seen;                   /* owns [tensors of the file] */
    struct config config;
    struct model *model; /* owns */
};

/* --- verify.c, the report --- */

/* The tensor of that name, which counts as seen from now on. NULL if the file has none. */
const struct st_tensor *verify_find(struct verify *v, const char *name);
/* The same, with STATUS_DATA if the file has none. */
enum status verify_need(struct verify *v, const char *name, const struct st_tensor **out,
                        struct error *err);

/* Our numbers for a tensor of the dump, in the dump's order. */
struct verify_values {
    const double *x; /* borrows [count] */
    int64_t count;
    double scale; /* differences are relative to it, or with 0 to the tensor's largest value */
};
/* Compares with the tensor `name`, if the file has it. */
enum status verify_compare(struct verify *v, const char *name, const struct verify_values *ours,
                           enum tolerance tol, struct error *err);
enum status verify_number(struct verify *v, const char *name, double ours, enum tolerance tol,
                          struct error *err);
/* Downloads t [B,T,C], or with LAYOUT_SAME of any shape, and compares. */
enum status verify_tensor(struct verify *v, const char *name, const struct tensor *t,
                          enum layout layout, enum tolerance tol, struct error *err);
/* Lists the tensor `name`, if the file has it, as not computed. */
enum status verify_skip(struct verify *v, const char *name, const char *why, struct error *err);
/* Lists all tensors as not computed that begin with `prefix` and were not seen. */
enum status verify_skip_prefix(struct verify *v, const char *prefix, const char *why,
                               struct error *err);
/* Reports a failure other than a difference, such as something unknown. */
enum status verify_fail(struct verify *v, const char *name, const char *why, struct error *err);

/* --- setup.c --- */

/* Fills v->config from the file's metadata. If this program has no such model, reports a failure
 * and sets *known to false. STATUS_DATA for metadata that is missing, no JSON or contradicts
 * itself. */
enum status verify_setup_config(struct verify *v, bool *known, struct error *err);
/* Builds v->model for B streams with the weights "PREFIX:name". STATUS_DATA if one is missing or of
 * another size, STATUS_CONFIG if the solver refuses its settings. */
enum status verify_setup_model(struct verify *v, int64_t batch, const char *prefix, bool train,
                               struct error *err);
/* Compares those weight gradients that the file has, under "PREFIXname". */
enum status verify_compare_gradients(struct verify *v, const char *prefix, enum tolerance tol,
                                     struct error *err);
/* Copies a tensor of the dump into a new one of `be` as [B,T,C], freed with op_release. STATUS_DATA
 * if it is missing or has not 3 dimensions. */
enum status verify_load_tensor(struct verify *v, const char *name, enum layout layout,
                               struct tensor *out, struct error *err);
/* Copies a tensor of the dump into an existing one, number by number. STATUS_DATA if it is missing
 * or has another count. */
enum status verify_fill_tensor(struct verify *v, const char *name, const struct tensor *to,
                               struct error *err);
/* Copies positions [start, start + length) of the dump's stream [time, B] into out[B][length].
 * STATUS_DATA if they lie outside the stream, or a token outside the vocabulary. */
enum status verify_take_tokens(struct verify *v, int64_t start, int64_t length, int32_t *out,
                               struct error *err);

/* --- kind_f.c --- */

/* Compares v^T J [B,T,W], and the Jacobian's penalty of this one sample. */
enum status verify_jacobian_product(struct verify *v, const struct tensor *vj, struct error *err);

/* --- trellis.c --- */

/* Kind "f" for a trellis. STATUS_DATA for tensors that do not fit each other. */
enum status verify_trellis_f(struct verify *v, struct error *err);
/* Completes the configuration by the cutoffs of the split softmax, if the dump has one but does not
 * name them. STATUS_DATA for tensors that do not fit. */
enum status verify_trellis_cutoffs(struct verify *v, struct error *err);
/* Compares the injection us of the current segment. */
enum status verify_trellis_injection(struct verify *v, const char *name, int64_t batch,
                                     int64_t length, struct error *err);
/* Compares the state that the next segment will start from. */
enum status verify_trellis_memory(struct verify *v, const char *name, struct error *err);
/* Compares the mean loss with the configured softmax, and with a plain one over the same output.
 * `softmax` and `split` are their names in the dump, target is [B][L]. STATUS_DATA if the output
 * layer of the dump does not fit. */
enum status verify_trellis_losses(struct verify *v, const char *softmax, const char *split,
                                  const int32_t *target, double mean, struct error *err);

/* --- the kinds, with STATUS_DATA for a dump that lacks a tensor or has one of a wrong shape, and
 * STATUS_CONFIG as verify_setup_model --- */

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
