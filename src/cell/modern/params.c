/* Names, sizes and first values of the parameters of the modern cell, and the effective weights. */
#include "cell/modern/modern_cell.h"

#include <math.h>
#include <stdio.h>

static const char *const matrix_names[MODERN_MATRICES] = {"attn.qkv.weight", "attn.out.weight",
                                                          "ff.up.weight", "ff.down.weight"};
static const char *const gate_names[MODERN_MATRICES] = {NULL, "attn.gate", NULL, "ff.gate"};

/* Blocks of each kind. */
struct stack {
    const char *name, *part;
    int64_t count;
};

enum { STACKS = 3 };

static void stacks_of(const struct config_model *m, struct stack out[STACKS])
{
    int64_t core = config_is_layered(m) ? m->layers : m->blocks;
    out[0] = (struct stack){"prelude", "prelude", m->prelude};
    out[1] = (struct stack){"func.blocks", "f", core};
    out[2] = (struct stack){"coda", "coda", m->coda};
}

static void matrix_size(const struct config_model *m, int which, int64_t size[2])
{
    int64_t a = m->n_head * m->d_head, wide = a + 2 * m->n_kv_head * m->d_head;
    int64_t up = m->d_inner * activation_inputs(m->ffn);
    const int64_t sizes[MODERN_MATRICES][2] = {
        {wide, m->d_model}, {m->d_model, a}, {up, m->d_model}, {m->d_model, m->d_inner}};
    size[0] = sizes[which][0];
    size[1] = sizes[which][1];
}

/* Queries, keys and values lie in one, and so do what a gated layer multiplies. */
static void mark_matrices(const struct config_model *m, int which, struct param_spec *spec)
{
    const int64_t count[MODERN_MATRICES] = {3, 1, activation_inputs(m->ffn), 1};
    spec->matrices = count[which];
    if (which == 0)
        spec->first_rows = m->n_head * m->d_head; /* there may be fewer keys and values */
}

/* One matrix of a block. */
struct place {
    const struct stack *stack;
    int64_t block;
    int which;
};

/* "STACK.i.NAME". */
static void block_name(char *out, const struct place *at, const char *name, const char *suffix)
{
    snprintf(out, PARAM_NAME_MAX, "%s.%d.%s%s", at->stack->name, (int)at->block, name, suffix);
}

static enum status declare_matrix(struct params *p, const struct config_model *m,
                                  const struct place *at, struct error *err)
{
    const int which = at->which;
    char name[PARAM_NAME_MAX];
    int64_t size[2];
    int v, g;
    matrix_size(m, which, size);
    block_name(name, at, matrix_names[which], m->wnorm ? "_v" : "");
    struct param_spec spec = {.name = name,
                              .part = at->stack->part,
                              .rows = size[0],
                              .cols = size[1],
                              .init = INIT_NORMAL,
                              .scale = m->init_std};
    mark_matrices(m, which, &spec);
    TRY(params_add(p, &spec, &v, err));
    if (m->wnorm) {
        block_name(name, at, matrix_names[which], "_g");
        spec = (struct param_spec){
            .name = name, .part = at->stack->part, .rows = size[0], .init = INIT_ROW_NORM};
        TRY(params_add(p, &spec, &g, err));
        p->list[g].norm_of = v;
    }
    if (m->gate == GATE_NONE || gate_names[which] == NULL)
        return STATUS_OK;
    block_name(name, at, gate_names[which], "");
    spec = (struct param_spec){.name = name,
                               .part = at->stack->part,
                               .rows = m->gate == GATE_CHANNEL ? size[0] : 1,
                               .init = INIT_CONSTANT,
                               .scale = log(m->gate_init / (1 - m->gate_init))};
    return params_add(p, &spec, NULL, err);
}

