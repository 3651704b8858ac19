/* Properties of the solvers on random contractions whose fixed points are known. */
#include "backend/ref/ref.h"
#include "base/assert_ok.h"
#include "base/rng.h"
#include "property/property.h"
#include "solver/solver.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_BATCH = 3, MOST_LENGTH = 6, MOST_WIDTH = 8 };
enum { MOST_ROWS = MOST_BATCH * MOST_LENGTH, MOST = MOST_ROWS * MOST_WIDTH };

/* f(z)_t = A z_t + C z_{t-1} + b_t, causal over positions. Each row of |A| + |C| sums to `rate` < 1
 * at most, so f is a contraction with that rate in the maximum norm. b is made so that `fixed` is
 * its fixed point. */
struct contraction {
    struct backend *be;
    int64_t batch, length, width;
    double rate;
    double a[MOST_WIDTH * MOST_WIDTH], c[MOST_WIDTH * MOST_WIDTH];
    double b[MOST], fixed[MOST];
};

static double *row_of(const struct contraction *k, double *x, int64_t batch, int64_t t)
{
    return x + (batch * k->length + t) * k->width;
}

/* y <- A z + C z_{t-1}, without b. */
static void apply_linear(struct contraction *k, double *z, double *y)
{
    for (int64_t s = 0; s < k->batch; s++)
        for (int64_t t = 0; t < k->length; t++)
            for (int64_t i = 0; i < k->width; i++) {
                double sum = 0;
                for (int64_t j = 0; j < k->width; j++) {
                    sum += k->a[i * k->width + j] * row_of(k, z, s, t)[j];
                    if (t > 0)
                        sum += k->c[i * k->width + j] * row_of(k, z, s, t - 1)[j];
                }
                row_of(k, y, s, t)[i] = sum;
            }
}

static enum status eval(void *context, const struct tensor *z, const struct tensor *f,
                        const struct tensor *rows, struct error *err)
{
    struct contraction *k = context;
    double in[MOST], out[MOST];
    (void)rows;
    (void)err;
    op_download(k->be, in, DTYPE_F64, z);
    apply_linear(k, in, out);
    for (int64_t i = 0; i < k->batch * k->length * k->width; i++)
        out[i] += k->b[i];
    op_upload(k->be, f, out, DTYPE_F64);
    return STATUS_OK;
}

static double symmetric(struct rng_key key, uint64_t index)
{
    return 2 * rng_uniform(key, index) - 1;
}

static void draw_contraction(struct contraction *k, struct backend *be)
{
    *k = (struct contraction){.be = be,
                              .batch = property_int("batch", 1, MOST_BATCH),
                              .length = property_int("length", 1, MOST_LENGTH),
                              .width = property_int("width", 1, MOST_WIDTH),
                              .rate = property_real("rate", 0, 0.9)};
    struct rng_key key = {property_seed("seed"), 0};
    int64_t w = k->width, n = k->batch * k->length * w;
    for (int64_t i = 0; i < w; i++) {
        double sum = 0;
        for (int64_t j = 0; j < 2 * w; j++) {
            double x = symmetric(key, (uint64_t)(i * 2 * w + j));
            (j < w ? k->a : k->c)[i * w + j % w] = x;
            sum += fabs(x);
        }
        for (int64_t j = 0; j < w; j++) {
            k->a[i * w + j] *= k->rate / sum;
            k->c[i * w + j] *= k->rate / sum;
        }
    }
    key.stream = 1;
    for (int64_t i = 0; i < n; i++)
        k->fixed[i] = symmetric(key, (uint64_t)i);
    apply_linear(k, k->fixed, k->b);
    for (int64_t i = 0; i < n; i++)
        k->b[i] = k->fixed[i] - k->b[i];
}

static struct solver_config draw_settings(void)
{
    return (struct solver_config){
        .method = (enum solve_method)property_int("method", SOLVE_PICARD, SOLVE_BROYDEN),
        .scope = (enum scope)property_int("scope", SCOPE_TOKEN, SCOPE_BATCH),
        .decay = property_real("decay", 0, 1),
        .max_iter = 2000, /* (1 + rate) / 2 per iteration at most, to 1e-9 takes 404 */
        .tol = 1e-9,
        .stop = STOP_REL,
        .history = property_int("history", 1, 10),
        .damping = property_real("damping", 0.5, 1),
        .ridge = 1e-12,
        .ridge_mode = RIDGE_REL,
        .stall = 2000};
}

