/* Muon against plain loops in double precision, against PyTorch's own, and its properties. */
#include "backend/ref/ref.h"
#include "base/assert_ok.h"
#include "cell/cell.h"
#include "optimizer/optimizer.h"
#include "store/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PARAMS = 6, STEPS = 6, ROOM = 512, SIDE = 16 };

/* A table, a vector, three wide matrices in one, a tall one, a tall and two wide ones in one, and
 * one of the output layer. */
static const struct param_spec specs[PARAMS] = {
    {.name = "stack", .part = "f", .rows = 12, .cols = 7, .matrices = 3},
    {.name = "table", .part = "embedding", .rows = 6, .cols = 5},
    {.name = "gain", .part = "f", .rows = 9},
    {.name = "tall", .part = "f", .rows = 10, .cols = 3, .matrices = 1},
    {.name = "grouped", .part = "f", .rows = 12, .cols = 6, .matrices = 3, .first_rows = 8},
    {.name = "out", .part = "softmax", .rows = 4, .cols = 5},
};

static void declare(struct params *p, struct backend *be, const struct param_spec *spec, int count)
{
    struct error err;
    params_init(p, be);
    for (int i = 0; i < count; i++) {
        struct param_spec s = spec[i];
        s.init = INIT_NORMAL;
        s.scale = 1;
        assert_ok(params_add(p, &s, NULL, &err), &err);
    }
    assert_ok(params_commit(p, true, &err), &err);
    assert_ok(params_initialize(p, 7, &err), &err);
    assert_true(p->total <= ROOM);
}

/* --- the same by plain loops ------------------------------------------------------------------ */

/* x [rows, cols] becomes a x + b (x x^T) x + c (x x^T) ((x x^T) x), five times, number by number.
 * No product is formed in the order of the code. */
static void orthogonal(double *x, int rows, int cols)
{
    double norm = 0, y[2][SIDE * SIDE];
    for (int i = 0; i < rows * cols; i++)
        norm += x[i] * x[i];
    for (int i = 0; i < rows * cols; i++)
        x[i] /= fmax(sqrt(norm), 1e-7);
    for (int step = 0; step < 5; step++) {
        const double *last = x;
        for (int power = 0; power < 2; power++) { /* y = x (x^T last) */
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < cols; j++) {
                    double sum = 0;
                    for (int k = 0; k < cols; k++) {
                        double inner = 0;
                        for (int l = 0; l < rows; l++)
                            inner += x[l * cols + k] * last[l * cols + j];
                        sum += x[i * cols + k] * inner;
                    }
                    y[power][i * cols + j] = sum;
                }
            last = y[power];
        }
        for (int i = 0; i < rows * cols; i++)
            x[i] = 3.4445 * x[i] - 4.7750 * y[0][i] + 2.0315 * y[1][i];
    }
}

struct model_of_step {
    double w[ROOM], g[ROOM], m[ROOM], v[ROOM];
};

static double decay_of(const struct config_train *t, double w, double direction)
{
    return t->cautious_decay && direction * w < 0 ? 0 : t->weight_decay;
}

static void plain_muon(struct model_of_step *s, const struct config_train *t, const struct param *q,
                       double lr, double clip)
{
    int64_t at = q->offset;
    for (int part = 0, n; part < q->matrices; part++, at += n) {
        int grouped = q->first_rows > 0, cols = (int)q->dim[1];
        int rows = !grouped ? (int)(q->dim[0] / q->matrices) : part == 0 ? 8 : 2;
        double scale = t->muon_scale == MUON_SCALE_RMS
                           ? 0.2 * sqrt(rows > cols ? rows : cols)
                           : sqrt(rows > cols ? (double)rows / cols : 1);
        double u[SIDE * SIDE];
        n = rows * cols;
        for (int i = 0; i < n; i++) {
            double g = clip * s->g[at + i], *m = &s->m[at + i];
            *m = t->momentum * *m + (1 - t->momentum) * g;
            u[i] = t->momentum * *m + (1 - t->momentum) * g;
        }
        orthogonal(u, rows, cols);
        for (int i = 0; i < n; i++) {
            double *w = &s->w[at + i];
            *w -= lr * (decay_of(t, *w, u[i]) * *w + scale * u[i]);
        }
    }
}

