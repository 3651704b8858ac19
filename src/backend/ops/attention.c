/* What operations of attention demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

/* Checks an attention call. Returns D times the number of scores. */
static double check_scores(const struct backend *be, const struct attention *p)
{
    check_real(be, &p->qkv);
    assert(p->qkv.ndim == 3 && p->qkv.dim[2] % 3 == 0);
    int64_t b = p->qkv.dim[0], l = p->qkv.dim[1], d = p->qkv.dim[2] / 3;
    int64_t mem = p->mem.data == NULL ? 0 : p->mem.dim[1];
    assert(p->heads > 0 && d % p->heads == 0);
    if (mem > 0)
        check_count(be, &p->mem, b * mem * 3 * d);
    check_count(be, &p->out, b * l * d);
    check_optional(be, &p->lse, b * p->heads * l);
    int64_t reach = p->span > 0 && p->span < mem + l ? p->span : mem + l;
    if (p->rk.data != NULL) {
        check_real(be, &p->rk);
        assert(p->rk.ndim == 2 && p->rk.dim[0] >= reach && p->rk.dim[1] == d);
        check_count(be, &p->r_w, d);
        check_count(be, &p->r_r, d);
    } else {
        assert(p->r_w.data == NULL && p->r_r.data == NULL);
    }
    if (p->mask.data != NULL)
        assert(p->mask.dtype == DTYPE_U8 && tensor_count(&p->mask) == b * p->heads * l * (mem + l));
    /* The average number of keys that a query sees is P + (L+1)/2, and at most the span. */
    double seen = (double)mem + 0.5 * (double)(l + 1);
    double queries = (double)b * (double)l;
    if (p->rows.data != NULL) {
        check_index(&p->rows, p->rows.dim[0]);
        queries = (double)p->rows.dim[0];
    }
    return queries * (double)d * (seen < (double)reach ? seen : (double)reach);
}

/* The bytes that either direction moves. The q part of `mem` is ignored. */
static double attention_bytes(const struct attention *p)
{
    return bytes_of(&p->qkv) + bytes_of(&p->mem) * 2 / 3 + bytes_of(&p->rk) + bytes_of(&p->mask) +
           bytes_of(&p->out);
}

static struct op_cost check_attention(const struct backend *be, const struct attention *p)
{
    double products = p->rk.data != NULL ? 3 : 2;
    return (struct op_cost){.flops = 2 * products * check_scores(be, p),
                            .bytes = attention_bytes(p)};
}

static struct op_cost check_attention_vjp(const struct backend *be, const struct attention_vjp *p)
{
    assert(p->fwd.rows.data == NULL);
    double work = check_scores(be, &p->fwd);
    check_real(be, &p->fwd.lse);
    check_count(be, &p->dout, tensor_count(&p->fwd.out));
    check_count(be, &p->dqkv, tensor_count(&p->fwd.qkv));
    check_optional(be, &p->dmem, tensor_count(&p->fwd.mem));
    check_optional(be, &p->drk, tensor_count(&p->fwd.rk));
    check_optional(be, &p->dr_w, tensor_count(&p->fwd.r_w));
    check_optional(be, &p->dr_r, tensor_count(&p->fwd.r_r));
    /* Two products for the scores, one each for dA, dV and dK, two for dQ, and one for drk. Without
     * positions there is one for the scores, and one for dQ. */
    double products = p->drk.data != NULL ? 8 : p->fwd.rk.data != NULL ? 7 : 5;
    assert(p->fwd.rk.data != NULL ||
           (p->drk.data == NULL && p->dr_w.data == NULL && p->dr_r.data == NULL));
    return (struct op_cost){
        .flops = 2 * products * work,
        .bytes = attention_bytes(&p->fwd) + bytes_of(&p->dout) + bytes_of(&p->dqkv) +
                 bytes_of(&p->dmem) + 2 * bytes_of(&p->drk),
    };
}

static struct op_cost check_attention_tangent(const struct backend *be,
                                              const struct attention_tangent *p)
{
    assert(p->fwd.rows.data == NULL);
    double work = check_scores(be, &p->fwd), products = p->fwd.rk.data != NULL ? 7 : 5;
    int64_t out = tensor_count(&p->fwd.out), qkv = tensor_count(&p->fwd.qkv);
    check_real(be, &p->fwd.lse);
    check_count(be, &p->qkv_t, qkv);
    check_optional(be, &p->out_t, out);
    assert((p->dout.data == NULL) == (p->dout_t.data == NULL));
    if (p->dout.data != NULL) {
        check_count(be, &p->dout, out);
        check_count(be, &p->dout_t, out);
        check_count(be, &p->dqkv, qkv);
        check_count(be, &p->dqkv_t, qkv);
        check_optional(be, &p->dmem_t, tensor_count(&p->fwd.mem));
        check_optional(be, &p->drk_t, tensor_count(&p->fwd.rk));
        check_optional(be, &p->dr_w_t, tensor_count(&p->fwd.r_w));
        check_optional(be, &p->dr_r_t, tensor_count(&p->fwd.r_r));
        products = p->drk_t.data != NULL ? 23 : p->fwd.rk.data != NULL ? 21 : 17;
    }
    return (struct op_cost){.flops = 2 * products * work, .bytes = 2 * attention_bytes(&p->fwd)};
}

ATTENTION_OPS(DEFINE_OP)