static enum status declare_injection(struct params *p, const struct config_model *m,
                                     struct error *err)
{
    int64_t d = m->d_model, kv = m->n_kv_head * m->d_head, rows = d;
    if (m->inject == INJECT_ADD || config_is_layered(m))
        return STATUS_OK;
    if (m->inject == INJECT_V)
        rows = kv;
    else if (m->inject == INJECT_QKV)
        rows = m->n_head * m->d_head + 2 * kv;
    struct param_spec spec = {.name = "inject.weight",
                              .part = "injection",
                              .rows = rows,
                              .cols = d,
                              .init = INIT_NORMAL,
                              .scale = m->init_std,
                              .matrices = m->inject == INJECT_QKV ? 3 : 1,
                              .first_rows = m->inject == INJECT_QKV ? rows - 2 * kv : 0};
    TRY(params_add(p, &spec, NULL, err));
    if (m->inject == INJECT_LINEAR) {
        spec.name = "inject.state.weight";
        TRY(params_add(p, &spec, NULL, err));
    }
    if (m->inject == INJECT_DECAY) {
        spec = (struct param_spec){
            .name = "inject.decay", .part = "injection", .rows = d, .init = INIT_ZERO};
        TRY(params_add(p, &spec, NULL, err));
    }
    return STATUS_OK;
}

enum status modern_cell_declare(struct params *p, const struct config_model *m, struct error *err)
{
    struct stack stacks[STACKS];
    stacks_of(m, stacks);
    TRY(declare_injection(p, m, err));
    for (int k = 0; k < STACKS; k++)
        for (int64_t i = 0; i < stacks[k].count; i++)
            for (int which = 0; which < MODERN_MATRICES; which++) {
                const struct place at = {&stacks[k], i, which};
                TRY(declare_matrix(p, m, &at, err));
            }
    return STATUS_OK;
}

static struct weight bound(const struct params *p, const char *name)
{
    int index = params_find(p, name);
    assert(index >= 0);
    return params_weight(p, index);
}

/* Declares the effective weight under a gate. */
static void declare_gate(struct modern_cell *c, struct modern_matrix *w, const struct weight *gate)
{
    const struct cell_plan *p = &c->plan;
    struct buffer b = {.name = "effective weight",
                       .dtype = p->ws->be->ops->real,
                       .ndim = 2,
                       .dim = {w->own.w.dim[0], w->own.w.dim[1]},
                       .life = lives_always(),
                       .part = PART_PARAMETERS};
    w->gate = *gate;
    workspace_declare(p->ws, &w->w.w, &b);
    w->w.dw = w->own.dw;
    b = (struct buffer){.name = "gate",
                        .dtype = b.dtype,
                        .ndim = 1,
                        .dim = {gate->w.dim[0]},
                        .life = lives_always(),
                        .part = PART_PARAMETERS};
    workspace_declare(p->ws, &w->factor, &b);
    b.name = "gradient of a gate";
    b.life = lives(PHASE_UPDATE, PHASE_UPDATE);
    if (p->mode >= CELL_TRAIN)
        workspace_declare(p->ws, &w->dfactor, &b);
}

static void bind_matrix(struct modern_cell *c, struct modern_matrix *w, const struct params *p,
                        const struct config_model *m, const struct place *at)
{
    const int which = at->which;
    char name[PARAM_NAME_MAX];
    block_name(name, at, matrix_names[which], m->wnorm ? "_v" : "");
    w->own = bound(p, name);
    if (m->wnorm) {
        w->normed.v = w->own;
        block_name(name, at, matrix_names[which], "_g");
        w->normed.g = bound(p, name);
        normed_weight_declare(&w->normed, &w->own, c->plan.ws);
    }
    if (m->gate != GATE_NONE && gate_names[which] != NULL) {
        block_name(name, at, gate_names[which], "");
        struct weight gate = bound(p, name);
        declare_gate(c, w, &gate);
    }
}

/* The low-precision value of what products take, which is the effective weight where there is a
 * gate. */
static void declare_low_precision(struct modern_cell *c, struct modern_matrix *w)
{
    struct weight *used = w->gate.w.data != NULL ? &w->w : &w->own;
    weight_declare_low_precision(used, c->plan.ws, 0);
}