static void plain_adamw(struct model_of_step *s, const struct config_train *t,
                        const struct param *q, double lr, double clip, int step)
{
    bool table = strcmp(q->part, "embedding") == 0;
    double beta2 = table && t->beta2_embedding > 0 ? t->beta2_embedding : t->beta2;
    for (int64_t i = q->offset; i < q->offset + param_count(q); i++) {
        double g = clip * s->g[i];
        s->m[i] = t->beta1 * s->m[i] + (1 - t->beta1) * g;
        s->v[i] = beta2 * s->v[i] + (1 - beta2) * g * g;
        double m = s->m[i] / (1 - pow(t->beta1, step)), v = s->v[i] / (1 - pow(beta2, step));
        double decay = q->ndim == 2 ? decay_of(t, s->w[i], m) : 0;
        s->w[i] -= lr * (decay * s->w[i] + m / (sqrt(v) + t->eps));
    }
}

/* Rates of the test, with train.lr 0.01 at half of its height. */
enum { HALF = 2 };

static void plain_step(struct model_of_step *s, const struct config_train *t,
                       const struct params *p, int step)
{
    double norm = 0;
    for (int64_t i = 0; i < p->total; i++)
        norm += s->g[i] * s->g[i];
    norm = sqrt(norm);
    double clip = t->clip == 0 ? 1 : fmin(1, t->clip / (norm + 1e-6));
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        double table = t->lr_embedding > 0 ? t->lr_embedding : t->lr;
        double matrices = t->lr_matrices > 0                  ? t->lr_matrices
                          : t->muon_scale == MUON_SCALE_SHAPE ? 0.02
                                                              : t->lr;
        if (q->matrices > 0)
            plain_muon(s, t, q, matrices / HALF, clip);
        else
            plain_adamw(s, t, q, (strcmp(q->part, "embedding") == 0 ? table : t->lr) / HALF, clip,
                        step);
    }
}

static void compare(const struct config_train *train)
{
    struct error err;
    struct backend be;
    struct params p;
    struct optimizer o;
    struct model_of_step s = {0};
    double got[ROOM], norm;
    assert_ok(ref_open(&be, &err), &err);
    declare(&p, &be, specs, PARAMS);
    assert_ok(optimizer_create(&o, &p, train, NULL, &err), &err);
    op_download(&be, s.w, DTYPE_F64, &p.w);
    for (int k = 1; k <= STEPS; k++) {
        op_fill_normal(&be, &p.g, pow(10, k % 3 - 1), (struct rng_key){3, (uint64_t)k});
        for (int i = 0; i < p.count; i++) { /* padding has no gradient */
            const struct param *q = &p.list[i];
            int64_t end = q->offset + param_count(q), pad = (16 - end % 16) % 16;
            struct tensor rest = tensor_slice(&p.g, end, pad);
            op_fill(&be, &rest, 0);
        }
        op_download(&be, s.g, DTYPE_F64, &p.g);
        optimizer_step(&o, train->lr / HALF, &norm);
        plain_step(&s, train, &p, k);
        op_download(&be, got, DTYPE_F64, &p.w);
        /* Roundings of 1e-16 grow by up to 485 where a singular value is small, and by 1e3 in sums
         * of the iteration. */
        for (int64_t i = 0; i < p.total; i++)
            if (!(fabs(got[i] - s.w[i]) <= 1e-11))
                fail_msg("step %d, number %lld: got %.17g, want %.17g", k, (long long)i, got[i],
                         s.w[i]);
    }
    assert_int_equal(tensor_count(&o.state[0]), p.total);
    assert_int_equal(tensor_count(&o.state[1]), p.matrices);
    optimizer_free(&o);
    params_free(&p);
    backend_close(&be);
}

