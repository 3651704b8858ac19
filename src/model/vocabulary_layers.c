#include "model/vocabulary_layers.h"

#include <stdio.h>

static const char TABLE[] = "word_emb.emb_layers.%d.weight";
static const char PROJECTION[] = "word_emb.emb_projs.%d.weight";
static const char OUT_TABLE[] = "crit.out_layers.%d.weight";
static const char OUT_BIAS[] = "crit.out_layers.%d.bias";
static const char OUT_PROJECTION[] = "crit.out_projs.%d.weight";
static const char CLUSTER_ROWS[] = "crit.cluster_weight";
static const char CLUSTER_BIAS[] = "crit.cluster_bias";

static struct clusters clusters_of(const struct config_model *m)
{
    struct clusters c;
    clusters_init(&c, m->cutoffs.value, (int)m->cutoffs.count, m->vocab_size, m->d_embed,
                  m->div_val);
    return c;
}

static bool has_projections(const struct config_model *m)
{
    return m->div_val > 1 || m->d_embed != m->d_model;
}

/* Without a list, as published: all but the first cluster's projection are tied. */
static bool projection_tied(const struct config_model *m, int i)
{
    if (m->tie_projs.count == 0)
        return i > 0;
    return i < m->tie_projs.count && m->tie_projs.value[i] != 0;
}

/* The embedding's projection that the softmax's projection of cluster i may be tied to. */
static int partner(const struct config_model *m, int i)
{
    return m->div_val > 1 ? i : 0;
}

static enum status add(struct params *p, const char *format, int i, const char *part, int64_t d0,
                       int64_t d1, double std, int *index, struct error *err)
{
    char name[PARAM_NAME_MAX];
    snprintf(name, sizeof name, format, i);
    enum param_init init = std > 0 ? INIT_NORMAL : INIT_ZERO;
    return params_add(p, name, part, d1 == 0 ? 1 : 2, d0, d1 == 0 ? 1 : d1, init, std, index, err);
}

/* With div_val 1 the tables of all clusters are one, likewise the biases. */
static int table_count(const struct config_model *m, const struct clusters *c)
{
    return m->div_val > 1 ? c->count : 1;
}

static int64_t table_rows(const struct config_model *m, const struct clusters *c, int i)
{
    return m->div_val > 1 ? c->end[i + 1] - c->end[i] : m->vocab_size;
}

static enum status declare_embedding(struct params *p, const struct config_model *m,
                                     const struct clusters *c, int projection[CLUSTERS_MAX],
                                     struct error *err)
{
    int index;
    for (int i = 0; i < table_count(m, c); i++)
        TRY(add(p, TABLE, i, "embedding", table_rows(m, c, i), c->width[i], m->init_std, &index,
                err));
    for (int i = 0; i < table_count(m, c) && has_projections(m); i++)
        TRY(add(p, PROJECTION, i, "embedding", m->d_model, c->width[i], m->proj_init_std,
                &projection[i], err));
    return STATUS_OK;
}

static enum status declare_out_projections(struct params *p, const struct config_model *m,
                                           const struct clusters *c,
                                           const int projection[CLUSTERS_MAX], struct error *err)
{
    int index;
    for (int i = 0; i < c->count; i++) {
        bool tied = projection_tied(m, i);
        if (tied && !m->compat)
            continue;
        TRY(add(p, OUT_PROJECTION, i, "softmax", m->d_model, c->width[i], m->proj_init_std, &index,
                err));
        if (tied)
            p->list[index].alias_of = projection[partner(m, i)];
    }
    return STATUS_OK;
}

enum status vocabulary_layers_declare(struct params *p, const struct config_model *m,
                                      struct error *err)
{
    struct clusters c = clusters_of(m);
    int projection[CLUSTERS_MAX] = {0}, index;
    TRY(declare_embedding(p, m, &c, projection, err));
    for (int i = 0; i < table_count(m, &c); i++) {
        if (!m->tie_weights)
            TRY(add(p, OUT_TABLE, i, "softmax", table_rows(m, &c, i), c.width[i], m->init_std,
                    &index, err));
        TRY(add(p, OUT_BIAS, i, "softmax", table_rows(m, &c, i), 0, 0, &index, err));
    }
    if (has_projections(m))
        TRY(declare_out_projections(p, m, &c, projection, err));
    if (c.count == 1)
        return STATUS_OK;
    TRY(add(p, CLUSTER_ROWS, 0, "softmax", c.count - 1, c.width[0], m->init_std, &index, err));
    return add(p, CLUSTER_BIAS, 0, "softmax", c.count - 1, 0, 0, &index, err);
}

static struct weight find(const struct params *p, const char *format, int i)
{
    char name[PARAM_NAME_MAX];
    snprintf(name, sizeof name, format, i);
    int index = params_find(p, name);
    assert(index >= 0);
    return params_weight(p, index);
}

/* Rows of one cluster out of a table or bias for all; gradients alike. */
static struct weight cluster_part(const struct weight *all, const struct clusters *c, int i)
{
    int64_t start = c->end[i], count = c->end[i + 1] - start;
    struct weight part = {.w = tensor_slice(&all->w, start, count)};
    if (all->dw.data != NULL)
        part.dw = tensor_slice(&all->dw, start, count);
    return part;
}

static void bind_softmax(struct adaptive_softmax *s, const struct params *p,
                         const struct config_model *m)
{
    const struct clusters *c = &s->clusters;
    const char *table = m->tie_weights ? TABLE : OUT_TABLE;
    for (int i = 0; i < c->count; i++) {
        s->table[i] = find(p, table, partner(m, i));
        s->bias[i] = find(p, OUT_BIAS, partner(m, i));
        if (m->div_val == 1) {
            s->table[i] = cluster_part(&s->table[i], c, i);
            s->bias[i] = cluster_part(&s->bias[i], c, i);
        }
        if (!has_projections(m))
            continue;
        bool shared = projection_tied(m, i) && !m->compat;
        s->proj[i] = shared ? find(p, PROJECTION, partner(m, i)) : find(p, OUT_PROJECTION, i);
    }
    if (c->count > 1) {
        s->cluster_rows = find(p, CLUSTER_ROWS, 0);
        s->cluster_bias = find(p, CLUSTER_BIAS, 0);
    }
}

enum status vocabulary_layers_create(struct vocabulary_layers *v, const struct params *p,
                                     const struct config_model *m, int64_t capacity,
                                     struct error *err)
{
    struct embedding *e = &v->embedding;
    *v = (struct vocabulary_layers){0};
    e->clusters = v->softmax.clusters = clusters_of(m);
    e->d_model = v->softmax.d_model = m->d_model;
    e->div_val = m->div_val;
    for (int i = 0; i < table_count(m, &e->clusters); i++) {
        e->table[i] = find(p, TABLE, i);
        if (has_projections(m))
            e->proj[i] = find(p, PROJECTION, i);
    }
    v->softmax.chunk_numbers = p->be->ops->chunk_numbers;
    bind_softmax(&v->softmax, p, m);
    TRY(embedding_create(e, p->be, capacity, err));
    TRY(adaptive_softmax_create(&v->softmax, p->be, capacity, err));
    TRY(cluster_index_create(&v->input, p->be, capacity, err));
    return cluster_index_create(&v->target, p->be, capacity, err);
}

void vocabulary_layers_free(struct vocabulary_layers *v, struct backend *be)
{
    embedding_free(&v->embedding, be);
    adaptive_softmax_free(&v->softmax, be);
    cluster_index_free(&v->input, be);
    cluster_index_free(&v->target, be);
}
