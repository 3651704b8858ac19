/* The conformance suite of the backends: the table of cases and how they are run. A backend is
 * tested by a program of a few lines: see test_ops_cpu.c. */
#ifndef DEQ_TESTS_BACKEND_SUITE_RUN_H
#define DEQ_TESTS_BACKEND_SUITE_RUN_H

/* cmocka wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "backend/cases_activation.h"
#include "backend/cases_attention.h"
#include "backend/cases_ffn_up.h"
#include "backend/cases_gemm.h"
#include "backend/cases_heads.h"
#include "backend/cases_lstm_cell.h"
#include "backend/cases_rows.h"
#include "backend/cases_solve.h"
#include "backend/cases_tangent.h"
#include "backend/cases_vector.h"
#include "backend/cases_weights.h"
#include "backend/ref/ref.h"

/* X(name): case_<name>. */
#define SUITE_CASES(X)    \
    X(memory)             \
    X(fill_copy)          \
    X(gemm)               \
    X(gemm_rounded)       \
    X(gemm_block)         \
    X(gemm_add)           \
    X(axpby)              \
    X(mul_bcast)          \
    X(col_sum)            \
    X(col_dot)            \
    X(residual_norm)      \
    X(residual_norm_vjp)  \
    X(ffn_up)             \
    X(ffn_up_rounded)     \
    X(ffn_up_masks)       \
    X(narrow)             \
    X(attention)          \
    X(attention_vjp)      \
    X(attention_causal)   \
    X(attention_nan)      \
    X(attention_rows)     \
    X(attention_bf16)     \
    X(attention_vjp_bf16) \
    X(norm_vjp_tangent)   \
    X(attention_tangent)  \
    X(heads)              \
    X(heads_vjp)          \
    X(heads_tangent)      \
    X(activate)           \
    X(activate_rounded)   \
    X(sigmoid)            \
    X(copy_block)         \
    X(lstm_cell)          \
    X(lstm_cell_vjp)      \
    X(gather_scatter)     \
    X(scatter_rows)       \
    X(softmax_xent)       \
    X(log_softmax)        \
    X(random)             \
    X(weight_norm)        \
    X(solve_residual)     \
    X(row_dots)           \
    X(scope_sum)          \
    X(convergence_check)  \
    X(anderson_weights)   \
    X(broyden_weights)    \
    X(row_combine)        \
    X(sum_squares)        \
    X(adam)               \
    X(momentum)           \
    X(unit_norm)          \
    X(descend)

typedef void case_fn(struct suite *s);
typedef enum status open_fn(struct backend *be, struct error *err);

enum { SUITE_SEED = 20260727 };

/* Runs a case aligned, again aligned (for the same bits), and off the alignment. eps 0: that of the
 * backend's real type. The caller reads s->failures and s->first. */
static inline void suite_run(struct suite *s, struct backend *test, struct backend *ref, double eps,
                             case_fn *run)
{
    *s = (struct suite){.be = {test, ref}, .key = {SUITE_SEED, 1}};
    s->eps = eps > 0 ? eps : test->ops->real == DTYPE_F32 ? FLT_EPSILON : DBL_EPSILON;
    uint64_t digest[2];
    for (int round = 0; round < 3; round++) {
        s->shift = round == 2;
        s->drawn = 0;
        s->digest = 14695981039346656037u;
        run(s);
        assert(s->items == 0);
        if (round < 2)
            digest[round] = s->digest;
    }
    if (digest[0] != digest[1])
        suite_fail(s, "two runs with the same inputs gave different bits");
    if (s->compared == 0)
        suite_fail(s, "nothing was compared");
}

/* A job of one cmocka test. */
struct suite_job {
    open_fn *open;
    case_fn *run;
};

static inline void suite_test(void **state)
{
    const struct suite_job *job = *state;
    struct error err;
    struct backend test, ref;
    struct suite s;
    if (job->open(&test, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    if (ref_open(&ref, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    suite_run(&s, &test, &ref, 0, job->run);
    backend_close(&test);
    backend_close(&ref);
    print_message("# %lld numbers, largest error %.2g of its tolerance\n", (long long)s.compared,
                  s.worst);
    if (s.failures > 0)
        fail_msg("%lld of %lld comparisons failed (seed %d); first: %s", (long long)s.failures,
                 (long long)s.compared, SUITE_SEED, s.first);
}

/* Runs every case on the backend that `open` opens, each by `test`; the group is called `name`. */
static inline int suite_main_by(CMUnitTestFunction test, const char *name, open_fn *open)
{
    struct suite_job jobs[] = {
#define X(c) {open, case_##c},
        SUITE_CASES(X)
#undef X
    };
    struct CMUnitTest tests[] = {
#define X(c) {"ops_" #c, test, NULL, NULL, NULL},
        SUITE_CASES(X)
#undef X
    };
    for (size_t k = 0; k < sizeof jobs / sizeof *jobs; k++)
        tests[k].initial_state = &jobs[k];
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

static inline int suite_main(const char *name, open_fn *open)
{
    return suite_main_by(suite_test, name, open);
}

#endif
