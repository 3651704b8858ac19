/* The list of cells, and what all of them share. */
#include "cell/cell.h"

#include "base/mem.h"
#include <stdio.h>

struct lifetime cell_slot_life(const struct cell_plan *p, int slot)
{
    if (slot >= p->slots - p->spare_slots)
        return lives(PHASE_GRADIENTS, PHASE_GRADIENTS);
    return slot > 0 ? p->later_slots : lives(PHASE_FORWARD, PHASE_REMEMBER);
}

struct lifetime cell_vjp_life(const struct cell_plan *p)
{
    return p->mode == CELL_VJP ? lives(PHASE_OUTPUT, PHASE_REMEMBER)
                               : lives(PHASE_BACKWARD, PHASE_GRADIENTS);
}

void cell_declare(const struct cell_plan *p, const struct cell_wish all[CELL_WISHES],
                  const char *of, struct lifetime life, enum memory_part part)
{
    char name[BUFFER_NAME_MAX];
    struct buffer b = {.name = name, .life = life, .part = part};
    for (int i = 0; i < CELL_WISHES && all[i].t != NULL; i++) {
        snprintf(name, sizeof name, "%s: %s", of, all[i].name);
        b.dtype = all[i].dtype;
        b.ndim = all[i].ndim;
        for (int k = 0; k < b.ndim; k++)
            b.dim[k] = all[i].dim[k];
        if (all[i].wanted)
            workspace_declare(p->ws, all[i].t, &b);
    }
}

enum status cell_declare_memories(const struct cell_plan *p, struct memory **list, int64_t rows,
                                  int64_t width, struct error *err)
{
    TRY(mem_alloc((void **)list, (size_t)p->memories, sizeof **list, err));
    for (int i = 0; i < p->memories; i++)
        memory_declare(&(*list)[i], p->ws, p->batch, rows, width);
    return STATUS_OK;
}

void cell_reset_memory(struct cell *c)
{
    struct memory *m;
    for (int i = 0; (m = c->ops->memory(c, i)) != NULL; i++)
        memory_reset(m);
}

const struct cell_kind *cell_kind_of(const struct config_model *model)
{
    static const struct cell_kind *const kinds[] = {
#define KIND(NAME, name) [CELL_##NAME] = &name##_cell_kind,
        CELLS(KIND)
#undef KIND
    };
    assert((size_t)model->cell < sizeof kinds / sizeof *kinds);
    return kinds[model->cell];
}

const struct cell_vocabulary *cell_transformer_xl_vocabulary(const struct config_model *model)
{
    static const struct cell_vocabulary names = {
        .table = "word_emb.emb_layers.%d.weight",
        .projection = "word_emb.emb_projs.%d.weight",
        .out_table = "crit.out_layers.%d.weight",
        .out_bias = "crit.out_layers.%d.bias",
        .out_projection = "crit.out_projs.%d.weight",
        .cluster_rows = "crit.cluster_weight",
        .cluster_bias = "crit.cluster_bias",
    };
    (void)model;
    return &names;
}
