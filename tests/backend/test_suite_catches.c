/* The suite must be able to fail: the reference with one operation broken on purpose, judged with
 * the tolerances of a float32 backend, in several ways that a real backend might be wrong. */
#include "backend/suite_run.h"

/* The backend's private state here. */
struct sabotage {
    const struct ops *good; /* the reference's own table */
    int64_t calls;
};

static const struct ops *good(struct backend *be)
{
    return ((struct sabotage *)be->impl)->good;
}

static double *numbers(const struct tensor *t)
{
    return t->data;
}

/* One element of the product is off by 1e-4. */
static void bad_gemm(struct backend *be, const struct gemm *p)
{
    good(be)->gemm(be, p);
    if (tensor_count(&p->c) == 33 * 64)
        numbers(&p->c)[33 * 64 - 1] += 1e-4;
}

/* Multiplies as in the real type whatever the precision. */
static void bad_gemm_rounding(struct backend *be, const struct gemm *p)
{
    struct backend exact = *be;
    exact.precision = PRECISION_FP32;
    good(be)->gemm(&exact, p);
}

/* Rows of the product behind each other, whatever lies between them. */
static void bad_gemm_stride(struct backend *be, const struct gemm *p)
{
    struct gemm q = *p;
    q.c_stride = 0;
    good(be)->gemm(be, &q);
}

/* 0 * NaN is NaN: b = 0 does not overwrite. */
static void bad_axpby(struct backend *be, const struct tensor *y, double a, const struct tensor *x,
                      double b)
{
    for (int64_t i = 0; i < tensor_count(y); i++)
        numbers(y)[i] = a * numbers(x)[i] + b * numbers(y)[i];
    (void)be;
}

/* Other bits at every call. */
static void bad_col_sum(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    good(be)->col_sum(be, acc, x);
    numbers(acc)[0] *= 1 + 1e-15 * (double)(((struct sabotage *)be->impl)->calls++ % 7);
}

/* A NaN in one row. */
static void bad_residual_norm(struct backend *be, const struct residual_norm *p)
{
    good(be)->residual_norm(be, p);
    if (p->y.data != NULL && p->a.dim[0] == 34)
        numbers(&p->y)[33 * 70 + 5] = NAN;
}

/* A maximum as fmax takes it: a NaN becomes 0. */
static void bad_ffn_up_nan(struct backend *be, const struct ffn_up *p)
{
    good(be)->ffn_up(be, p);
    for (int64_t i = 0; i < tensor_count(&p->h); i++)
        numbers(&p->h)[i] = fmax(0, numbers(&p->h)[i]);
}

/* The bias comes after the mask, and shows where that is 0. */
static void bad_ffn_up_mask(struct backend *be, const struct ffn_up *p)
{
    struct ffn_up q = *p;
    good(be)->ffn_up(be, p);
    if (p->mask.data == NULL || p->h.dim[1] != 16 || numbers(&p->mask)[2] != 0)
        return;
    numbers(&q.h)[2] = numbers(&p->bias)[2];
}

/* The last number's bit is wrong. */
static void bad_relu_mask(struct backend *be, const struct ffn_up *p)
{
    int64_t bytes = tensor_count(&p->relu_mask), last = p->h.dim[1] - 1;
    good(be)->ffn_up(be, p);
    if (p->relu_mask.data != NULL && bytes > 0)
        ((uint8_t *)p->relu_mask.data)[bytes - 1] ^= (uint8_t)(1 << last % 8);
}

/* Numbers that are exactly 0 let the gradient pass. */
static void bad_ffn_up_vjp(struct backend *be, const struct ffn_up_vjp *p)
{
    if (p->h.data == NULL) {
        good(be)->ffn_up_vjp(be, p);
        return;
    }
    double *h = numbers(&p->h);
    int64_t at = 0, count = tensor_count(&p->h);
    while (at < count && h[at] != 0)
        at++;
    if (at < count)
        h[at] = 1;
    good(be)->ffn_up_vjp(be, p);
    if (at < count)
        h[at] = 0;
}