static void test_steps_by_plain_loops(void **state)
{
    struct config c;
    (void)state;
    config_defaults(&c);
    c.train.optimizer = OPTIMIZER_MUON;
    c.train.lr = 0.01;
    c.train.clip = 0;
    compare(&c.train);
    c.train.clip = 1.5;
    c.train.muon_scale = MUON_SCALE_RMS;
    compare(&c.train);
    c.train.weight_decay = 0.3;
    compare(&c.train);
    c.train.cautious_decay = true;
    c.train.momentum = 0.8;
    compare(&c.train);
    c.train.lr_embedding = 0.1;
    c.train.lr_matrices = 0.03;
    c.train.beta2_embedding = 0.9;
    c.train.muon_scale = MUON_SCALE_SHAPE;
    compare(&c.train);
}

/* --- PyTorch's own ---------------------------------------------------------------------------- */

enum { TORCH_MATRICES = 3, TORCH_STEPS = 5 };

static double tensor_of(const struct st_file *f, const char *name, int64_t i)
{
    const struct st_tensor *t = st_find(f, name);
    assert_non_null(t);
    return st_value(t, i);
}

/* Loads the numbers of tensors `prefix`0, ... behind each other. */
static void load(const struct st_file *f, const struct params *p, const char *format, int step,
                 double *to)
{
    for (int i = 0; i < TORCH_MATRICES; i++) {
        char name[32];
        snprintf(name, sizeof name, format, i, step);
        for (int64_t k = 0; k < param_count(&p->list[i]); k++)
            to[p->list[i].offset + k] = tensor_of(f, name, k);
    }
}

/* `precision` is what PyTorch's iteration was computed in. */
static void follow(const struct st_file *f, const struct config_train *train, const char *setting,
                   const char *precision, double tolerance)
{
    static const struct param_spec torch[TORCH_MATRICES] = {
        {.name = "a", .part = "f", .rows = 6, .cols = 6, .matrices = 1},
        {.name = "b", .part = "f", .rows = 4, .cols = 9, .matrices = 1},
        {.name = "c", .part = "f", .rows = 10, .cols = 3, .matrices = 1},
    };
    struct error err;
    struct backend be;
    struct params p;
    struct optimizer o;
    double want[ROOM] = {0}, got[ROOM], norm;
    char format[64];
    assert_ok(ref_open(&be, &err), &err);
    declare(&p, &be, torch, TORCH_MATRICES);
    assert_ok(optimizer_create(&o, &p, train, NULL, &err), &err);
    load(f, &p, "w%d", 0, want);
    op_upload(&be, &p.w, want, DTYPE_F64);
    snprintf(format, sizeof format, "%s:%s:%%d:%%d", setting, precision);
    for (int k = 0; k < TORCH_STEPS; k++) {
        load(f, &p, "g%d:%d", k, want);
        op_upload(&be, &p.g, want, DTYPE_F64);
        optimizer_step(&o, train->lr, &norm);
        op_download(&be, got, DTYPE_F64, &p.w);
        load(f, &p, format, k, want);
        for (int i = 0; i < TORCH_MATRICES; i++)
            for (int64_t n = p.list[i].offset; n < p.list[i].offset + param_count(&p.list[i]); n++)
                if (!(fabs(got[n] - want[n]) <= tolerance))
                    fail_msg("%s, %s, matrix %d, step %d: got %.17g, PyTorch %.17g", setting,
                             precision, i, k, got[n], want[n]);
    }
    optimizer_free(&o);
    params_free(&p);
    backend_close(&be);
}

/* tests/python/muon.py makes the file. In bfloat16 an update of a rate of 0.02 is wrong by up to
 * 0.02 times some 2^-8, which five steps may add up. */
