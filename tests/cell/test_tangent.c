/* Second derivatives of a cell, in the float64 reference backend. At a random z, with constant v
 * and w:  jvp against the central difference of f, <v, J w> = <J^T v, w>, and the gradient of
 * phi = v . (J w) by every parameter and by z against central differences of phi.
 *
 * Tolerance 1e-6 relative to the largest value of the group: at h = 1e-4 truncation and rounding
 * of the difference quotients are near 1e-8. */
#include "deq/tiny_model.h"

static const double STEP = 1e-4, TOLERANCE = 1e-6;

enum { SAMPLES = 6, NUMBERS = BATCH * LENGTH * 8 };

struct second {
    struct fixture f;
    struct tensor z, f_z, w, jw, v, dz; /* owns: [B,L,D] */
};

static struct tensor random_state(struct second *s, uint64_t stream)
{
    struct error err;
    struct tensor t;
    assert_ok(op_alloc(&s->f.be, &t, DTYPE_F64, 3, BATCH, LENGTH, 8, 1, &err), &err);
    op_fill_normal(&s->f.be, &t, 1.0, (struct rng_key){11, stream});
    return t;
}

static double dot(const struct tensor *a, const struct tensor *b)
{
    double sum = 0;
    for (int64_t i = 0; i < tensor_count(a); i++)
        sum += ((double *)a->data)[i] * ((double *)b->data)[i];
    return sum;
}

/* phi at the parameters and z as they stand; the cell is left evaluated. */
static double phi(struct second *s)
{
    struct model *m = s->f.model;
    struct cell *c = m->cell;
    model_refresh(m);
    model_begin(m, s->f.input, LENGTH, &s->f.masks);
    c->ops->eval(c, 0, &s->z, &s->f_z);
    c->ops->jvp(c, 0, &s->z, &s->f_z, &s->w, &s->jw);
    return dot(&s->v, &s->jw);
}

static void check_jvp(struct second *s)
{
    struct cell *c = s->f.model->cell;
    double value = phi(s), up[NUMBERS], down[NUMBERS], jw[NUMBERS], largest = 0, error = 0;
    op_download(&s->f.be, jw, DTYPE_F64, &s->jw);
    c->ops->vjp(c, 0, &s->z, &s->f_z, &s->v, &s->dz, false);
    double back = dot(&s->dz, &s->w);
    if (!(fabs(back - value) <= 1e-10 * (fabs(value) + 1)))
        fail_msg("<v, J w> = %.15g, but <J^T v, w> = %.15g", value, back);
    op_axpby(&s->f.be, &s->z, STEP, &s->w, 1);
    c->ops->eval(c, 0, &s->z, &s->f_z);
    op_download(&s->f.be, up, DTYPE_F64, &s->f_z);
    op_axpby(&s->f.be, &s->z, -2 * STEP, &s->w, 1);
    c->ops->eval(c, 0, &s->z, &s->f_z);
    op_download(&s->f.be, down, DTYPE_F64, &s->f_z);
    op_axpby(&s->f.be, &s->z, STEP, &s->w, 1);
    for (int i = 0; i < NUMBERS; i++) {
        largest = fmax(largest, fabs(jw[i]));
        error = fmax(error, fabs((up[i] - down[i]) / (2 * STEP) - jw[i]));
    }
    if (!(error <= TOLERANCE * largest))
        fail_msg("jvp: error %.3g, largest value %.3g", error, largest);
}

/* Entries spread through x, whose gradient by phi is claimed to be g. */
static void check_entries(struct second *s, const char *name, const struct tensor *x,
                          const double *g, int64_t count)
{
    struct tensor flat = tensor_shape(x, 1, count, 1, 1, 1);
    double largest = 0, error = 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(g[i]));
    for (int k = 0; k < SAMPLES; k++) {
        int64_t at = count < SAMPLES ? k % count : k * (count - 1) / (SAMPLES - 1);
        struct tensor one = tensor_slice(&flat, at, 1);
        double value, moved, side[2];
        op_download(&s->f.be, &value, DTYPE_F64, &one);
        for (int i = 0; i < 2; i++) {
            moved = value + (i == 0 ? -STEP : STEP);
            op_upload(&s->f.be, &one, &moved, DTYPE_F64);
            side[i] = phi(s);
        }
        op_upload(&s->f.be, &one, &value, DTYPE_F64);
        error = fmax(error, fabs((side[1] - side[0]) / (2 * STEP) - g[at]));
    }
    if (!(error <= TOLERANCE * fmax(largest, 1e-2)))
        fail_msg("%s: error %.3g, largest gradient %.3g", name, error, largest);
}