/* The span is off by one. */
static void bad_attention(struct backend *be, const struct attention *p)
{
    struct attention q = *p;
    int64_t mem = p->mem.data == NULL ? 0 : p->mem.dim[1];
    if (q.span > 1 && q.span < mem + p->qkv.dim[1])
        q.span--;
    good(be)->attention(be, &q);
}

/* The first query sees the last key: an error of the causal mask, too small for a tolerance. */
static void bad_attention_causal(struct backend *be, const struct attention *p)
{
    good(be)->attention(be, p);
    if (p->qkv.data != NULL && tensor_count(&p->qkv) > 0)
        numbers(&p->out)[0] += 1e-12 * numbers(&p->qkv)[tensor_count(&p->qkv) / p->qkv.dim[0] - 1];
}

/* drk is overwritten where it should be accumulated. */
static void bad_attention_vjp(struct backend *be, const struct attention_vjp *p)
{
    if (p->drk.data != NULL)
        memset(p->drk.data, 0, tensor_bytes(&p->drk));
    good(be)->attention_vjp(be, p);
}

/* The rows between the sequences are forgotten. */
static void bad_gate_vjp(struct backend *be, const struct lstm_cell_vjp *p)
{
    good(be)->lstm_cell_vjp(be, p);
    if (p->dpre.dim[1] > p->z.dim[1] && tensor_count(&p->dpre) > 0)
        numbers(&p->dpre)[tensor_count(&p->dpre) - 1] = 1;
}

/* c0 is taken for zero. */
static void bad_gate(struct backend *be, const struct lstm_cell *p)
{
    struct lstm_cell q = *p;
    q.c0.data = NULL;
    good(be)->lstm_cell(be, &q);
}

/* The gap between rows is written too. */
static void bad_copy_block(struct backend *be, const struct copy_block *p)
{
    good(be)->copy_block(be, p);
    if (p->to_row > p->to.dim[2] && tensor_count(&p->to) > 0)
        numbers(&p->to)[p->to.dim[2]] = 0;
}

/* One number beyond the end. */
/* One derivative off by a thousandth. */
static void bad_norm_tangent(struct backend *be, const struct norm_vjp_tangent *p)
{
    good(be)->norm_vjp_tangent(be, p);
    if (p->vjp.kind == NORM_LAYER && tensor_count(&p->ds_t) > 0)
        numbers(&p->ds_t)[0] *= 1.001;
}

/* One derivative is forgotten. */
static void bad_attention_tangent(struct backend *be, const struct attention_tangent *p)
{
    struct attention_tangent q = *p;
    good(be)->attention_tangent(be, &q);
    if (p->dout.data != NULL && tensor_count(&p->dqkv_t) > 0)
        numbers(&p->dqkv_t)[0] = 0;
}

static void bad_scatter(struct backend *be, const struct tensor *table, const struct tensor *x,
                        const struct tensor *idx, double scale)
{
    good(be)->scatter_add_rows(be, table, x, idx, scale);
    numbers(table)[tensor_count(table)] = 0;
}

/* Rows come in the order of the list, not of its indices. */
static void bad_scatter_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                             const struct tensor *idx)
{
    (void)idx;
    struct tensor to = tensor_slice(table, 0, x->dim[0]);
    good(be)->copy(be, &to, x);
}

/* Listed queries see as far as the one before them. */
static void bad_attention_rows(struct backend *be, const struct attention *p)
{
    good(be)->attention(be, p);
    int64_t width = p->out.dim[2], n = p->rows.data == NULL ? 0 : p->rows.dim[0];
    const int32_t *rows = p->rows.data;
    if (n > 1)
        memcpy(numbers(&p->out) + rows[n - 1] * width, numbers(&p->out) + rows[n - 2] * width,
               (size_t)width * sizeof(double));
}

