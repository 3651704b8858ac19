#include "nn/embedding.h"

struct clusters embedding_index_clusters(const struct embedding *e)
{
    if (e->div_val != 1)
        return e->clusters;
    struct clusters one = {.count = 1};
    one.end[1] = e->clusters.end[e->clusters.count];
    one.width[0] = e->clusters.width[0];
    return one;
}

void embedding_declare(struct embedding *e, struct workspace *ws, int64_t capacity, bool train)
{
    struct buffer rows = {.name = "rows of an embedding",
                          .dtype = ws->be->ops->real,
                          .ndim = 2,
                          .dim = {capacity, e->clusters.width[0]},
                          .life = lives(PHASE_EMBED, PHASE_EMBED)};
    struct buffer mapped = rows;
    mapped.name = "rows projected";
    mapped.dim[1] = e->d_model;
    if (e->proj[0].w.data == NULL) /* rows are the embedding */
        return;
    workspace_declare(ws, &e->rows, &rows);
    workspace_declare(ws, &e->mapped, &mapped);
    if (!train)
        return;
    rows.life = mapped.life = lives(PHASE_GRADIENTS, PHASE_GRADIENTS);
    workspace_declare(ws, &e->drows, &rows);
    workspace_declare(ws, &e->dmapped, &mapped);
}

static int table_count(const struct embedding *e)
{
    return e->div_val == 1 ? 1 : e->clusters.count;
}

/* Rows to give to the product of n. From BATCH_INVARIANT_ROWS on, where there is room, a token's
 * numbers do not depend on how many others share its table, among them those that come later. What
 * is computed of the rows beyond n, left by an earlier batch, is not used. */
static int64_t rows_to_map(const struct embedding *e, int64_t n)
{
    return n < BATCH_INVARIANT_ROWS && e->rows.dim[0] >= BATCH_INVARIANT_ROWS ? BATCH_INVARIANT_ROWS
                                                                              : n;
}

void embedding_eval(const struct embedding *e, struct backend *be,
                    const struct cluster_index *index, const struct tensor *out)
{
    double scale = e->scale;
    int tables = table_count(e);
    if (tables == 1 && e->proj[0].w.data == NULL) {
        struct tensor local = cluster_local(index, 0);
        op_gather_rows(be, out, &e->table[0].w, &local, scale);
        return;
    }
    op_fill(be, out, 0.0);
    op_graph_break(be); /* how many rows each table gives is another number in every batch */
    for (int i = 0; i < tables; i++) {
        int64_t n = cluster_size(index, i), up = rows_to_map(e, n);
        if (n == 0)
            continue;
        struct tensor pos = cluster_pos(index, i), local = cluster_local(index, i);
        struct tensor rows = tensor_prefix(&e->rows, 2, up, e->table[i].w.dim[1], 1, 1);
        struct tensor mapped = tensor_prefix(&e->mapped, 2, up, e->d_model, 1, 1);
        struct tensor known = tensor_slice(&rows, 0, n), out_rows = tensor_slice(&mapped, 0, n);
        op_gather_rows(be, &known, &e->table[i].w, &local, 1.0);
        weight_apply(be, &e->proj[i], &rows, 0.0, &mapped);
        op_scatter_add_rows(be, out, &out_rows, &pos, scale);
    }
    op_graph_break(be);
}

void embedding_vjp(const struct embedding *e, struct backend *be, const struct cluster_index *index,
                   const struct tensor *dout)
{
    double scale = e->scale;
    int tables = table_count(e);
    if (tables == 1 && e->proj[0].w.data == NULL) {
        struct tensor local = cluster_local(index, 0);
        op_scatter_add_rows(be, &e->table[0].dw, dout, &local, scale);
        return;
    }
    op_graph_break(be);
    for (int i = 0; i < tables; i++) {
        int64_t n = cluster_size(index, i);
        if (n == 0)
            continue;
        struct tensor pos = cluster_pos(index, i), local = cluster_local(index, i);
        struct tensor rows = tensor_prefix(&e->drows, 2, n, e->table[i].w.dim[1], 1, 1);
        struct tensor dmapped = tensor_prefix(&e->dmapped, 2, n, e->d_model, 1, 1);
        op_gather_rows(be, &dmapped, dout, &pos, scale);
        op_gather_rows(be, &rows, &e->table[i].w, &local, 1.0);
        weight_gradient(be, &e->proj[i], &dmapped, &rows);
        weight_vjp(be, &e->proj[i], &dmapped, 0.0, &rows);
        op_scatter_add_rows(be, &e->table[i].dw, &rows, &local, 1.0);
    }
    op_graph_break(be);
}
