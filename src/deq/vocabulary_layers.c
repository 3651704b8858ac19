/* Which tables and projections a configuration has, and which of them are shared. */
#include "deq/vocabulary_layers.h"

#include "cell/cell.h"

#include <stdio.h>

static const struct cell_vocabulary *names_of(const struct config_model *m)
{
    return cell_kind_of(m)->vocabulary(m);
}

static struct clusters clusters_of(const struct config_model *m)
{
    struct clusters c;
    clusters_init(&c, m->cutoffs.value, (int)m->cutoffs.count, m->vocab_size, m->d_embed,
                  m->div_val);
    return c;
}

/* Between the tables of width d_embed and the cell's input, and its output. */
static bool projects_in(const struct config_model *m)
{
    return m->div_val > 1 || m->d_embed != cell_kind_of(m)->io(m).input;
}

static bool projects_out(const struct config_model *m)
{
    return m->div_val > 1 || m->d_embed != cell_kind_of(m)->io(m).output;
}

/* Without a list all but the first cluster's projection are tied. Only what is there
 * at both ends, in the same size, can be. */
static bool projection_tied(const struct config_model *m, int i)
{
    struct cell_io io = cell_kind_of(m)->io(m);
    if (!projects_in(m) || !projects_out(m) || io.input != io.output)
        return false;
    if (m->tie_projs.count == 0)
        return i > 0;
    return i < m->tie_projs.count && m->tie_projs.value[i] != 0;
}

/* The embedding's projection that the softmax's projection of cluster i may be tied to. */
static int partner(const struct config_model *m, int i)
{
    return m->div_val > 1 ? i : 0;
}