/* An input is changed. */
static void bad_gather(struct backend *be, const struct tensor *out, const struct tensor *table,
                       const struct tensor *idx, double scale)
{
    good(be)->gather_rows(be, out, table, idx, scale);
    numbers(table)[tensor_count(table) - 1] = 0;
}

/* Wrong only where the data is not aligned. */
static void bad_log_softmax(struct backend *be, const struct tensor *logits,
                            const struct tensor *bias)
{
    good(be)->log_softmax(be, logits, bias);
    if ((uintptr_t)logits->data % 32 != 0 && tensor_count(logits) > 0)
        numbers(logits)[tensor_count(logits) - 1] = 0;
}

/* pos is ignored. */
static void bad_softmax_xent(struct backend *be, const struct softmax_xent *p)
{
    struct softmax_xent q = *p;
    q.pos.data = NULL;
    good(be)->softmax_xent(be, &q);
}

/* One element of the mask is another. */
static void bad_dropout_mask(struct backend *be, const struct tensor *mask, double p,
                             struct rng_key key, uint64_t first)
{
    good(be)->dropout_mask(be, mask, p, key, first);
    if (mask->dtype == DTYPE_U8 && tensor_count(mask) == 4097)
        ((uint8_t *)mask->data)[4096] ^= 1;
}

/* Every number is of one group. */
static void bad_adam_decay(struct backend *be, const struct adam *p)
{
    struct adam q = *p;
    q.groups.data = NULL;
    good(be)->adam(be, &q);
}

/* Every number decays. */
static void bad_adam_cautious(struct backend *be, const struct adam *p)
{
    struct adam q = *p;
    q.cautious = false;
    good(be)->adam(be, &q);
}

/* The mean does not look ahead. */
static void bad_momentum(struct backend *be, const struct momentum *p)
{
    good(be)->momentum(be, p);
    good(be)->copy(be, &p->g, &p->m);
}

/* A small norm is not kept from growing. */
static void bad_unit_norm(struct backend *be, const struct tensor *y, const struct tensor *x,
                          const struct tensor *norm2, double least)
{
    good(be)->unit_norm(be, y, x, norm2, least * 1e-9);
}

/* Every number shrinks. */
static void bad_descend(struct backend *be, const struct descend *p)
{
    struct descend q = *p;
    q.cautious = false;
    good(be)->descend(be, &q);
}

/* Steps in spite of a gradient that is not finite. */
static void bad_adam(struct backend *be, const struct adam *p)
{
    double one = 1;
    struct adam q = *p;
    if (!isfinite(*numbers(&q.norm2)))
        q.norm2.data = &one;
    good(be)->adam(be, &q);
}

/* An overflow of ||f|| makes the residual small. */
static void bad_convergence_check(struct backend *be, const struct convergence_check *p)
{
    double *f2 = numbers(&p->norms);
    for (int64_t n = 0; n < p->z.dim[0]; n++)
        if (isinf(f2[2 * n + 1]) && isfinite(f2[2 * n]))
            f2[2 * n + 1] = 1e300;
    good(be)->convergence_check(be, p);
    for (int64_t n = 0; n < p->z.dim[0]; n++)
        if (f2[2 * n + 1] == 1e300)
            f2[2 * n + 1] = INFINITY;
}

/* A restart is not counted. */
static void bad_anderson(struct backend *be, const struct anderson_weights *p)
{
    int32_t *restarts = p->restarts.data, before = p->alpha.dim[0] > 0 ? restarts[0] : 0;
    good(be)->anderson_weights(be, p);
    if (p->alpha.dim[0] > 0)
        restarts[0] = before;
}

/* The line search is forgotten: every step counts as taken in full. */
static void bad_broyden(struct backend *be, const struct broyden_weights *p)
{
    struct broyden_weights q = *p;
    for (int64_t j = 0; j < p->count; j++)
        q.lengths[j] = 1;
    good(be)->broyden_weights(be, &q);
}

