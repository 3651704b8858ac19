/* What operations of softmax and its loss demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

static struct op_cost check_softmax_xent(const struct backend *be, const struct softmax_xent *p)
{
    assert(p->logits.ndim == 2);
    check_real(be, &p->logits);
    check_optional(be, &p->bias, p->logits.dim[1]);
    check_index(&p->target, p->logits.dim[0]);
    check_optional_index(&p->pos, p->logits.dim[0]);
    check_real(be, &p->nll);
    return bytes_only((p->gradient ? 2 : 1) * bytes_of(&p->logits));
}

static struct op_cost check_log_softmax(const struct backend *be, const struct tensor *logits,
                                        const struct tensor *bias)
{
    assert(logits->ndim == 2);
    check_real(be, logits);
    if (bias != NULL)
        check_optional(be, bias, logits->dim[1]);
    return bytes_only(2 * bytes_of(logits));
}

SOFTMAX_OPS(DEFINE_OP)
