/* Which rows a solve still evaluates. */
#include "solver/solver_impl.h"

/* Rows are left out when the list of the others gets shorter by this factor at least. */
static const double SHORTER_LIST = 0.9;

static int64_t round_up(int64_t n, int64_t step)
{
    return (n + step - 1) / step * step;
}

/* The rows that are still active, and as many of those that have stopped as fill up a step, out of
 * the `listed` rows evaluated so far, whose reasons are known on the host. */
static void list_rows(struct solver *s, int64_t listed, int64_t active)
{
    int64_t spare = round_up(active, SOLVER_ROWS_STEP) - active, count = 0;
    for (int64_t i = 0; i < listed; i++) {
        int32_t row = s->listed > 0 ? s->host_list[i] : (int32_t)i;
        bool ended = s->host_reason[row] != SOLVE_ACTIVE;
        if (ended && spare == 0)
            continue;
        spare -= ended;
        s->host_list[count++] = row;
    }
    for (int64_t i = 0; i < count; i++)
        s->host_list[count + i] = s->host_list[i] / (int32_t)s->t;
    s->listed = count;
    struct tensor list = tensor_prefix(&s->list, 2, 2, count, 1, 1);
    op_upload(s->be, &list, s->host_list, DTYPE_I32);
}

/* A row that has just gone back to its best iterate is to be evaluated there once more. */
int64_t solver_read_active(struct solver *s)
{
    int32_t count = 0;
    if (!s->selects || s->rows <= SOLVER_ROWS_STEP) {
        op_download(s->be, &count, DTYPE_I32, &s->active);
        return count;
    }
    const int32_t *reason = s->host_reason;
    struct tensor from = solver_rows(s, &s->reason);
    int64_t active = 0, failed = 0, listed = s->listed > 0 ? s->listed : s->rows;
    op_download(s->be, s->host_reason, DTYPE_I32, &from);
    for (int64_t n = 0; n < s->rows; n++) {
        active += reason[n] == SOLVE_ACTIVE;
        failed += reason[n] > SOLVE_CONVERGED_REL;
    }
    bool went_back = failed > s->failed;
    s->failed = failed;
    if (active > 0 && !went_back && s->count.calls > 0 &&
        round_up(active, SOLVER_ROWS_STEP) <= SHORTER_LIST * (double)listed)
        list_rows(s, listed, active);
    return active;
}