/* A step of 0 counts as a restart. */
static void bad_broyden_restart(struct backend *be, const struct broyden_weights *p)
{
    good(be)->broyden_weights(be, p);
    for (int64_t n = 0; n < p->coef.dim[0]; n++)
        if (numbers(&p->dots)[(2 * n + 2) * p->count - 1] == 0)
            ((int32_t *)p->restarts.data)[n]++;
}

/* Frozen rows are written too. */
static void bad_row_combine(struct backend *be, const struct row_combine *p)
{
    struct row_combine q = *p;
    q.reason.data = NULL;
    good(be)->row_combine(be, &q);
}

/* Frozen rows stay where they should be cleared. */
static void bad_row_combine_clear(struct backend *be, const struct row_combine *p)
{
    struct row_combine q = *p;
    q.clear = false;
    good(be)->row_combine(be, &q);
}

/* Both vectors are the first one. */
static void bad_row_dots_pair(struct backend *be, const struct row_dots *p)
{
    struct row_dots q = *p;
    if (p->y.data != NULL)
        q.y = p->x;
    good(be)->row_dots(be, &q);
}

/* A device fault that nobody asked for. */
static void bad_row_dots(struct backend *be, const struct row_dots *p)
{
    good(be)->row_dots(be, p);
    backend_fault(be, OP_row_dots, "the device fell off the bus");
}

/* X(slot, broken function, case that must notice, part of what it must say) */
#define SABOTAGES(X)                                                                  \
    X(gemm, bad_gemm, gemm, "c[2111 of 2112]")                                        \
    X(gemm, bad_gemm_rounding, gemm_rounded, "c[")                                    \
    X(gemm, bad_gemm_stride, gemm_block, "c[")                                        \
    X(axpby, bad_axpby, axpby, "got nan")                                             \
    X(col_sum, bad_col_sum, col_sum, "different bits")                                \
    X(residual_norm, bad_residual_norm, residual_norm, "got nan")                     \
    X(ffn_up, bad_ffn_up_nan, ffn_up, "want nan")                                     \
    X(ffn_up, bad_ffn_up_mask, ffn_up_masks, "dropped")                               \
    X(ffn_up, bad_relu_mask, ffn_up, "dh[")                                           \
    X(ffn_up_vjp, bad_ffn_up_vjp, ffn_up, "dh[")                                      \
    X(attention, bad_attention, attention, "out[")                                    \
    X(attention, bad_attention_causal, attention_causal, "future")                    \
    X(attention_vjp, bad_attention_vjp, attention_vjp, "drk[")                        \
    X(norm_vjp_tangent, bad_norm_tangent, norm_vjp_tangent, "ds_t[")                  \
    X(attention_tangent, bad_attention_tangent, attention_tangent, "dqkv_t[")         \
    X(lstm_cell, bad_gate, lstm_cell, "out[")                                         \
    X(lstm_cell_vjp, bad_gate_vjp, lstm_cell_vjp, "dpre[")                            \
    X(copy_block, bad_copy_block, copy_block, "to[")                                  \
    X(attention, bad_attention_rows, attention_rows, "listed[")                       \
    X(scatter_rows, bad_scatter_rows, scatter_rows, "table[")                         \
    X(scatter_add_rows, bad_scatter, gather_scatter, "beyond its end")                \
    X(gather_rows, bad_gather, gather_scatter, "an input was changed")                \
    X(log_softmax, bad_log_softmax, log_softmax, "shift 1")                           \
    X(softmax_xent, bad_softmax_xent, softmax_xent, "nll[")                           \
    X(dropout_mask, bad_dropout_mask, random, "U8 mask[4096 of 4097]")                \
    X(adam, bad_adam, adam, "an input was changed")                                   \
    X(adam, bad_adam_decay, adam, "w[")                                               \
    X(adam, bad_adam_cautious, adam, "w[")                                            \
    X(momentum, bad_momentum, momentum, "g[")                                         \
    X(unit_norm, bad_unit_norm, unit_norm, "y[")                                      \
    X(descend, bad_descend, descend, "w[")                                            \
    X(convergence_check, bad_convergence_check, convergence_check, "reason[5 of 12]") \
    X(anderson_weights, bad_anderson, anderson_weights, "restarts[0 of")              \
    X(broyden_weights, bad_broyden, broyden_weights, "coef[")                         \
    X(broyden_weights, bad_broyden_restart, broyden_weights, "restarts[0 of")         \
    X(row_combine, bad_row_combine, row_combine, "out[")                              \
    X(row_combine, bad_row_combine_clear, row_combine, "out[")                        \
    X(row_dots, bad_row_dots_pair, row_dots, "dots[")                                 \
    X(row_dots, bad_row_dots, row_dots, "fell off the bus")

