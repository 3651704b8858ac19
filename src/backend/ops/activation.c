/* What activations demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

/* A tensor as the second product takes it. */
static void check_wide(const struct backend *be, const struct tensor *t, int64_t count)
{
    assert(t->dtype == op_low_precision(be) && tensor_count(t) == count);
    assert(t->data != NULL || count == 0);
}

static int64_t outputs_of(const struct backend *be, const struct tensor *x, enum activation kind)
{
    check_real(be, x);
    assert(x->ndim == 2 && x->dim[1] % activation_inputs(kind) == 0);
    return tensor_count(x) / activation_inputs(kind);
}

static struct op_cost check_activate(const struct backend *be, const struct activate *p)
{
    check_wide(be, &p->h, outputs_of(be, &p->x, p->kind));
    return bytes_only(bytes_of(&p->x) + bytes_of(&p->h));
}

static struct op_cost check_activate_vjp(const struct backend *be, const struct activate_vjp *p)
{
    check_count(be, &p->dh, outputs_of(be, &p->x, p->kind));
    check_wide(be, &p->dx, tensor_count(&p->x));
    return bytes_only(bytes_of(&p->x) + bytes_of(&p->dh) + bytes_of(&p->dx));
}

static struct op_cost check_activate_tangent(const struct backend *be,
                                             const struct activate_tangent *p)
{
    int64_t outputs = outputs_of(be, &p->x, p->kind);
    check_count(be, &p->x_t, tensor_count(&p->x));
    if (p->h_t.data != NULL)
        check_wide(be, &p->h_t, outputs);
    assert((p->dh.data == NULL) == (p->dh_t.data == NULL));
    if (p->dh.data != NULL) {
        check_count(be, &p->dh, outputs);
        check_count(be, &p->dh_t, outputs);
        check_wide(be, &p->dx, tensor_count(&p->x));
        check_wide(be, &p->dx_t, tensor_count(&p->x));
    }
    return bytes_only(2 *
                      (bytes_of(&p->x) + bytes_of(&p->h_t) + bytes_of(&p->dh) + bytes_of(&p->dx)));
}

static struct op_cost check_sigmoid(const struct backend *be, const struct tensor *y,
                                    const struct tensor *x)
{
    check_real(be, y);
    check_count(be, x, tensor_count(y));
    return bytes_only(2 * bytes_of(y));
}

static struct op_cost check_sigmoid_vjp(const struct backend *be, const struct tensor *dx,
                                        const struct tensor *y, const struct tensor *dy)
{
    check_real(be, dx);
    check_count(be, y, tensor_count(dx));
    check_count(be, dy, tensor_count(dx));
    return bytes_only(4 * bytes_of(dx));
}

ACTIVATION_OPS(DEFINE_OP)