static void test_steps_of_pytorch(void **state)
{
    struct error err;
    struct st_file *f = NULL;
    struct config c;
    (void)state;
    assert_ok(st_open(&f, "tests/golden/torch/muon.safetensors", &err), &err);
    config_defaults(&c);
    c.train.optimizer = OPTIMIZER_MUON;
    c.train.clip = 0;
    c.train.lr = 0.02;
    c.train.weight_decay = 0.1;
    follow(f, &c.train, "shape", "exact", 1e-12);
    follow(f, &c.train, "shape", "bf16", 5 * 0.02 * 0.05);
    c.train.muon_scale = MUON_SCALE_RMS;
    c.train.lr = 0.003;
    c.train.weight_decay = 0.2;
    follow(f, &c.train, "rms", "exact", 1e-12);
    follow(f, &c.train, "rms", "bf16", 5 * 0.003 * 0.6 * 0.05);
    st_close(f);
}

/* --- properties ------------------------------------------------------------------------------- */

/* Singular values of x [n, n] by one-sided Jacobi rotations, in any order. x is overwritten. */
static void singular_values(double *x, int n, double *values)
{
    for (int sweep = 0; sweep < 30; sweep++)
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++) {
                double a = 0, b = 0, c = 0;
                for (int i = 0; i < n; i++) {
                    a += x[i * n + p] * x[i * n + p];
                    b += x[i * n + q] * x[i * n + q];
                    c += x[i * n + p] * x[i * n + q];
                }
                double angle = 0.5 * atan2(2 * c, a - b), co = cos(angle), si = sin(angle);
                for (int i = 0; i < n; i++) {
                    double u = x[i * n + p], v = x[i * n + q];
                    x[i * n + p] = co * u + si * v;
                    x[i * n + q] = co * v - si * u;
                }
            }
    for (int p = 0; p < n; p++) {
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += x[i * n + p] * x[i * n + p];
        values[p] = sqrt(sum);
    }
}

/* A matrix with singular values from 1 down to 0.002 of the norm has them between 0.68 and 1.21
 * afterwards, whatever its size, and a matrix of zeros stays one. */
static void test_singular_values_are_near_one(void **state)
{
    struct error err;
    struct backend be;
    struct newton_schulz s;
    struct workspace *ws;
    struct tensor x;
    double host[SIDE * SIDE], before[SIDE], after[SIDE];
    (void)state;
    assert_ok(ref_open(&be, &err), &err);
    assert_ok(workspace_create(&ws, &be, &err), &err);
    newton_schulz_declare(&s, ws, SIDE * SIDE, SIDE);
    assert_ok(workspace_commit(ws, &err), &err);
    assert_ok(op_alloc(&be, &x, DTYPE_F64, 2, SIDE, SIDE, 1, 1, &err), &err);
    int looked_at = 0;
    for (int k = 0; k < 40; k++) {
        double norm2 = 0;
        op_fill_normal(&be, &x, pow(10, k % 9 - 4), (struct rng_key){11, (uint64_t)k});
        op_download(&be, host, DTYPE_F64, &x);
        for (int i = 0; i < SIDE * SIDE; i++)
            norm2 += host[i] * host[i];
        singular_values(host, SIDE, before);
        newton_schulz(&s, &be, &x);
        op_download(&be, host, DTYPE_F64, &x);
        singular_values(host, SIDE, after);
        double least = INFINITY;
        for (int i = 0; i < SIDE; i++)
            least = fmin(least, before[i] / sqrt(norm2));
        for (int i = 0; i < SIDE; i++) {
            assert_true(after[i] <= 1.2024);
            if (least >= 0.002)
                assert_true(after[i] >= 0.6818);
        }
        looked_at += least >= 0.002;
    }
    assert_true(looked_at >= 10);
    op_fill(&be, &x, 0);
    newton_schulz(&s, &be, &x);
    op_download(&be, host, DTYPE_F64, &x);
    for (int i = 0; i < SIDE * SIDE; i++)
        assert_true(host[i] == 0);
    op_release(&be, &x);
    workspace_free(ws);
    backend_close(&be);
}