static void check_gradient(struct second *s)
{
    struct model *m = s->f.model;
    struct error err;
    double g[4096];
    struct tensor all, kept;
    (void)phi(s);
    m->cell->ops->vjp_tangent(m->cell, 0, &s->z, &s->f_z, &s->w, &s->v, &s->dz);
    struct tensor de = tensor_prefix(&m->de, 3, BATCH, LENGTH, 8, 1), rows = tensor_matrix(&de);
    m->cell->ops->end_backward(m->cell, &de);
    if (m->mask_in.data != NULL)
        op_mul_bcast(&s->f.be, &de, &de, &m->mask_in);
    embedding_vjp(&m->vocab.embedding, &s->f.be, &m->vocab.input, &rows);
    model_finish_gradients(m);
    all = m->params->g;
    assert_ok(op_alloc(&s->f.be, &kept, DTYPE_F64, all.ndim, all.dim[0], all.dim[1], all.dim[2],
                       all.dim[3], &err),
              &err);
    op_copy(&s->f.be, &kept, &all);
    double dz[NUMBERS];
    op_download(&s->f.be, dz, DTYPE_F64, &s->dz);
    check_entries(s, "z", &s->z, dz, NUMBERS);
    for (int i = 0; i < m->params->count; i++) {
        struct weight w = params_weight(m->params, i);
        int64_t count = param_count(&m->params->list[i]);
        op_copy(&s->f.be, &all, &kept); /* the differences overwrite the gradients */
        assert_true(count <= 4096);
        op_download(&s->f.be, g, DTYPE_F64, &w.dw);
        check_entries(s, m->params->list[i].name, &w.w, g, count);
    }
    op_release(&s->f.be, &kept);
}

static void check_variant(const char *const *settings, bool dropout)
{
    struct config config = tiny_config(settings);
    struct second s = {0};
    set_up(&s.f, &config, dropout);
    struct tensor *const states[] = {&s.z, &s.f_z, &s.w, &s.jw, &s.v, &s.dz};
    for (int i = 0; i < 6; i++)
        *states[i] = random_state(&s, (uint64_t)i);
    check_jvp(&s);
    check_gradient(&s);
    for (int i = 0; i < 6; i++)
        op_release(&s.f.be, states[i]);
    tear_down(&s.f);
}

#define VARIANT(name, dropout, ...)                                                    \
    static void test_##name(void **state)                                              \
    {                                                                                  \
        (void)state;                                                                   \
        const char *const settings[] = {"jacobian.weight=1", "gradient.method=unroll", \
                                        "gradient.steps=2", __VA_ARGS__, NULL};        \
        check_variant(settings, dropout);                                              \
    }

VARIANT(post_norm, false, "model.blocks=1")
VARIANT(pre_norm, false, "model.pre_lnorm=true")
VARIANT(pre_norm_published, false, "model.pre_lnorm=true", "model.compat=true")
VARIANT(rms_norm, false, "model.norm=rms")
VARIANT(rms_pre_norm, false, "model.norm=rms", "model.pre_lnorm=true")
VARIANT(weight_norm, false, "model.wnorm=true", "model.local_size=3")
VARIANT(two_blocks, false, "model.blocks=2", "model.wnorm=true")
VARIANT(three_blocks_pre_norm, false, "model.blocks=3", "model.pre_lnorm=true")
VARIANT(dropout, true, "model.dropout=0.3", "model.dropatt=0.2")
VARIANT(dropout_pre_norm, true, "model.dropout=0.3", "model.pre_lnorm=true", "model.norm=rms")
#define MODERN "model.cell=modern", "model.norm=rms"
VARIANT(modern, false, MODERN)
VARIANT(modern_relu2, false, MODERN, "model.ffn=relu2", "model.n_kv_head=1", "model.rope_base=0")
VARIANT(modern_relu, false, MODERN, "model.ffn=relu", "model.qk_norm=false", "model.gate=scalar")
VARIANT(modern_blocks, true, MODERN, "model.blocks=3", "model.dropout=0.3", "model.wnorm=true")
VARIANT(modern_post, true, MODERN, "model.norm_place=post", "model.dropout=0.2",
        "model.dropatt=0.2")
VARIANT(modern_sandwich, false, MODERN, "model.norm_place=sandwich", "model.blocks=2",
        "model.inject=linear")
VARIANT(modern_outer_norm, false, MODERN, "model.outer_norm=true", "model.blocks=2",
        "model.inject=decay")
VARIANT(modern_qkv, false, MODERN, "model.inject=qkv", "model.prelude=1")
VARIANT(modern_v, false, MODERN, "model.inject=v", "model.norm_place=post", "model.local_size=3")

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_post_norm),
        cmocka_unit_test(test_pre_norm),
        cmocka_unit_test(test_pre_norm_published),
        cmocka_unit_test(test_rms_norm),
        cmocka_unit_test(test_rms_pre_norm),
        cmocka_unit_test(test_weight_norm),
        cmocka_unit_test(test_two_blocks),
        cmocka_unit_test(test_three_blocks_pre_norm),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_dropout_pre_norm),
        cmocka_unit_test(test_modern),
        cmocka_unit_test(test_modern_relu2),
        cmocka_unit_test(test_modern_relu),
        cmocka_unit_test(test_modern_blocks),
        cmocka_unit_test(test_modern_post),
        cmocka_unit_test(test_modern_sandwich),
        cmocka_unit_test(test_modern_outer_norm),
        cmocka_unit_test(test_modern_qkv),
        cmocka_unit_test(test_modern_v),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