void modern_cell_bind(struct modern_cell *c, const struct params *p, const struct config_model *m)
{
    struct stack stacks[STACKS];
    struct modern_cell_block *block = c->block;
    stacks_of(m, stacks);
    for (int k = 0; k < STACKS; k++)
        for (int64_t i = 0; i < stacks[k].count; i++, block++)
            for (int which = 0; which < MODERN_MATRICES; which++) {
                const struct place at = {&stacks[k], i, which};
                bind_matrix(c, &block->w[which], p, m, &at);
                declare_low_precision(c, &block->w[which]);
            }
    if (m->inject == INJECT_ADD || c->layered)
        return;
    c->inject_w = bound(p, "inject.weight");
    if (m->inject == INJECT_LINEAR) {
        c->state_w = bound(p, "inject.state.weight");
        weight_declare_low_precision(&c->state_w, c->plan.ws, 0);
    }
    if (m->inject == INJECT_DECAY)
        c->decay = bound(p, "inject.decay");
}

/* A gate as a factor of the rows of a matrix [1,R,C]. */
static struct tensor gate_mask(const struct tensor *factor)
{
    return tensor_shape(factor, 3, 1, factor->dim[0], 1, 1);
}

static struct tensor matrix3(const struct tensor *t)
{
    return tensor_shape(t, 3, 1, t->dim[0], t->dim[1], 1);
}

static void refresh_matrix(struct backend *be, struct modern_matrix *w)
{
    if (w->normed.v.w.data != NULL)
        normed_weight_refresh(&w->normed, &w->own, be);
    if (w->gate.w.data == NULL) {
        w->w = w->own;
    } else {
        struct tensor to = matrix3(&w->w.w), from = matrix3(&w->own.w);
        struct tensor factor = gate_mask(&w->factor);
        op_sigmoid(be, &w->factor, &w->gate.w);
        op_mul_bcast(be, &to, &from, &factor);
    }
    weight_round(be, &w->w);
}

void modern_cell_refresh(struct cell *base)
{
    struct modern_cell *c = modern_self(base);
    for (int64_t i = 0; i < modern_blocks(c); i++)
        for (int which = 0; which < MODERN_MATRICES; which++)
            refresh_matrix(base->be, &c->block[i].w[which]);
    if (c->state_w.w.data != NULL)
        weight_round(base->be, &c->state_w);
    if (c->decay.w.data != NULL)
        op_sigmoid(base->be, &c->factor, &c->decay.w);
}

/* From the gradient of the effective weight, which lies where that of `own` belongs. */
static void finish_gate(struct backend *be, const struct modern_matrix *w)
{
    bool channel = tensor_count(&w->factor) > 1;
    int64_t rows = channel ? w->own.w.dim[0] : 1, cols = tensor_count(&w->own.w) / rows;
    struct tensor dw = matrix3(&w->own.dw), factor = gate_mask(&w->factor);
    struct row_dots dots = {.dots = tensor_shape(&w->dfactor, 2, rows, 1, 1, 1),
                            .x = tensor_shape(&w->own.dw, 2, rows, cols, 1, 1),
                            .hist = tensor_shape(&w->own.w, 3, 1, rows, cols, 1),
                            .count = 1};
    op_row_dots(be, &dots);
    op_sigmoid_vjp(be, &w->gate.dw, &w->factor, &w->dfactor);
    op_mul_bcast(be, &dw, &dw, &factor);
}

void modern_cell_finish_gradients(struct cell *base)
{
    struct modern_cell *c = modern_self(base);
    for (int64_t i = 0; i < modern_blocks(c); i++)
        for (int which = 0; which < MODERN_MATRICES; which++) {
            const struct modern_matrix *w = &c->block[i].w[which];
            if (w->gate.w.data != NULL)
                finish_gate(base->be, w);
            if (w->normed.v.w.data != NULL)
                normed_weight_vjp(&w->normed, &w->own, base->be);
        }
}
