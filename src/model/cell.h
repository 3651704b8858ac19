/* A cell: the function f of the equilibrium z = f(z; x), its memory of earlier segments and its
 * parameters. The equilibrium, the model and the trainer know cells only through this table; a
 * new cell is one file that fills it and one line in model_cell_create (model.c).
 *
 * Life of a segment:
 *   begin -> eval (any number) -> [vjp (any number) -> end_backward] -> remember
 * Life of a step: refresh -> segments -> [finish_gradients].
 */
#ifndef DEQ_MODEL_CELL_H
#define DEQ_MODEL_CELL_H

#include "model/config.h"
#include "model/memory.h"
#include "model/params.h"

/* Where a segment's dropout masks come from: no dropout, drawn, or as they stand in the cell
 * (tests and `verify` put given masks there). */
enum mask_source { MASKS_NONE, MASKS_DRAWN, MASKS_GIVEN };

struct masks {
    enum mask_source source;
    uint64_t seed, draw; /* drawn: the same pair gives the same masks on every device */
};

/* What to plan memory for. */
struct cell_plan {
    int64_t batch, length, mem_len;
    int memories;     /* memories side by side, one in use at a time; at least 1 */
    int tapes;        /* evaluations of f that can be differentiated at once; at least 1 */
    bool train;       /* gradients will be asked for */
    bool keep_states; /* memory holds states and injections, as training needs; else it holds what
                         follows from them under constant weights (keys and values) */
    double dropout, dropatt;
};

struct cell;

struct cell_ops {
    const char *name;
    /* Effective weights from the parameters (weight normalisation); their gradients to zero. */
    void (*refresh)(struct cell *c);
    /* A new segment with embedded tokens e [B,L,D], which stay valid until end_backward: computes
     * everything that is constant during a solve. */
    void (*begin)(struct cell *c, const struct tensor *e, const struct masks *masks);
    /* f <- f(z), both [B,L,W]; keeps in tape `tape` what a vjp needs. f must not be z. */
    void (*eval)(struct cell *c, int tape, const struct tensor *z, const struct tensor *f);
    /* dz <- J^T df for the evaluation in `tape`, with its z and f unchanged since. `full`: also
     * accumulates the gradients of parameters and injection. */
    void (*vjp)(struct cell *c, int tape, const struct tensor *z, const struct tensor *f,
                const struct tensor *df, const struct tensor *dz, bool full);
    /* What the operations of eval and vjp depend on besides their arguments, as solver_set_map_key
     * wants it; constant from begin to remember. NULL: not known. */
    uint64_t (*map_key)(const struct cell *c);
    /* After the vjps of a segment: de [B,L,D] <- gradient of e; injection weights' gradients. */
    void (*end_backward)(struct cell *c, const struct tensor *de);
    /* After the last segment of a step: gradients of effective weights to those of parameters. */
    void (*finish_gradients)(struct cell *c);
    /* Appends the segment's output states h [B,L,W] (and, with stacked blocks, what `tape` holds)
     * to the memory. */
    void (*remember)(struct cell *c, int tape, const struct tensor *h);
    /* All memories become empty. */
    void (*reset_memory)(struct cell *c);
    /* The segments that follow belong to memory number `index`. */
    void (*select_memory)(struct cell *c, int index);
    int64_t (*memory_length)(const struct cell *c);
    /* The memories the cell keeps, for saving and restoring: number `index` from 0, NULL beyond. */
    struct memory *(*memory)(struct cell *c, int index);
    void (*free)(struct cell *c);
};

struct cell {
    const struct cell_ops *ops; /* borrows: a const table */
    struct backend *be;         /* borrows */
    int64_t width;              /* W: numbers of state per position */
    bool tape_remembers;        /* remember needs a tape evaluated at the state it is given */
};

#endif