/* Parameter number i of the format in spec->name. */
static enum status add(struct params *p, int i, const struct param_spec *spec, int *index,
                       struct error *err)
{
    char name[PARAM_NAME_MAX];
    struct param_spec numbered = *spec;
    snprintf(name, sizeof name, spec->name, i);
    numbered.name = name;
    return params_add(p, &numbered, index, err);
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

/* Table number i of an embedding or an output layer. */
static struct param_spec table_spec(const struct config_model *m, const struct clusters *c, int i)
{
    double range = names_of(m)->table_range;
    return (struct param_spec){.rows = table_rows(m, c, i),
                               .cols = c->width[i],
                               .init = range > 0 ? INIT_UNIFORM : INIT_NORMAL,
                               .scale = range > 0 ? range : m->init_std};
}

static enum status declare_embedding(struct params *p, const struct config_model *m,
                                     const struct clusters *c, int projection[CLUSTERS_MAX],
                                     struct error *err)
{
    struct param_spec projecting = {.name = names_of(m)->projection,
                                    .part = "embedding",
                                    .rows = cell_kind_of(m)->io(m).input,
                                    .init = INIT_NORMAL,
                                    .scale = m->proj_init_std};
    for (int i = 0; i < table_count(m, c); i++) {
        struct param_spec table = table_spec(m, c, i);
        table.name = names_of(m)->table;
        table.part = "embedding";
        TRY(add(p, i, &table, NULL, err));
    }
    for (int i = 0; i < table_count(m, c) && projects_in(m); i++) {
        projecting.cols = c->width[i];
        TRY(add(p, i, &projecting, &projection[i], err));
    }
    return STATUS_OK;
}

static enum status declare_out_projections(struct params *p, const struct config_model *m,
                                           const struct clusters *c,
                                           const int projection[CLUSTERS_MAX], struct error *err)
{
    struct param_spec projecting = {.name = names_of(m)->out_projection,
                                    .part = "softmax",
                                    .rows = cell_kind_of(m)->io(m).output,
                                    .init = INIT_NORMAL,
                                    .scale = m->proj_init_std};
    int index;
    for (int i = 0; i < c->count; i++) {
        bool tied = projection_tied(m, i);
        if (tied && !m->compat)
            continue;
        projecting.cols = c->width[i];
        TRY(add(p, i, &projecting, &index, err));
        if (tied)
            p->list[index].alias_of = projection[partner(m, i)];
    }
    return STATUS_OK;
}

/* The clusters behind the first have a row and a bias each in the head. */
static enum status declare_cluster_rows(struct params *p, const struct config_model *m,
                                        const struct clusters *c, struct error *err)
{
    bool zero = names_of(m)->cluster_rows_start_at_zero;
    struct param_spec rows = {.name = names_of(m)->cluster_rows,
                              .part = "softmax",
                              .rows = c->count - 1,
                              .cols = c->width[0],
                              .init = zero ? INIT_ZERO : INIT_NORMAL,
                              .scale = m->init_std};
    struct param_spec bias = {.name = names_of(m)->cluster_bias,
                              .part = "softmax",
                              .rows = c->count - 1,
                              .init = INIT_ZERO};
    TRY(params_add(p, &rows, NULL, err));
    return params_add(p, &bias, NULL, err);
}

enum status vocabulary_layers_declare(struct params *p, const struct config_model *m,
                                      struct error *err)
{
    struct clusters c = clusters_of(m);
    int projection[CLUSTERS_MAX] = {0};
    TRY(declare_embedding(p, m, &c, projection, err));
    for (int i = 0; i < table_count(m, &c); i++) {
        struct param_spec table = table_spec(m, &c, i);
        struct param_spec bias = {.name = names_of(m)->out_bias,
                                  .part = "softmax",
                                  .rows = table.rows,
                                  .init = INIT_ZERO};
        table.name = names_of(m)->out_table;
        table.part = "softmax";
        if (!m->tie_weights)
            TRY(add(p, i, &table, NULL, err));
        TRY(add(p, i, &bias, NULL, err));
    }
    if (projects_out(m))
        TRY(declare_out_projections(p, m, &c, projection, err));
    return c.count > 1 ? declare_cluster_rows(p, m, &c, err) : STATUS_OK;
}

static struct weight find(const struct params *p, const char *format, int i)
{
    char name[PARAM_NAME_MAX];
    snprintf(name, sizeof name, format, i);
    int index = params_find(p, name);
    assert(index >= 0);
    return params_weight(p, index);
}

/* Rows of one cluster out of a table or bias for all, and of its gradient. */
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
    const struct cell_vocabulary *names = names_of(m);
    const char *table = m->tie_weights ? names->table : names->out_table;
    for (int i = 0; i < c->count; i++) {
        s->table[i] = find(p, table, partner(m, i));
        s->bias[i] = find(p, names->out_bias, partner(m, i));
        if (m->div_val == 1) {
            s->table[i] = cluster_part(&s->table[i], c, i);
            s->bias[i] = cluster_part(&s->bias[i], c, i);
        }
        if (!projects_out(m))
            continue;
        bool shared = projection_tied(m, i) && !m->compat;
        s->proj[i] =
            shared ? find(p, names->projection, partner(m, i)) : find(p, names->out_projection, i);
    }
    if (c->count > 1) {
        s->cluster_rows = find(p, names->cluster_rows, 0);
        s->cluster_bias = find(p, names->cluster_bias, 0);
    }
}

enum status vocabulary_layers_create(struct vocabulary_layers *v, const struct params *p,
                                     const struct config_model *m, struct workspace *ws,
                                     const struct vocabulary_plan *plan, struct error *err)
{
    struct embedding *e = &v->embedding;
    *v = (struct vocabulary_layers){0};
    e->clusters = v->softmax.clusters = clusters_of(m);
    struct cell_io io = cell_kind_of(m)->io(m);
    e->d_model = io.input;
    v->softmax.d_model = io.output;
    e->scale = io.embed_scale;
    e->div_val = m->div_val;
    for (int i = 0; i < table_count(m, &e->clusters); i++) {
        e->table[i] = find(p, names_of(m)->table, i);
        if (projects_in(m))
            e->proj[i] = find(p, names_of(m)->projection, i);
    }
    v->softmax.chunk_numbers = p->be->ops->chunk_numbers;
    bind_softmax(&v->softmax, p, m);
    struct lifetime loss = lives(PHASE_LOSS, plan->last_loss);
    embedding_declare(e, ws, plan->capacity, plan->train);
    TRY(adaptive_softmax_create(&v->softmax, ws, plan->capacity, loss, plan->train, err));
    TRY(cluster_index_create(&v->input, ws, plan->capacity, lives(PHASE_EMBED, PHASE_GRADIENTS),
                             err));
    return cluster_index_create(&v->target, ws, plan->capacity, loss, err);
}

void vocabulary_layers_free(struct vocabulary_layers *v)
{
    adaptive_softmax_free(&v->softmax);
    cluster_index_free(&v->input);
    cluster_index_free(&v->target);
}
