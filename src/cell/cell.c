/* The list of cells, and what all of them share. */
#include "cell/cell.h"

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
