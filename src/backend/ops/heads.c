/* What operations on the numbers of heads demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

static struct op_cost check_heads(const struct backend *be, const struct heads *p)
{
    assert(p->qkv.ndim == 2 && p->heads > 0 && p->groups > 0 && p->heads % p->groups == 0);
    int64_t n = p->qkv.dim[0], h = p->qkv.dim[1] / (3 * p->heads), kv = 2 * p->groups * h;
    assert(p->qkv.dim[1] == 3 * p->heads * h);
    check_real(be, &p->x);
    check_real(be, &p->qkv);
    assert(p->x.ndim == 2 && p->x.dim[0] == n);
    assert(p->x.dim[1] == kv || p->x.dim[1] == p->heads * h + kv);
    assert(p->length > 0 && p->first >= 0);
    check_optional_index(&p->rows, n);
    if (p->turn.data != NULL) {
        check_real(be, &p->turn);
        assert(h % 2 == 0 && p->turn.dim[1] == h && p->turn.dim[0] >= p->first + p->length);
    }
    return bytes_only(bytes_of(&p->x) + bytes_of(&p->qkv));
}

static struct op_cost check_heads_vjp(const struct backend *be, const struct heads_vjp *p)
{
    struct heads like = p->fwd;
    like.qkv = p->dqkv;
    double bytes = check_heads(be, &like).bytes;
    check_count(be, &p->dx, tensor_count(&like.x));
    assert(like.x.dim[1] > 2 * like.groups * (like.qkv.dim[1] / (3 * like.heads)));
    return bytes_only(bytes + bytes_of(&p->dx));
}

static struct op_cost check_heads_tangent(const struct backend *be, const struct heads_tangent *p)
{
    struct heads like = p->fwd;
    like.qkv = p->dqkv.data != NULL ? p->dqkv : p->qkv_t;
    double bytes = check_heads(be, &like).bytes;
    check_count(be, &p->x_t, tensor_count(&like.x));
    check_optional(be, &p->qkv_t, tensor_count(&like.qkv));
    assert((p->dqkv.data == NULL) == (p->dqkv_t.data == NULL));
    if (p->dqkv.data != NULL) {
        check_count(be, &p->dqkv_t, tensor_count(&like.qkv));
        check_count(be, &p->dx, tensor_count(&like.x));
        check_count(be, &p->dx_t, tensor_count(&like.x));
    }
    return bytes_only(2 * bytes);
}

HEADS_OPS(DEFINE_OP)
