/* The plan of a training tells before any run what a step computes and moves, how long a chip needs
 * for it, and how much memory it takes.
 *
 * It is found by running the trainer's own step on the backend that counts, so that every cell,
 * solver and option is planned as it will be executed.
 *
 * Tokens are drawn as deq bench draws them, with frequencies falling like 1/rank. They decide the
 * sizes of the clusters of an adaptive softmax. A solve that stops by a tolerance is assumed to
 * need all its iterations. */
#ifndef DEQ_BENCH_PLAN_H
#define DEQ_BENCH_PLAN_H

#include "bench/bench.h"
#include "bench/chip.h"
#include "bench/exchange.h"

struct plan_memory {
    size_t part[PART_COUNT]; /* bytes, of the training */
    size_t scratch;          /* bytes of the backend's own, for one operation at a time */
    size_t evaluation;       /* bytes of the validation's model beside it, 0 without one */
    size_t total;
};

struct plan {
    struct bench_step_result counts; /* of one step; seconds as assumed for the chip, or measured */
    double unrolled_seconds;         /* of a step in pre-training, likewise, 0 if there is none */
    bool measured;
    struct op_stat bound[OP_COUNT]; /* the same, seconds at the peaks */
    /* Of the step. With several ranks the first includes what is shown of their exchange. */
    double seconds, bound_seconds;
    double phase_seconds[BENCH_COUNT], phase_bound[BENCH_COUNT];
    struct plan_memory memory;
    struct exchange exchange; /* of several ranks, else zeros */
};

/* Counts one equilibrium step of a resolved configuration on the chip. Of several (chip->ranks) it
 * is the step of the first one, on its share of the batch, and only counts.tokens are those of all.
 * STATUS_NOMEM, STATUS_CONFIG. */
enum status plan_make(struct plan *plan, const struct config *config, const struct chip *chip,
                      struct error *err);

/* Runs some steps of the configuration on `be`, for about a second, and takes their times in place
 * of those assumed. Fails as bench_run. */
enum status plan_measure(struct plan *plan, const struct config *config, struct backend *be,
                         struct error *err);

/* Seconds of the steps behind number `done`, without evaluations and checkpoints. */
double plan_total(const struct plan *plan, const struct config *config, int64_t done);

/* Counts the memory alone. Fails as plan_make. */
enum status plan_memory(struct plan_memory *memory, const struct config *config,
                        const struct chip *chip, struct error *err);

/* Sees an allocation of the training and what lies in it; `owner` says whose it is. */
typedef void plan_visitor(void *ctx, const char *owner, const struct workspace *ws);

/* Shows every allocation: of parameters, model, optimizer, and the validation's model beside them.
 * STATUS_NOMEM, or what a configuration that cannot be built gives. */
enum status plan_visit(const struct config *config, const struct chip *chip, plan_visitor *visit,
                       void *ctx, struct error *err);

/* The smallest train.accumulate, at least the configuration's own, with which `bytes` suffice, and
 * what is then needed; 0 if none does. */
enum status plan_fit(const struct config *config, const struct chip *chip, double bytes,
                     int64_t *accumulate, size_t *needed, struct error *err);

/* FLOPs of the matrix products among stat[OP_COUNT]. */
double plan_products(const struct op_stat *stat);

/* Products' FLOP/s of a phase (BENCH_COUNT: of the step) as a share of the chip's peak at the
 * configuration's format. `bound`: by the peaks, without what is assumed to be lost. */
double plan_share(const struct plan *plan, const struct config *config, const struct chip *chip,
                  int phase, bool bound);

#endif
