/* The doors to the table: attention and gates. */
#include "backend/op_checks.h"

/* Checks an attention call; returns D times the number of scores. */
static double check_attention(const struct backend *be, const struct attention *p)
{
    check_real(be, &p->qkv);
    check_real(be, &p->rk);
    assert(p->qkv.ndim == 3 && p->qkv.dim[2] % 3 == 0);
    int64_t b = p->qkv.dim[0], l = p->qkv.dim[1], d = p->qkv.dim[2] / 3;
    int64_t mem = p->mem.data == NULL ? 0 : p->mem.dim[1];
    assert(p->heads > 0 && d % p->heads == 0);
    if (mem > 0)
        check_count(be, &p->mem, b * mem * 3 * d);
    check_count(be, &p->r_w, d);
    check_count(be, &p->r_r, d);
    check_count(be, &p->out, b * l * d);
    check_optional(be, &p->lse, b * p->heads * l);
    int64_t reach = p->span > 0 && p->span < mem + l ? p->span : mem + l;
    assert(p->rk.ndim == 2 && p->rk.dim[0] >= reach && p->rk.dim[1] == d);
    if (p->mask.data != NULL)
        assert(p->mask.dtype == DTYPE_U8 && tensor_count(&p->mask) == b * p->heads * l * (mem + l));
    /* keys that a query really sees, averaged: P + (L+1)/2 without a span */
    double seen = (double)mem + 0.5 * (double)(l + 1);
    double queries = (double)b * (double)l;
    if (p->rows.data != NULL) {
        check_index(&p->rows, p->rows.dim[0]);
        queries = (double)p->rows.dim[0];
    }
    return queries * (double)d * (seen < (double)reach ? seen : (double)reach);
}

/* What either direction moves of it; of `mem` the q part is ignored. */
static double attention_bytes(const struct attention *p)
{
    return bytes_of(&p->qkv) + bytes_of(&p->mem) * 2 / 3 + bytes_of(&p->rk) + bytes_of(&p->mask) +
           bytes_of(&p->out);
}

void op_attention(struct backend *be, const struct attention *p)
{
    double work = check_attention(be, p);
    PROFILE(OP_attention, 6 * work, attention_bytes(p), be->ops->attention(be, p));
}

void op_attention_vjp(struct backend *be, const struct attention_vjp *p)
{
    assert(p->fwd.rows.data == NULL);
    double work = check_attention(be, &p->fwd);
    check_real(be, &p->fwd.lse);
    check_count(be, &p->dout, tensor_count(&p->fwd.out));
    check_count(be, &p->dqkv, tensor_count(&p->fwd.qkv));
    check_optional(be, &p->dmem, tensor_count(&p->fwd.mem));
    check_optional(be, &p->drk, tensor_count(&p->fwd.rk));
    check_optional(be, &p->dr_w, tensor_count(&p->fwd.r_w));
    check_optional(be, &p->dr_r, tensor_count(&p->fwd.r_r));
    /* scores (2 products), dA, dV, dQ (2), dK; drk on top when wanted */
    double products = p->drk.data != NULL ? 8 : 7;
    double bytes = attention_bytes(&p->fwd) + bytes_of(&p->dout) + bytes_of(&p->dqkv) +
                   bytes_of(&p->dmem) + 2 * bytes_of(&p->drk);
    PROFILE(OP_attention_vjp, 2 * products * work, bytes, be->ops->attention_vjp(be, p));
}

void op_attention_tangent(struct backend *be, const struct attention_tangent *p)
{
    assert(p->fwd.rows.data == NULL);
    double work = check_attention(be, &p->fwd), products = 7;
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
        products = p->drk_t.data != NULL ? 23 : 21;
    }
    PROFILE(OP_attention_tangent, 2 * products * work, 2 * attention_bytes(&p->fwd),
            be->ops->attention_tangent(be, p));
}

/* Sizes that both directions of the gate share; z, c0 and `out` of either. */
static void check_gate(const struct backend *be, const struct tensor *rows, const struct tensor *z,
                       const struct tensor *c0, const struct tensor *out)
{
    check_real(be, rows);
    assert(rows->ndim == 3 && z->ndim == 3);
    assert(rows->dim[0] == z->dim[0] && rows->dim[1] >= z->dim[1]);
    assert(z->dim[2] % 2 == 0 && rows->dim[2] == 2 * z->dim[2]);
    check_real(be, z);
    check_count(be, out, tensor_count(z));
    check_optional(be, c0, z->dim[0] * z->dim[2] / 2);
}

void op_lstm_cell(struct backend *be, const struct lstm_cell *p)
{
    check_gate(be, &p->pre, &p->z, &p->c0, &p->out);
    check_count(be, &p->u, tensor_count(&p->pre));
    check_count(be, &p->bias, p->pre.dim[2]);
    PROFILE(OP_lstm_cell, 0, 3 * bytes_of(&p->pre) + 1.5 * bytes_of(&p->out),
            be->ops->lstm_cell(be, p));
}

void op_lstm_cell_vjp(struct backend *be, const struct lstm_cell_vjp *p)
{
    check_gate(be, &p->gates, &p->z, &p->c0, &p->out);
    check_count(be, &p->dpre, tensor_count(&p->gates));
    check_count(be, &p->dout, tensor_count(&p->z));
    check_count(be, &p->dz, tensor_count(&p->z));
    check_optional(be, &p->dc0, p->z.dim[0] * p->z.dim[2] / 2);
    PROFILE(OP_lstm_cell_vjp, 0, 2 * bytes_of(&p->gates) + 2.5 * bytes_of(&p->out),
            be->ops->lstm_cell_vjp(be, p));
}