/* A gradient that is not finite moves neither weights nor states, and leaves nothing behind. The
 * floating-point operations of a step are those of the arithmetic. */
static void test_odd_gradients_and_cost(void **state)
{
    struct error err;
    struct backend be;
    struct params p;
    struct optimizer o;
    struct config c;
    double before[3][ROOM], after[3][ROOM], norm;
    (void)state;
    config_defaults(&c);
    c.train.optimizer = OPTIMIZER_MUON;
    assert_ok(ref_open(&be, &err), &err);
    declare(&p, &be, specs, PARAMS);
    assert_ok(optimizer_create(&o, &p, &c.train, NULL, &err), &err);
    const struct tensor *const all[3] = {&p.w, &o.state[0], &o.state[1]};
    op_fill_normal(&be, &p.g, 1, (struct rng_key){3, 1});
    backend_reset_stats(&be);
    optimizer_step(&o, 0.01, &norm);
    /* three of 4 x 7, one of 10 x 3, one of 8 x 6 and two of 2 x 6 */
    double flops = 5 * (3 * (4 * 4 * 4 * 7 + 2 * 4 * 4 * 4) + 4 * 3 * 3 * 10 + 2 * 3 * 3 * 3 +
                        4 * 6 * 6 * 8 + 2 * 6 * 6 * 6 + 2 * (4 * 2 * 2 * 6 + 2 * 2 * 2 * 2));
    assert_true(be.stat[OP_gemm].flops == flops);
    for (int i = 0; i < 3; i++)
        op_download(&be, before[i], DTYPE_F64, all[i]);
    for (int64_t at = 0; at < p.total; at += p.total - 1) {
        struct tensor one = tensor_slice(&p.g, at, 1);
        op_fill_normal(&be, &p.g, 1, (struct rng_key){3, 2});
        op_fill(&be, &one, at == 0 ? NAN : INFINITY);
        optimizer_step(&o, 0.01, &norm);
        assert_false(isfinite(norm));
        for (int i = 0; i < 3; i++) {
            op_download(&be, after[i], DTYPE_F64, all[i]);
            assert_memory_equal(before[i], after[i], (size_t)tensor_count(all[i]) * sizeof(double));
        }
    }
    assert_int_equal(o.updates, 1);
    op_fill_normal(&be, &p.g, 1, (struct rng_key){3, 2});
    optimizer_step(&o, 0.01, &norm);
    op_download(&be, after[0], DTYPE_F64, &p.w);
    for (int64_t i = 0; i < p.total; i++)
        assert_true(isfinite(after[0][i]));
    optimizer_free(&o);
    params_free(&p);
    backend_close(&be);
}

/* Every cell says which of its parameters are matrices of a block, and they lie at the end. */
static void test_every_cell_has_matrices(void **state)
{
    static const char *const cells[] = {
#define X(NAME, name) "model.cell=" #name,
        CELLS(X)
#undef X
    };
    (void)state;
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        struct error err;
        struct config c;
        struct params p;
        int64_t inside = 0, matrices = 0;
        config_defaults(&c);
        assert_ok(config_set(&c, cells[i], &err), &err);
        assert_ok(config_resolve(&c, 100, &err), &err);
        params_init(&p, NULL);
        assert_ok(cell_kind_of(&c.model)->declare(&p, &c.model, &err), &err);
        for (int k = 0; k < p.count; k++) {
            const struct param *q = &p.list[k];
            inside += param_count(q);
            matrices += q->matrices > 0 ? param_count(q) : 0;
            assert_int_equal(q->offset >= p.matrices, q->matrices > 0);
        }
        assert_true(matrices > 0.9 * (double)inside);
        params_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_by_plain_loops),
        cmocka_unit_test(test_steps_of_pytorch),
        cmocka_unit_test(test_singular_values_are_near_one),
        cmocka_unit_test(test_odd_gradients_and_cost),
        cmocka_unit_test(test_every_cell_has_matrices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
