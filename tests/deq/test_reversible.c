/* Reversible steps: their gradient is that of plain back-propagation with every state kept, and
 * their memory does not grow with their number. */
#include "deq/tiny_model.h"

enum { STEPS = 6, EVALS = 2 * STEPS };
#define RELAXATION "0.45"

static const double B = 0.45;

/* The same map with all its states kept, each in a slot of its own. */
struct kept {
    struct tensor at[EVALS], f[EVALS]; /* what was evaluated, and f of it */
    struct tensor z, y, dz, dy, p, out;
};

static void each(struct kept *k, void (*act)(struct tensor *t, void *ctx), void *ctx)
{
    struct tensor *const others[] = {&k->z, &k->y, &k->dz, &k->dy, &k->p, &k->out};
    for (int i = 0; i < EVALS; i++) {
        act(&k->at[i], ctx);
        act(&k->f[i], ctx);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        act(others[i], ctx);
}

static void make(struct tensor *t, void *ctx)
{
    struct error err;
    struct model *m = ctx;
    assert_ok(op_alloc(m->be, t, DTYPE_F64, 3, BATCH, LENGTH, m->cell->width, 1, &err), &err);
}

static void drop(struct tensor *t, void *ctx)
{
    struct model *m = ctx;
    op_release(m->be, t);
}

static void forward(struct kept *k, struct model *m)
{
    for (int n = 0; n < EVALS; n++) {
        const struct tensor *from = n % 2 == 0 ? &k->z : &k->y, *to = n % 2 == 0 ? &k->y : &k->z;
        op_copy(m->be, &k->at[n], from);
        m->cell->ops->eval(m->cell, n, &k->at[n], &k->f[n]);
        op_axpby(m->be, to, B, &k->f[n], 1 - B);
    }
}

static void backward(struct kept *k, struct model *m)
{
    for (int n = EVALS - 1; n >= 0; n--) {
        struct tensor *of = n % 2 == 0 ? &k->dy : &k->dz, *at = n % 2 == 0 ? &k->dz : &k->dy;
        op_axpby(m->be, &k->p, B, of, 0);
        m->cell->ops->vjp(m->cell, n, &k->at[n], &k->f[n], &k->p, &k->out, true);
        op_axpby(m->be, at, 1, &k->out, 1);
        op_axpby(m->be, of, 1 - B, of, 0);
    }
}

/* Gradients of the segment that the fixture describes, through the states that are kept. */
static void keep_all(struct fixture *f)
{
    struct kept k;
    struct model *m = f->model;
    struct error err;
    each(&k, make, m);
    model_refresh(m);
    model_begin(m, f->input, LENGTH, &f->masks);
    workspace_enter(m->ws, PHASE_FORWARD);
    forward(&k, m);
    workspace_enter(m->ws, PHASE_OUTPUT);
    model_output_loss(m, &k.z, f->target, 1.0 / (BATCH * LENGTH), true);
    struct tensor dh = model_state_gradient(m),
                  de = tensor_prefix(&m->de, 3, BATCH, LENGTH, m->de.dim[2], 1);
    op_copy(m->be, &k.dz, &dh);
    workspace_enter(m->ws, PHASE_BACKWARD);
    workspace_enter(m->ws, PHASE_GRADIENTS);
    backward(&k, m);
    m->cell->ops->end_backward(m->cell, &de);
    model_finish_gradients(m);
    assert_ok(backend_check(m->be, &err), &err);
    each(&k, drop, m);
}

static void reverse(struct fixture *f)
{
    struct error err;
    model_refresh(f->model);
    model_begin(f->model, f->input, LENGTH, &f->masks);
    assert_ok(model_solve(f->model, 0, true, &err), &err);
    model_loss(f->model, f->target, 1.0 / (BATCH * LENGTH), true);
    assert_ok(model_backward(f->model, &err), &err);
    model_finish_gradients(f->model);
}

/* Gradients of f and of the injection. The first segment of both models differs, so memory is
 * empty here. Undoing 6 steps enlarges roundings by 0.55^-12, or 1300. */
static void gradient_is_that_of_all_states(void **state)
{
    (void)state;
    const char *const cells[] = {"model.cell=transformer", "model.cell=trellis"};
    for (int c = 0; c < 2; c++) {
        struct config one = tiny_config(SET(cells[c], "model.d_embed=8", "model.nhid=3",
                                            "model.nout=4", "gradient.method=reversible",
                                            "gradient.steps=6", "gradient.damping=" RELAXATION));
        struct config other =
            tiny_config(SET(cells[c], "model.d_embed=8", "model.nhid=3", "model.nout=4",
                            "gradient.method=unroll", "gradient.steps=12"));
        struct fixture a, b;
        set_up(&a, &one, false);
        set_up(&b, &other, false);
        model_reset_memory(a.model);
        model_reset_memory(b.model);
        reverse(&a);
        keep_all(&b);
        const struct params *p = a.model->params;
        for (int i = 0; i < p->count; i++) {
            double got[4096], want[4096], largest = 0;
            struct tensor da = params_weight(p, i).dw, db = params_weight(b.model->params, i).dw;
            if (strcmp(p->list[i].part, "f") != 0 && strcmp(p->list[i].part, "injection") != 0)
                continue;
            op_download(&a.be, got, DTYPE_F64, &da);
            op_download(&b.be, want, DTYPE_F64, &db);
            for (int64_t n = 0; n < param_count(&p->list[i]); n++)
                largest = fmax(largest, fabs(want[n]));
            for (int64_t n = 0; n < param_count(&p->list[i]); n++)
                if (!(fabs(got[n] - want[n]) <= 1e-11 * fmax(largest, 1e-3)))
                    fail_msg("%s[%d]: %.17g reversed, %.17g kept", p->list[i].name, (int)n, got[n],
                             want[n]);
        }
        tear_down(&a);
        tear_down(&b);
    }
}

static size_t bytes_of_steps(const char *method, const char *steps)
{
    struct fixture f;
    char set[32];
    snprintf(set, sizeof set, "gradient.steps=%s", steps);
    struct config c = tiny_config(SET(method, set, "gradient.damping=0.1"));
    set_up(&f, &c, false);
    size_t bytes = workspace_bytes(f.model->ws);
    tear_down(&f);
    return bytes;
}

static void memory_is_that_of_one_step(void **state)
{
    (void)state;
    size_t one = bytes_of_steps("gradient.method=reversible", "1");
    assert_int_equal(bytes_of_steps("gradient.method=reversible", "40"), one);
    assert_true(bytes_of_steps("gradient.method=unroll", "40") > 4 * one);
    assert_true(one < bytes_of_steps("gradient.method=unroll", "8"));
}

static void refuses_what_it_could_not_undo(void **state)
{
    struct error err;
    struct config c;
    (void)state;
    config_defaults(&c);
    assert_ok(config_set(&c, "gradient.method=reversible", &err), &err);
    assert_ok(config_set(&c, "gradient.damping=0.5", &err), &err);
    assert_ok(config_set(&c, "gradient.steps=13", &err), &err); /* 2^13 */
    assert_ok(config_resolve(&c, 100, &err), &err);
    assert_ok(config_set(&c, "gradient.steps=14", &err), &err);
    assert_int_equal(config_resolve(&c, 100, &err), STATUS_CONFIG);
    assert_non_null(strstr(err.text, "gradient.damping: undoing 14 reversible steps"));
    assert_ok(config_set(&c, "gradient.damping=1", &err), &err);
    assert_int_equal(config_resolve(&c, 100, &err), STATUS_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient_is_that_of_all_states),
        cmocka_unit_test(memory_is_that_of_one_step),
        cmocka_unit_test(refuses_what_it_could_not_undo),
    };
    return cmocka_run_group_tests_name("reversible steps", tests, NULL, NULL);
}
