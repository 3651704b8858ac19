/* z <- (1 - beta) z + beta f(z) */
#include "solver/solver_impl.h"

static void place(struct solver *s, int64_t k)
{
    (void)k;
    s->f = solver_rows(s, &s->work[0]);
    s->g = solver_rows(s, &s->work[1]);
}

static enum status advance(struct solver *s, int64_t k, struct error *err)
{
    (void)k;
    (void)err;
    struct row_combine step = {.out = s->z,
                               .x = s->z,
                               .y = s->g,
                               .reason = solver_rows(s, &s->reason),
                               .a = 1,
                               .b = s->config.damping};
    op_row_combine(s->be, &step);
    return STATUS_OK;
}

const struct method picard_method = {
    .work_tensors = 2,
    .leaves_ended = true,
    .floor = 1e-9,
    .place = place,
    .advance = advance,
};
