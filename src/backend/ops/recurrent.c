/* What operations of the LSTM cell demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

/* Sizes that both directions share. `gates` has 4H columns, z and out have 2H. */
static void check_cell(const struct backend *be, const struct tensor *gates, const struct tensor *z,
                       const struct tensor *c0, const struct tensor *out)
{
    check_real(be, gates);
    assert(gates->ndim == 3 && z->ndim == 3);
    assert(gates->dim[0] == z->dim[0] && gates->dim[1] >= z->dim[1]);
    assert(z->dim[2] % 2 == 0 && gates->dim[2] == 2 * z->dim[2]);
    check_real(be, z);
    check_count(be, out, tensor_count(z));
    check_optional(be, c0, z->dim[0] * z->dim[2] / 2);
}

static struct op_cost check_lstm_cell(const struct backend *be, const struct lstm_cell *p)
{
    check_cell(be, &p->pre, &p->z, &p->c0, &p->out);
    check_count(be, &p->u, tensor_count(&p->pre));
    check_count(be, &p->bias, p->pre.dim[2]);
    return bytes_only(3 * bytes_of(&p->pre) + 1.5 * bytes_of(&p->out));
}

static struct op_cost check_lstm_cell_vjp(const struct backend *be, const struct lstm_cell_vjp *p)
{
    check_cell(be, &p->gates, &p->z, &p->c0, &p->out);
    check_count(be, &p->dpre, tensor_count(&p->gates));
    check_count(be, &p->dout, tensor_count(&p->z));
    check_count(be, &p->dz, tensor_count(&p->z));
    check_optional(be, &p->dc0, p->z.dim[0] * p->z.dim[2] / 2);
    return bytes_only(2 * bytes_of(&p->gates) + 2.5 * bytes_of(&p->out));
}

RECURRENT_OPS(DEFINE_OP)
