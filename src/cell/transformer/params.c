/* Names, sizes and first values of the parameters of the transformer cell. */
#include "cell/transformer/transformer_cell.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const matrix_names[NORMED_WEIGHTS] = {
    "dec_attn.qkv_net.weight", "dec_attn.r_net.weight", "dec_attn.o_net.weight",
    "pos_ff.ff1_net.weight",   "pos_ff.ff2_net.weight",
};
/* Those in front of it are convolutions of one tap in the published code. */
enum { FIRST_LINEAR = 3 };
/* Queries, keys and values lie in one. */
static const int64_t matrix_stack[NORMED_WEIGHTS] = {3, 1, 1, 1, 1};

int64_t transformer_cell_blocks(const struct config_model *m)
{
    return config_is_layered(m) ? m->layers : m->blocks;
}

/* The name of a parameter of block j: "func.NAME" for a single block, as published, else
 * "func.blocks.j.NAME"; `suffix` is appended. */
static void block_name(char *out, const struct config_model *m, int64_t j, const char *name,
                       const char *suffix)
{
    if (transformer_cell_blocks(m) == 1)
        snprintf(out, PARAM_NAME_MAX, "func.%s%s", name, suffix);
    else
        snprintf(out, PARAM_NAME_MAX, "func.blocks.%d.%s%s", (int)j, name, suffix);
}

static void inject_name(char *out, const struct config_model *m, int64_t j, const char *name)
{
    if (m->blocks == 1)
        snprintf(out, PARAM_NAME_MAX, "inject_conv.%s", name);
    else
        snprintf(out, PARAM_NAME_MAX, "inject_conv.%d.%s", (int)j, name);
}

static void matrix_sizes(const struct config_model *m, int which, int64_t size[2])
{
    const int64_t d = m->d_model, i = m->d_inner;
    const int64_t sizes[NORMED_WEIGHTS][2] = {{3 * d, d}, {d, d}, {d, d}, {i, d}, {d, i}};
    size[0] = sizes[which][0];
    size[1] = sizes[which][1];
}

static enum status declare_matrix(struct params *p, const struct config_model *m, int64_t j,
                                  int which, struct error *err)
{
    char name[PARAM_NAME_MAX];
    int64_t size[2];
    int v, g;
    matrix_sizes(m, which, size);
    struct param_spec matrix = {.name = name,
                                .part = "f",
                                .rows = size[0],
                                .cols = size[1],
                                .init = INIT_NORMAL,
                                .scale = m->init_std,
                                .taps = which < FIRST_LINEAR ? 1 : 0,
                                .matrices = matrix_stack[which]};
    struct param_spec gain = {.name = name, .part = "f", .rows = size[0], .init = INIT_ROW_NORM};
    block_name(name, m, j, matrix_names[which], m->wnorm ? "_v" : "");
    if (!m->wnorm)
        return params_add(p, &matrix, NULL, err);
    if (m->compat) { /* normalised matrices keep the framework's default, a published quirk */
        matrix.init = INIT_UNIFORM;
        matrix.scale = 1.0 / sqrt((double)size[1]);
    }
    TRY(params_add(p, &matrix, &v, err));
    block_name(name, m, j, matrix_names[which], "_g");
    TRY(params_add(p, &gain, &g, err));
    p->list[g].norm_of = v;
    return STATUS_OK;
}

/* A small parameter of a block with its name, sizes and first values. */
struct vector_spec {
    const char *name;
    int64_t rows, cols; /* a vector has 0 */
    enum param_init init;
    bool only_rms;
};

enum {
    VECTORS = 7,
    VEC_O_BIAS = 0,
    VEC_FF1_BIAS,
    VEC_FF2_BIAS,
    VEC_R_W,
    VEC_R_R,
    VEC_ATTN_GAIN,
    VEC_FF_GAIN
};

static void vector_specs(const struct config_model *m, struct vector_spec spec[VECTORS])
{
    const struct vector_spec all[VECTORS] = {
        {"dec_attn.o_net.bias", m->d_model, 0, INIT_ZERO, false},
        {"pos_ff.ff1_net.bias", m->d_inner, 0, INIT_ZERO, false},
        {"pos_ff.ff2_net.bias", m->d_model, 0, INIT_ZERO, false},
        {"dec_attn.r_w_bias", m->n_head, m->d_head, INIT_NORMAL, false},
        {"dec_attn.r_r_bias", m->n_head, m->d_head, INIT_NORMAL, false},
        {"dec_attn.norm.gain", m->d_model, 0, INIT_ONE, true},
        {"pos_ff.norm.gain", m->d_model, 0, INIT_ONE, true},
    };
    memcpy(spec, all, sizeof all);
}

