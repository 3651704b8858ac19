/* What the modern cell promises beyond right derivatives: one evaluation from zero is the explicit
 * network of the same blocks, gates begin where the configuration says, and grouped heads remember
 * less. */
#include "cell/modern/modern_cell.h"
#include "deq/tiny_model.h"

#define MODERN "model.cell=modern", "model.norm=rms"

/* Copies parameters of the same names and sizes. */
static void copy_parameters(struct fixture *to, const struct fixture *from)
{
    const struct params *a = from->model->params, *b = to->model->params;
    assert_int_equal(a->count, b->count);
    for (int i = 0; i < b->count; i++) {
        int at = params_find(a, b->list[i].name);
        assert_true(at >= 0);
        struct tensor source = params_weight(a, at).w, dest = params_weight(b, i).w;
        op_copy(&to->be, &dest, &source);
    }
}

/* The losses of a segment without memory, with so many applications of f. */
static void losses(struct fixture *f, int64_t layers, double nll[BATCH * LENGTH])
{
    struct error err;
    model_refresh(f->model);
    model_reset_memory(f->model);
    model_begin(f->model, f->input, LENGTH, &f->masks);
    assert_ok(model_solve(f->model, layers, true, &err), &err);
    model_loss(f->model, f->target, 1, false);
    (void)model_read_loss(f->model, nll);
}

static void one_evaluation_is_the_explicit_network(void **state)
{
    (void)state;
    static const char *const places[] = {"model.norm_place=pre", "model.norm_place=post",
                                         "model.norm_place=sandwich"};
    double once[BATCH * LENGTH], twice[BATCH * LENGTH], explicit[BATCH * LENGTH];
    for (int p = 0; p < 3; p++) {
        struct config deq = tiny_config(SET(MODERN, places[p], "model.blocks=3"));
        struct config net =
            tiny_config(SET(MODERN, places[p], "model.layers=3", "model.tie_layers=false"));
        struct fixture a, b;
        deq.train.pretrain_steps = 1;
        set_up(&a, &deq, false);
        set_up(&b, &net, false);
        copy_parameters(&b, &a);
        losses(&a, 1, once);
        losses(&a, 2, twice);
        losses(&b, 0, explicit);
        double moved = 0;
        for (int i = 0; i < BATCH * LENGTH; i++) {
            assert_true(fabs(once[i] - explicit[i]) <= 1e-13 * fabs(explicit[i]));
            moved = fmax(moved, fabs(twice[i] - once[i]));
        }
        assert_true(moved > 1e-3);
        tear_down(&b);
        tear_down(&a);
    }
}

static void gates_begin_as_configured(void **state)
{
    (void)state;
    static const char *const gates[] = {"model.gate=scalar", "model.gate=channel"};
    for (int k = 0; k < 2; k++) {
        struct config config = tiny_config(SET(MODERN, gates[k], "model.gate_init=0.3"));
        struct fixture f;
        set_up(&f, &config, false);
        const struct modern_cell *c = (const struct modern_cell *)f.model->cell;
        const struct modern_matrix *w = &c->block[0].w[MODERN_OUT];
        int64_t count = tensor_count(&w->factor), cols = w->w.w.dim[1];
        assert_int_equal(count, k == 0 ? 1 : 8);
        for (int64_t i = 0; i < tensor_count(&w->w.w); i++) {
            double factor = ((double *)w->factor.data)[k == 0 ? 0 : i / cols];
            double own = ((double *)w->own.w.data)[i], in_effect = ((double *)w->w.w.data)[i];
            assert_true(fabs(factor - 0.3) < 1e-7 && fabs(in_effect - factor * own) < 1e-15);
        }
        tear_down(&f);
    }
}

static void grouped_heads_remember_less(void **state)
{
    (void)state;
    int64_t width[2];
    for (int k = 0; k < 2; k++) {
        const char *groups = k == 0 ? "model.n_kv_head=4" : "model.n_kv_head=1";
        struct config config = tiny_config(SET(MODERN, "model.n_head=4", groups));
        struct fixture f;
        set_up(&f, &config, false);
        struct memory *m = f.model->cell->ops->memory(f.model->cell, 0);
        assert_int_equal(m->count, MEMORY);
        width[k] = m->width;
        assert_null(f.model->cell->ops->memory(f.model->cell, 1)); /* one K and V a block */
        tear_down(&f);
    }
    assert_int_equal(width[0], 2 * 8);
    assert_int_equal(width[1], 2 * 2);
}

/* Of an optimizer that moves matrices as linear maps. Heads of queries are as many matrices as
 * there are queries to a key. */
static void matrices_are_told(void **state)
{
    (void)state;
    static const char *const forms[] = {"model.inject=v", "model.inject=qkv", "model.inject=linear",
                                        "model.inject=decay"};
    for (int k = 0; k < 4; k++) {
        struct config config = tiny_config(
            SET(MODERN, "model.n_head=4", "model.n_kv_head=2", "model.prelude=1", forms[k]));
        struct fixture f;
        set_up(&f, &config, false);
        const struct params *p = f.model->params;
        for (int i = 0; i < p->count; i++) {
            const struct param *q = &p->list[i];
            bool inside = strstr(q->name, "word_emb") == NULL && strstr(q->name, "crit") == NULL;
            assert_int_equal(q->matrices > 0, inside && q->ndim == 2);
            if (strstr(q->name, "qkv") != NULL)
                assert_true(q->matrices == 3 && q->first_rows == 8);
            if (strstr(q->name, "ff.up") != NULL)
                assert_int_equal(q->matrices, 2);
        }
        tear_down(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_evaluation_is_the_explicit_network),
        cmocka_unit_test(gates_begin_as_configured),
        cmocka_unit_test(grouped_heads_remember_less),
        cmocka_unit_test(matrices_are_told),
    };
    return cmocka_run_group_tests_name("modern cell", tests, NULL, NULL);
}
