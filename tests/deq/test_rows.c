/* Solving with positions left out once they have stopped, in whole models: the same states as when
 * all are evaluated each time, and nothing of the future in them. */
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "deq/model.h"
#include "deq/settings.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 3, LENGTH = 40, MEMORY = 24, VOCAB = 23, ROWS = BATCH * LENGTH, WIDTH = 16 };

struct fixture {
    struct backend be;
    struct model *model;
    struct masks masks;
    int32_t input[ROWS];
};

typedef enum status open_fn(struct backend *be, struct error *err);

static enum status open_cpu(struct backend *be, struct error *err)
{
    return cpu_open(be, 2, err);
}

static struct config tiny(const char *const *settings)
{
    static const char *const common[] = {
        "model.d_model=16",
        "model.n_head=2",
        "model.d_inner=32",
        "model.init_std=0.25",
        "model.wnorm=false",
        "model.dropout=0.1",
        "solver.forward.stop=rel",
        "solver.forward.tol=1e-2",
        "solver.forward.max_iter=60",
        "train.pretrain_steps=0",
        NULL,
    };
    return config_of(VOCAB, common, settings);
}

/* With a segment before, so that there is memory. */
static void set_up(struct fixture *f, open_fn *open, const char *const *settings, bool train)
{
    struct error err;
    struct config c = tiny(settings);
    struct model_plan plan = {
        .batch = BATCH, .length = LENGTH, .mem_len = MEMORY, .train = train, .replay = train};
    memset(f, 0, sizeof *f);
    assert_ok(open(&f->be, &err), &err);
    f->be.poison = true;
    assert_ok(model_create(&f->model, &f->be, &c, NULL, &plan, &err), &err);
    assert_ok(params_initialize(f->model->params, 7, &err), &err);
    f->masks = (struct masks){.source = train ? MASKS_DRAWN : MASKS_NONE, .seed = 5};
    for (int i = 0; i < ROWS; i++)
        f->input[i] = (int32_t)((i * i + 3) % VOCAB);
    model_refresh(f->model);
    model_begin(f->model, f->input, LENGTH, &f->masks);
    assert_ok(model_solve(f->model, 0, train, &err), &err);
    model_remember(f->model);
    for (int i = 0; i < ROWS; i++)
        f->input[i] = (int32_t)((i * 7 + i / 5) % VOCAB);
}

static void tear_down(struct fixture *f)
{
    model_free(f->model);
    assert_int_equal(f->be.bytes, 0);
    backend_close(&f->be);
}

/* States and output of the segment. */
static struct solve_report solve(struct fixture *f, bool train, double *z, double *h)
{
    struct error err;
    struct solve_report r;
    model_begin(f->model, f->input, LENGTH, &f->masks);
    assert_ok(model_solve(f->model, 0, train, &err), &err);
    struct tensor state = equilibrium_state(f->model->eq);
    struct tensor output = equilibrium_output(f->model->eq);
    op_download(&f->be, z, DTYPE_F64, &state);
    op_download(&f->be, h, DTYPE_F64, &output);
    assert_ok(model_report(f->model, &r, NULL, &err), &err);
    return r;
}

enum { SETTINGS = 6 };

static const char *const variants[][SETTINGS] = {
    {NULL},
    {"model.dropatt=0.2", "model.local_size=30", NULL},
    {"model.pre_lnorm=true", "model.norm=rms", NULL},
    {"solver.forward.scope=token", "solver.forward.history=3", "model.start=linear", NULL},
    {"solver.forward.method=picard", "solver.forward.damping=0.5", NULL},
    {"model.cell=modern", "model.norm=rms", "model.norm_place=post", NULL},
    {"model.cell=modern", "model.norm=rms", "model.n_kv_head=1", "solver.forward.tol=1e-4", NULL},
    {"model.cell=modern", "model.inject=decay", "model.outer_norm=true", "model.ffn=relu2",
     "solver.forward.tol=1e-4", NULL},
    {"model.cell=modern", "model.inject=linear", "model.norm_place=sandwich",
     "solver.forward.tol=1e-4", NULL},
};

/* Skips the test on a processor whose products do not promise it. */
static void want_rows_alone(open_fn *open)
{
    struct backend be;
    struct error err;
    assert_ok(open(&be, &err), &err);
    bool alone = be.batch_invariant;
    backend_close(&be);
    if (!alone)
        skip();
}