/* Runs one case on the reference behind a table that `break_it` may have changed. */
static void run_case(struct suite *s, const struct ops *table, const struct ops *refs, case_fn *run)
{
    struct error err;
    struct backend test, ref;
    struct sabotage state = {refs, 0};
    assert_int_equal(backend_init(&test, table, &state, 1, &err), STATUS_OK);
    assert_int_equal(ref_open(&ref, &err), STATUS_OK);
    suite_run(s, &test, &ref, FLT_EPSILON, run);
    backend_close(&test);
    backend_close(&ref);
}

static void check_caught(const char *name, const struct ops *table, const struct ops *refs,
                         case_fn *run, const char *text)
{
    struct suite s;
    run_case(&s, refs, refs, run);
    if (s.failures != 0)
        fail_msg("%s: fails without the sabotage: %s", name, s.first);
    run_case(&s, table, refs, run);
    if (s.failures == 0)
        fail_msg("%s: not noticed", name);
    if (strstr(s.first, text) == NULL)
        fail_msg("%s: noticed as \"%s\", want \"%s\"", name, s.first, text);
}

static const struct ops *reference_table(void)
{
    struct error err;
    struct backend ref;
    assert_int_equal(ref_open(&ref, &err), STATUS_OK);
    const struct ops *table = ref.ops;
    backend_close(&ref);
    return table;
}

#define X(slot, function, where, text)                             \
    static void catches_##function(void **state)                   \
    {                                                              \
        const struct ops *refs = reference_table();                \
        struct ops table = *refs;                                  \
        table.slot = function;                                     \
        check_caught(#function, &table, refs, case_##where, text); \
        (void)state;                                               \
    }
SABOTAGES(X)
#undef X

/* A table with any one slot empty is refused, and the message names the slot. */
static void refuses_empty_slots(void **state)
{
    const struct ops *refs = reference_table();
    struct backend be;
    struct error err;
    struct ops table;
#define X(slot, ...)                                                             \
    table = *refs;                                                               \
    table.slot = NULL;                                                           \
    assert_int_equal(backend_init(&be, &table, NULL, 1, &err), STATUS_INTERNAL); \
    assert_non_null(strstr(err.text, #slot));
    OP_LIST(X)
    X(alloc)
    X(release)
    X(close)
    X(set_precision)
#undef X
    (void)state;
}

/* The first fault is kept, with the operation's name. */
static void latches_first_fault(void **state)
{
    struct backend be;
    struct error err;
    assert_int_equal(ref_open(&be, &err), STATUS_OK);
    assert_int_equal(backend_check(&be, &err), STATUS_OK);
    backend_fault(&be, OP_gemm, "first");
    backend_fault(&be, OP_adam, "second");
    assert_int_equal(backend_check(&be, &err), STATUS_DEVICE);
    assert_non_null(strstr(err.text, "gemm: first"));
    backend_close(&be);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define X(slot, function, where, text) cmocka_unit_test(catches_##function),
        SABOTAGES(X)
#undef X
            cmocka_unit_test(refuses_empty_slots),
        cmocka_unit_test(latches_first_fault),
    };
    return cmocka_run_group_tests_name("the suite catches", tests, NULL, NULL);
}