/* Solves from 0. The backend holds no memory afterwards. */
static struct solve_report solve(struct contraction *k, const struct solver_config *c, double *z)
{
    struct solver_plan plan = {.batch = k->batch, .length = k->length, .width = k->width};
    struct solver *s;
    struct tensor zt = {0};
    struct solve_report r;
    struct error err;
    ASSERT_OK(op_alloc(k->be, &zt, DTYPE_F64, 3, k->batch, k->length, k->width, 1, &err));
    ASSERT_OK(solver_create(&s, k->be, c, &plan, &err));
    ASSERT_OK(solver_run(s, eval, k, &zt, NULL, NULL, &err));
    ASSERT_OK(solver_report(s, &r, &err));
    op_download(k->be, z, DTYPE_F64, &zt);
    solver_free(s);
    op_release(k->be, &zt);
    return r;
}

/* What a property runs on, and how many solves of each method converged in every row. */
struct trial {
    struct backend be;
    int64_t solves[SOLVE_BROYDEN + 1], converged[SOLVE_BROYDEN + 1];
};

/* A row that says it has converged is near the fixed point: |z - z*| <= |f(z) - z| / (1 - rate) in
 * the maximum norm, which is at most the Euclidean one. tol is relative to |f|, which is at most
 * 3 sqrt(width rows) here, and earlier rows pass their errors on to later ones. */
static bool converged_is_near(void *context, char *why)
{
    struct contraction k;
    double z[MOST];
    struct trial *trial = context;
    draw_contraction(&k, &trial->be);
    struct solver_config c = draw_settings();
    struct solve_report r = solve(&k, &c, z);
    int64_t converged = r.reasons[SOLVE_CONVERGED_REL];
    if (c.method == SOLVE_PICARD && converged != r.rows) {
        (void)snprintf(why, PROPERTY_WHY, "Picard left %lld rows of a contraction unconverged",
                       (long long)(r.rows - converged));
        return false;
    }
    trial->solves[c.method]++;
    trial->converged[c.method] += converged == r.rows;
    double bound = 1e-9 * 3 * sqrt((double)(k.width * r.rows)) / (1 - k.rate) / (1 - k.rate);
    for (int64_t i = 0; converged == r.rows && i < r.rows * k.width; i++)
        if (!(fabs(z[i] - k.fixed[i]) <= bound)) {
            (void)snprintf(why, PROPERTY_WHY, "z[%lld] is %.3g away, at most %.3g was promised",
                           (long long)i, fabs(z[i] - k.fixed[i]), bound);
            return false;
        }
    return true;
}

/* With the scopes token and prefix, what comes later does not change what came before, to the last
 * bit, however far the solve went. */
static bool the_past_stays(void *context, char *why)
{
    struct contraction k;
    double before[MOST], after[MOST];
    struct trial *trial = context;
    draw_contraction(&k, &trial->be);
    struct solver_config c = draw_settings();
    c.scope = (enum scope)property_int("causal scope", SCOPE_TOKEN, SCOPE_PREFIX);
    c.max_iter = property_int("max_iter", 1, 30);
    c.stop = (enum solve_stop)property_int("stop", STOP_REL, STOP_FIXED);
    solve(&k, &c, before);
    int64_t from = property_int("changed from", 0, k.length - 1);
    for (int64_t s = 0; s < k.batch; s++)
        for (int64_t t = from; t < k.length; t++)
            row_of(&k, k.b, s, t)[0] += 1;
    solve(&k, &c, after);
    for (int64_t s = 0; s < k.batch; s++)
        if (memcmp(row_of(&k, before, s, 0), row_of(&k, after, s, 0),
                   (size_t)(from * k.width) * sizeof *before) != 0) {
            (void)snprintf(why, PROPERTY_WHY, "sequence %lld changed before position %lld",
                           (long long)s, (long long)from);
            return false;
        }
    return true;
}

static void check(const char *description, property_fn property, struct trial *trial)
{
    struct error err;
    *trial = (struct trial){0};
    ASSERT_OK(ref_open(&trial->be, &err));
    bool holds = property_check(description, 300, property, trial);
    backend_close(&trial->be);
    assert_true(holds);
}

static void test_converged_is_near(void **state)
{
    struct trial trial;
    (void)state;
    check("a row that has converged is near the known fixed point", converged_is_near, &trial);
    /* Enough of them came so far that the property was looked at. */
    for (int m = SOLVE_PICARD; m <= SOLVE_BROYDEN; m++)
        assert_true(2 * trial.converged[m] > trial.solves[m] && trial.converged[m] > 10);
}

static void test_the_past_stays(void **state)
{
    struct trial trial;
    (void)state;
    check("with causal scopes later inputs leave earlier rows as they are", the_past_stays, &trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_converged_is_near),
        cmocka_unit_test(test_the_past_stays),
    };
    return cmocka_run_group_tests_name("solver properties", tests, NULL, NULL);
}