static void same_states(open_fn *open)
{
    want_rows_alone(open);
    static double z[2][ROWS * WIDTH], h[2][ROWS * WIDTH];
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++)
        for (int train = 0; train < 2; train++) {
            struct fixture f;
            set_up(&f, open, variants[v], train);
            struct solve_report some = solve(&f, train, z[0], h[0]);
            equilibrium_select_rows(f.model->eq, false);
            struct solve_report all = solve(&f, train, z[1], h[1]);
            assert_true(all.paid_mean == (double)all.evals);
            assert_true(some.paid_mean < 0.95 * all.paid_mean && some.evals == all.evals);
            assert_true(some.evals_mean == all.evals_mean && some.rel_max == all.rel_max);
            for (int i = 0; i < ROWS * WIDTH; i++) {
                assert_true(z[0][i] == z[1][i] && h[0][i] == h[1][i]);
                assert_true(isfinite(z[0][i]) && isfinite(h[0][i]));
            }
            tear_down(&f);
        }
}

static void same_states_on_ref(void **state)
{
    (void)state;
    same_states(ref_open);
}

static void same_states_on_cpu(void **state)
{
    (void)state;
    same_states(open_cpu);
}

/* The solves of a segment and of one with other tokens from CUT on: not one bit differs before. */
static void want_no_leak(struct fixture *f, struct solve_report *one, struct solve_report *other)
{
    enum { CUT = 30 };
    static double z[2][ROWS * WIDTH], h[2][ROWS * WIDTH];
    *one = solve(f, false, z[0], h[0]);
    for (int i = 0; i < ROWS; i++)
        f->input[i] = i % LENGTH < CUT ? f->input[i] : (f->input[i] + 1 + i % 3) % VOCAB;
    *other = solve(f, false, z[1], h[1]);
    for (int i = 0; i < ROWS * WIDTH; i++)
        if (i / WIDTH % LENGTH < CUT)
            assert_true(z[0][i] == z[1][i] && h[0][i] == h[1][i]);
}

static void no_leak(void **state)
{
    struct solve_report one, other;
    (void)state;
    want_rows_alone(open_cpu);
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        struct fixture f;
        set_up(&f, open_cpu, variants[v], false);
        want_no_leak(&f, &one, &other);
        assert_true(one.paid_mean < 0.95 * (double)one.evals);
        assert_true(one.evals_mean != other.evals_mean);
        tear_down(&f);
    }
}

/* A table of one word, which another number of tokens are where tokens change. */
static void no_leak_through_tables(void **state)
{
    static const char *const tables[] = {"model.cutoffs=[8,22]", "model.div_val=2",
                                         "model.d_embed=64", "solver.forward.stop=fixed", NULL};
    struct solve_report one, other;
    struct fixture f;
    (void)state;
    want_rows_alone(open_cpu);
    set_up(&f, open_cpu, tables, false);
    want_no_leak(&f, &one, &other);
    tear_down(&f);
}

/* By rounding at most, where it is asked for on any device; never where it is forbidden. */
static void as_configured(void **state)
{
    static double z[ROWS * WIDTH], h[ROWS * WIDTH];
    /* with wider weights a position wanders, for as long as rounding has it */
    static const char *const rows[][SETTINGS] = {
        {"solver.forward.rows=active", "model.init_std=0.2", NULL},
        {"solver.forward.rows=all", "model.init_std=0.2", NULL}};
    double paid[2], needed[2];
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct fixture f;
        set_up(&f, open_cpu, rows[k], false);
        struct solve_report r = solve(&f, false, z, h);
        paid[k] = r.paid_mean;
        needed[k] = r.evals_mean;
        assert_true(k == 0 ? paid[k] < 0.95 * (double)r.evals : paid[k] == (double)r.evals);
        tear_down(&f);
    }
    assert_true(fabs(needed[0] - needed[1]) <= 0.05);
}

/* Where a position's keys move while it stands still, and in a trellis, all are evaluated. */
static void whole_where_it_must(void **state)
{
    static double z[ROWS * 2 * WIDTH], h[ROWS * 2 * WIDTH];
    static const char *const kinds[][SETTINGS] = {
        {"model.blocks=2", NULL},
        {"model.cell=trellis", "model.nhid=6", "model.nout=10", "model.d_embed=10", NULL}};
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct fixture f;
        set_up(&f, ref_open, kinds[k], false);
        assert_true(f.model->cell->width <= 2 * WIDTH);
        struct solve_report r = solve(&f, false, z, h);
        assert_true(r.evals_mean < (double)r.evals && r.paid_mean == (double)r.evals);
        tear_down(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_states_on_ref),
        cmocka_unit_test(same_states_on_cpu),
        cmocka_unit_test(no_leak),
        cmocka_unit_test(no_leak_through_tables),
        cmocka_unit_test(as_configured),
        cmocka_unit_test(whole_where_it_must),
    };
    return cmocka_run_group_tests_name("positions that have stopped", tests, NULL, NULL);
}