static enum status declare_injection(struct params *p, const struct config_model *m, int64_t j,
                                     struct error *err)
{
    char name[PARAM_NAME_MAX];
    struct param_spec weight = {.name = name,
                                .part = "injection",
                                .rows = 3 * m->d_model,
                                .cols = m->d_model,
                                .init = INIT_NORMAL,
                                .scale = m->init_std,
                                .taps = 1,
                                .matrices = 3};
    struct param_spec bias = {
        .name = name, .part = "injection", .rows = 3 * m->d_model, .init = INIT_ZERO};
    inject_name(name, m, j, "weight");
    TRY(params_add(p, &weight, NULL, err));
    inject_name(name, m, j, "bias");
    return params_add(p, &bias, NULL, err);
}

enum status transformer_cell_declare(struct params *p, const struct config_model *m,
                                     struct error *err)
{
    struct vector_spec spec[VECTORS];
    char name[PARAM_NAME_MAX];
    vector_specs(m, spec);
    for (int64_t j = 0; j < transformer_cell_blocks(m); j++) {
        for (int i = 0; i < NORMED_WEIGHTS; i++)
            TRY(declare_matrix(p, m, j, i, err));
        for (int i = 0; i < VECTORS; i++) {
            if (spec[i].only_rms && m->norm != NORM_RMS)
                continue;
            block_name(name, m, j, spec[i].name, "");
            const struct param_spec vector = {.name = name,
                                              .part = "f",
                                              .rows = spec[i].rows,
                                              .cols = spec[i].cols,
                                              .init = spec[i].init,
                                              .scale = m->init_std};
            TRY(params_add(p, &vector, NULL, err));
        }
        if (!config_is_layered(m)) /* else the first layer's input is the embedding itself */
            TRY(declare_injection(p, m, j, err));
    }
    return STATUS_OK;
}

static struct weight bound(const struct params *p, const char *name)
{
    int index = params_find(p, name);
    assert(index >= 0);
    return params_weight(p, index);
}

static void bind_matrix(struct transformer_cell *c, struct transformer_cell_block *b,
                        const struct params *p, const struct config_model *m, int64_t j, int which)
{
    struct weight *const target[NORMED_WEIGHTS] = {&b->w.qkv, &b->w.r, &b->w.o, &b->w.ff1,
                                                   &b->w.ff2};
    char name[PARAM_NAME_MAX];
    if (!m->wnorm) {
        block_name(name, m, j, matrix_names[which], "");
        *target[which] = bound(p, name);
        return;
    }
    struct normed_weight *n = &b->normed[which];
    block_name(name, m, j, matrix_names[which], "_v");
    n->v = bound(p, name);
    block_name(name, m, j, matrix_names[which], "_g");
    n->g = bound(p, name);
    normed_weight_declare(n, target[which], c->plan.ws);
}

/* Their low-precision values. That of W_1 has padding for masks of all sequences. */
static void declare_low_precision(struct transformer_cell *c, struct transformer_cell_block *b)
{
    struct weight *const all[] = {&b->w.qkv, &b->w.r, &b->w.o, &b->w.ff2};
    bool masked = c->plan.mode >= CELL_TRAIN && c->shape.dropout > 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        weight_declare_low_precision(all[i], c->plan.ws, 0);
    weight_declare_low_precision(&b->w.ff1, c->plan.ws,
                                 op_ffn_up_padding(c->base.be, masked ? c->plan.batch : 0));
}

void transformer_cell_bind(struct transformer_cell *c, const struct params *p,
                           const struct config_model *m, int64_t j)
{
    struct transformer_cell_block *b = &c->block[j];
    struct weight *const target[VECTORS] = {&b->w.o_bias, &b->w.ff1_bias, &b->w.ff2_bias,
                                            &b->w.r_w,    &b->w.r_r,      &b->w.attn_gain,
                                            &b->w.ff_gain};
    struct vector_spec spec[VECTORS];
    char name[PARAM_NAME_MAX];
    vector_specs(m, spec);
    for (int i = 0; i < NORMED_WEIGHTS; i++)
        bind_matrix(c, b, p, m, j, i);
    declare_low_precision(c, b);
    for (int i = 0; i < VECTORS; i++) {
        if (spec[i].only_rms && m->norm != NORM_RMS)
            continue;
        block_name(name, m, j, spec[i].name, "");
        *target[i] = bound(p, name);
    }
    if (config_is_layered(m))
        return;
    inject_name(name, m, j, "weight");
    b->inject = bound(p, name);
    inject_name(name, m, j, "bias");
    b->inject_bias = bound(p, name);
}
