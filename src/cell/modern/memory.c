/* The segment memory of the modern cell, which holds keys and values as they leave the projection.
 */
#include "cell/modern/modern_cell.h"

/* Numbers of k and v in a row. */
static int64_t kv_width(const struct modern_shape *s)
{
    return s->wide - s->attn;
}

void modern_cell_begin_memory(struct modern_cell *c, int64_t i, const struct tensor *mem_qkv)
{
    struct modern_cell_block *b = &c->block[i];
    const struct modern_shape *s = &c->shape;
    struct tensor rows = memory_view(&b->mem[c->now]);
    b->input.mem_qkv = (struct tensor){0};
    if (rows.data == NULL)
        return;
    b->input.mem_qkv = tensor_cut(mem_qkv, &rows);
    struct heads p = {.x = tensor_matrix(&rows),
                      .turn = c->turn,
                      .qkv = tensor_matrix(&b->input.mem_qkv),
                      .length = rows.dim[1],
                      .heads = s->heads,
                      .groups = s->groups,
                      .norm = s->qk_norm,
                      .eps = s->eps};
    if (!s->rope)
        p.turn.data = NULL;
    op_heads(c->base.be, &p);
}

static void push(struct modern_cell *c, int64_t i, int64_t batch, int64_t length)
{
    struct tensor kv = tensor_prefix(&c->remember_kv, 3, batch, length, kv_width(&c->shape), 1);
    memory_push(&c->block[i].mem[c->now], c->base.be, &kv, &c->kept);
}

/* to [N,2Gh] <- the columns of k and v of x [N,X]. */
static void copy_kv(struct modern_cell *c, const struct tensor *x, const struct tensor *to)
{
    const struct modern_shape *s = &c->shape;
    int64_t n = to->dim[0], width = to->dim[1];
    struct copy_block p = {.to = tensor_shape(to, 3, 1, n, width, 1),
                           .from = tensor_prefix(x, 3, 1, n, width, 1),
                           .from_row = s->wide};
    p.from.data = (char *)x->data + (size_t)s->attn * dtype_size(x->dtype);
    op_copy_block(c->base.be, &p);
}

/* Remembers what a slot holds. */
static void remember_saved(struct modern_cell *c, int64_t i, int slot, const struct tensor *like)
{
    int64_t n = like->dim[0] * like->dim[1];
    struct tensor x = modern_rows(&modern_saved(c, i, slot)->x, n);
    struct tensor kv = tensor_prefix(&c->remember_kv, 2, n, kv_width(&c->shape), 1, 1);
    copy_kv(c, &x, &kv);
    push(c, i, like->dim[0], like->dim[1]);
}

/* Remembers the keys and values of block i at the input z [B,L,D]. What the slot holds is lost. */
static void remember_input(struct modern_cell *c, int64_t i, int slot, const struct tensor *z)
{
    const struct modern_shape *s = &c->shape;
    const struct weight *w = &c->block[i].w[MODERN_QKV].w;
    struct tensor zm = tensor_matrix(z), h, n1;
    struct tensor kv = tensor_prefix(&c->remember_kv, 2, zm.dim[0], kv_width(s), 1, 1);
    struct modern_call call = modern_call_of(c, i, slot);
    struct modern_scratch scratch = {.h = c->remember_h};
    const struct tensor *u = &call.in->u;
    bool added = call.in->entry == ENTRY_QKV;
    call.scratch = &scratch;
    modern_enter(&call, &zm, u, &h, &n1);
    if (added)
        copy_kv(c, u, &kv);
    struct gemm p = {.trans_b = true,
                     .b_padded = true,
                     .alpha = 1,
                     .beta = added ? 1 : 0,
                     .a = n1,
                     .b = weight_factor(w),
                     .c = kv,
                     .b_stride = w->stride};
    int64_t stride = w->stride > 0 ? w->stride : p.b.dim[1];
    p.b.data = (char *)p.b.data + (size_t)(s->attn * stride) * dtype_size(p.b.dtype);
    p.b.dim[0] = kv.dim[1];
    op_gemm(c->base.be, &p);
    push(c, i, z->dim[0], z->dim[1]);
}

void modern_cell_remember(struct cell *base, int slot, const struct tensor *h)
{
    struct modern_cell *c = modern_self(base);
    if (c->plan.mem_len == 0)
        return;
    for (int64_t i = 0; i < modern_blocks(c); i++) {
        if (i == c->prelude)
            remember_input(c, i, slot, h);
        else
            remember_saved(c, i, slot, h);
    }
}

void modern_cell_remember_layer(struct cell *base, int64_t j, const struct tensor *z)
{
    if (modern_self(base)->plan.mem_len > 0)
        remember_input(modern_self(base), j, 0, z);
}

void modern_cell_select_memory(struct cell *base, int index)
{
    assert(index >= 0 && index < modern_self(base)->plan.memories);
    modern_self(base)->now = index;
}

int64_t modern_cell_memory_length(const struct cell *base)
{
    const struct modern_cell *c = modern_self(base);
    return c->block[0].mem[c->now].count;
}

struct memory *modern_cell_memory(struct cell *base, int index)
{
    struct modern_cell *c = modern_self(base);
    int each = (int)modern_blocks(c);
    if (index >= each * c->plan.memories)
        return NULL;
    return &c->block[index % each].mem[index / each];
}
