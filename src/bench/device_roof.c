/* Products and copies of growing size, timed by the device. */
#include "bench/device_roof.h"

#include <math.h>

enum { LEAST_SIZE = 256, MOST_SIZE = 8192, REPEATS = 5 };
static const int64_t LEAST_COPY = (int64_t)4 << 20, MOST_COPY = (int64_t)1 << 28; /* numbers */
static const double LONG_ENOUGH = 1e-3; /* seconds of a call */

/* The least seconds of some calls of one operation. */
static double fastest(struct backend *be, enum op_id id, void (*call)(struct backend *, void *),
                      void *what)
{
    double best = INFINITY;
    for (int i = 0; i <= REPEATS; i++) {
        backend_settle(be);
        double before = be->stat[id].seconds;
        call(be, what);
        backend_settle(be);
        if (i > 0) /* the first may load and choose kernels */
            best = fmin(best, be->stat[id].seconds - before);
    }
    return best;
}

static void multiply(struct backend *be, void *what)
{
    op_gemm(be, what);
}

/* Makes a factor of numbers as they are in a network, since products of zeros take less power and
 * run faster. */
static void draw_factor(struct backend *be, const struct tensor *factor, const struct tensor *drawn,
                        int64_t size)
{
    op_fill_normal(be, drawn, 1, (struct rng_key){1, rng_stream(RNG_SAMPLE, (uint32_t)size, 0)});
    struct copy_block round = {.to = tensor_shape(factor, 3, 1, size, size, 1),
                               .from = tensor_shape(drawn, 3, 1, size, size, 1)};
    op_copy_block(be, &round);
}

/* Seconds of a product of so many rows and columns, 0 if its matrices would take too much. */
static enum status time_product(struct backend *be, int64_t n, double *seconds, struct error *err)
{
    enum status status = STATUS_OK;
    struct gemm p = {.alpha = 1};
    *seconds = 0;
    if ((double)(3 * n * n) * sizeof(float) > 0.25 * (double)be->device_free)
        return STATUS_OK;
    TRY_OUT(op_alloc(be, &p.a, op_low_precision(be), 2, n, n, 1, 1, err));
    TRY_OUT(op_alloc(be, &p.b, op_low_precision(be), 2, n, n, 1, 1, err));
    TRY_OUT(op_alloc(be, &p.c, be->ops->real, 2, n, n, 1, 1, err));
    draw_factor(be, &p.a, &p.c, n);
    draw_factor(be, &p.b, &p.c, n);
    *seconds = fastest(be, OP_gemm, multiply, &p);
    status = backend_check(be, err);
out:
    op_release(be, &p.a);
    op_release(be, &p.b);
    op_release(be, &p.c);
    return status;
}

struct two {
    struct tensor to, from;
};

static void copy(struct backend *be, void *what)
{
    const struct two *t = what;
    op_copy(be, &t->to, &t->from);
}

static enum status time_copy(struct backend *be, int64_t n, double *seconds, struct error *err)
{
    enum status status = STATUS_OK;
    struct two t = {0};
    *seconds = 0;
    if ((double)(2 * n) * sizeof(float) > 0.25 * (double)be->device_free)
        return STATUS_OK;
    TRY_OUT(op_alloc(be, &t.to, be->ops->real, 1, n, 1, 1, 1, err));
    TRY_OUT(op_alloc(be, &t.from, be->ops->real, 1, n, 1, 1, 1, err));
    *seconds = fastest(be, OP_copy, copy, &t);
    status = backend_check(be, err);
out:
    op_release(be, &t.to);
    op_release(be, &t.from);
    return status;
}

enum status device_roof_measure(struct device_roof *r, struct backend *be, struct error *err)
{
    double seconds = 0;
    *r = (struct device_roof){0};
    for (int64_t n = LEAST_SIZE; n <= MOST_SIZE && seconds < LONG_ENOUGH; n *= 2) {
        TRY(time_product(be, n, &seconds, err));
        double rate = seconds > 0 ? 2 * pow((double)n, 3) / seconds : 0;
        if (rate > r->product) {
            r->product = rate;
            r->size = n;
        }
    }
    seconds = 0;
    for (int64_t n = LEAST_COPY; n <= MOST_COPY && seconds < LONG_ENOUGH; n *= 2) {
        TRY(time_copy(be, n, &seconds, err));
        double bytes = 2.0 * (double)n * sizeof(float), rate = seconds > 0 ? bytes / seconds : 0;
        if (rate > r->copy) {
            r->copy = rate;
            r->copied = bytes / 2;
        }
    }
    if (!(r->product > 0) || !(r->copy > 0))
        return error_set(err, STATUS_DEVICE,
                         "the device's clock does not tell how long a product or a copy takes");
    return STATUS_OK;
}
