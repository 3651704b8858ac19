/* Measures this machine's processor, and a step on it. */
#include "cmd/plan_here.h"

#include "base/clock.h"
#include "bench/roof.h"

#include <math.h>
#include <unistd.h>

/* Steps of more seconds by the model are not tried, nor those of more than half the memory. */
static const double LONGEST_STEP = 3;

enum { M = 1024, N = 2048, K = 512, COPY_FLOATS = 1 << 23, SAMPLES = 5 };

/* The median rates of a product and of a copy by the backend's own operations. */
static enum status measure_typical(struct backend *be, double *product, double *copy,
                                   struct error *err)
{
    enum status status = STATUS_OK;
    struct tensor a = {0}, b = {0}, c = {0}, from = {0}, to = {0};
    double products[SAMPLES], copies[SAMPLES];
    TRY_OUT(op_alloc(be, &a, DTYPE_F32, 2, M, K, 1, 1, err));
    TRY_OUT(op_alloc(be, &b, DTYPE_F32, 2, N, K, 1, 1, err));
    TRY_OUT(op_alloc(be, &c, DTYPE_F32, 2, M, N, 1, 1, err));
    TRY_OUT(op_alloc(be, &from, DTYPE_F32, 1, COPY_FLOATS, 1, 1, 1, err));
    TRY_OUT(op_alloc(be, &to, DTYPE_F32, 1, COPY_FLOATS, 1, 1, 1, err));
    op_fill(be, &a, 0.5);
    op_fill(be, &b, 0.5);
    op_fill(be, &from, 0.5);
    for (int i = -1; i < SAMPLES; i++) { /* the first starts the libraries */
        double start = clock_seconds();
        op_gemm(be, &(struct gemm){.trans_b = true, .alpha = 1, .a = a, .b = b, .c = c});
        double middle = clock_seconds();
        op_copy(be, &to, &from);
        if (i < 0)
            continue;
        products[i] = middle - start;
        copies[i] = clock_seconds() - middle;
    }
    *product = 2.0 * M * N * K / bench_median(products, SAMPLES);
    *copy = 2.0 * COPY_FLOATS * sizeof(float) / bench_median(copies, SAMPLES);
    status = backend_check(be, err);
out:
    op_release(be, &a);
    op_release(be, &b);
    op_release(be, &c);
    op_release(be, &from);
    op_release(be, &to);
    return status;
}

static enum status measure_chip(struct chip *chip, struct backend *be, enum precision precision,
                                struct error *err)
{
    struct roof roof;
    double product, copy;
    TRY(roof_measure(&roof, be->threads, precision, err));
    TRY(measure_typical(be, &product, &copy, err));
    *chip = (struct chip){
        .name = "cpu",
        .text = "this machine's processor",
        .source = "measured now: the fastest product routine, and the first cache",
        .peak = {roof.product, roof.product, roof.product},
        .bandwidth = roof.memory,
        .memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE),
        .product_share = product / roof.product,
        .bandwidth_share = copy / roof.memory,
        .share_source = "measured now: a large product on all threads, and a copy from memory",
        .chunk_numbers = be->ops->chunk_numbers,
        .ffn_rows = be->ops->ffn_rows,
    };
    return STATUS_OK;
}

enum status plan_here(struct plan *plan, struct chip *chip, const struct config *config,
                      struct backend *be, struct error *err)
{
    bool processor = be->device_free == 0;
    TRY(backend_set_precision(be, config->train.precision, err));
    if (processor)
        TRY(measure_chip(chip, be, config->train.precision, err));
    else
        *chip = (struct chip){.name = be->ops->name,
                              .peak = {1, 1, 1},
                              .bandwidth = 1,
                              .product_share = 1,
                              .bandwidth_share = 1,
                              .memory = (double)be->device_free,
                              .chunk_numbers = be->ops->chunk_numbers,
                              .ffn_rows = be->ops->ffn_rows,
                              .cuda = true};
    TRY(plan_make(plan, config, chip, err));
    bool small = plan->seconds <= LONGEST_STEP && 2 * (double)plan->memory.total <= chip->memory;
    return small || !processor ? plan_measure(plan, config, be, err) : STATUS_OK;
}
