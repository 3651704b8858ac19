/* A cell is the function f of the equilibrium z = f(z; x), its memory of earlier segments and its
 * parameters. The equilibrium, the model and the trainer know cells only through this table.
 *
 * A new cell is a folder that fills it, a struct cell_kind and name_cell_resolve, and a line of
 * CELLS (config.h).
 *
 * Life of a segment:
 *   begin -> eval (any number) -> [end_evals -> vjp, vjp_tangent (any number) -> end_backward]
 *   -> remember
 * Life of a step: refresh -> segments -> [finish_gradients].
 */
#ifndef DEQ_CELL_CELL_H
#define DEQ_CELL_CELL_H

#include "cell/memory.h"
#include "config/config.h"
#include "nn/params.h"

/* Where a segment's dropout masks come from. They are not there, drawn, or left as they stand in
 * the cell (tests and `verify` put given masks there). */
enum mask_source { MASKS_NONE, MASKS_DRAWN, MASKS_GIVEN };

struct masks {
    enum mask_source source;
    uint64_t seed, draw; /* the same pair draws the same masks on every device */
    int64_t first; /* number of the first stream here in the whole batch, whose other streams may be
                      elsewhere. Each gets the masks it would get there. */
};

/* What will be asked of a cell. Each mode can do what those before it can. */
enum cell_mode {
    CELL_EVAL,
    CELL_VJP,    /* products with J^T */
    CELL_TRAIN,  /* gradients */
    CELL_TANGENT /* second derivatives, jvp and vjp_tangent */
};

/* What a segment memory holds. */
enum cell_memory {
    MEMORY_KEYS,  /* what follows from states and injections under constant weights */
    MEMORY_STATES /* states and injections, as training needs */
};

/* What to declare buffers for. */
struct cell_plan {
    struct workspace *ws; /* borrows */
    int64_t batch, length, mem_len;
    int memories; /* memories side by side, at least 1, one in use at a time */
    enum cell_mode mode;
    enum cell_memory memory;
    int slots;                   /* evaluations of f that can be differentiated at once */
    int spare_slots;             /* the last ones of them serve in PHASE_GRADIENTS alone */
    struct lifetime later_slots; /* of those between the first and the spare ones */
    enum phase last_eval;        /* after it f is not evaluated and what it reads may be lost. With
                                    PHASE_REMEMBER a segment may also begin once more. */
    enum phase last_head;        /* after it `head` and its vjp are not called */
    bool keep_hidden; /* slots hold all that a full vjp wants, else what is cheap is made again */
    bool rows;        /* eval_rows may be called, if the cell has it */
};

/* When slot number `slot` of a plan is in use. */
struct lifetime cell_slot_life(const struct cell_plan *plan, int slot);
/* When vjps are computed. */
struct lifetime cell_vjp_life(const struct cell_plan *plan);
/* Declares a memory of `rows` positions of `width` numbers for each of plan->memories. *list is
 * owned by the cell and freed with mem_free. STATUS_NOMEM. */
enum status cell_declare_memories(const struct cell_plan *plan, struct memory **list, int64_t rows,
                                  int64_t width, struct error *err);

/* What the model's other layers must know of a cell. */
struct cell_io {
    int64_t input;        /* E, numbers of an embedded token */
    int64_t state;        /* W, numbers of a position's state */
    int64_t output_start; /* the softmax sees numbers [output_start, + output) of a state */
    int64_t output;
    double embed_scale; /* factor of the embedding */
    double dropout_in, dropout_out;
    bool drops_positions; /* output dropout takes whole positions, a published quirk */
    bool head;            /* the softmax sees what `head` of struct cell_ops makes of the state */
};

struct cell;

struct cell_ops {
    /* Fills what lasts from step to step, once the workspace is committed. STATUS_NOMEM. */
    enum status (*init)(struct cell *c, struct error *err);
    /* Effective weights from the parameters (weight normalisation), whose gradients are zero. */
    void (*refresh)(struct cell *c);
    /* Begins a segment with embedded tokens e [B,L,E], which stay valid until `remember` and which
     * the cell may change here. Computes everything that is constant during a solve. */
    void (*begin)(struct cell *c, const struct tensor *e, const struct masks *masks);
    /* f <- f(z), both [B,L,W]. Saves in `slot` the activations that a vjp needs. f must not be z.
     */
    void (*eval)(struct cell *c, int slot, const struct tensor *z, const struct tensor *f);
    /* eval in some rows, after an eval in the same slot at a z that differs in these at most. rows
     * I32 [2,n] holds their rising numbers b*L + t, then their b. Other rows of f stay as they are.
     * The slot then serves no vjp. Called only if selects_rows. */
    void (*eval_rows)(struct cell *c, int slot, const struct tensor *z, const struct tensor *f,
                      const struct tensor *rows);
    /* No eval follows in this segment. NULL in a cell to which that is nothing. */
    void (*end_evals)(struct cell *c);
    /* dz <- J^T df for the evaluation in `slot`, with its z and f unchanged since. With `full` it
     * also accumulates the gradients of parameters and injection. */
    void (*vjp)(struct cell *c, int slot, const struct tensor *z, const struct tensor *f,
                const struct tensor *df, const struct tensor *dz, bool full);
    /* Second derivatives. Both are NULL in a cell that has none. f_t <- J z_t for the evaluation in
     * `slot`, with its z and f unchanged since. */
    void (*jvp)(struct cell *c, int slot, const struct tensor *z, const struct tensor *f,
                const struct tensor *z_t, const struct tensor *f_t);
    /* After jvp with the same arguments, adds the gradient of df . (J z_t), for constant df and
     * z_t, to those of parameters and injection, and writes it to dz_t unless that has no data. */
    void (*vjp_tangent)(struct cell *c, int slot, const struct tensor *z, const struct tensor *f,
                        const struct tensor *z_t, const struct tensor *df,
                        const struct tensor *dz_t);
    /* With io.head, q [B,L,O] <- what the softmax sees of the output state h [B,L,W]. */
    void (*head)(struct cell *c, const struct tensor *h, const struct tensor *q);
    /* dh [B,L,W] <- gradient at h of the last `head`, given that of q, dq [B,L,O], which is lost.
     * Adds those of the head's parameters. */
    void (*head_vjp)(struct cell *c, const struct tensor *h, const struct tensor *dq,
                     const struct tensor *dh);
    /* After the vjps of a segment, de [B,L,E] <- gradient of e. Adds the gradients of the
     * injection's weights. Without an injection de stays as it is. */
    void (*end_backward)(struct cell *c, const struct tensor *de);
    /* After the last segment of a step, turns the gradients of effective weights into those of
     * parameters. */
    void (*finish_gradients)(struct cell *c);
    /* Appends the segment's output states h [B,L,W] (and, with stacked blocks, what `slot` holds)
     * to the memory. */
    void (*remember)(struct cell *c, int slot, const struct tensor *h);
    /* For an explicit network of layers with their own weights (config_is_layered), eval, vjp and
     * remember of layer j alone. NULL in a cell that has none. A slot serves any layer. */
    void (*eval_layer)(struct cell *c, int64_t j, int slot, const struct tensor *z,
                       const struct tensor *f);
    void (*vjp_layer)(struct cell *c, int64_t j, int slot, const struct tensor *z,
                      const struct tensor *f, const struct tensor *df, const struct tensor *dz);
    void (*remember_layer)(struct cell *c, int64_t j, const struct tensor *z);
    /* The segments that follow belong to memory number `index`. */
    void (*select_memory)(struct cell *c, int index);
    int64_t (*memory_length)(const struct cell *c);
    /* The memories the cell keeps, for saving and restoring. Gives number `index` from 0, NULL
     * beyond. */
    struct memory *(*memory)(struct cell *c, int index);
    void (*free)(struct cell *c);
};

struct cell {
    const struct cell_ops *ops; /* borrows a const table */
    struct backend *be;         /* borrows */
    struct cell_io io;
    int64_t width;       /* W, numbers of state per position */
    bool selects_rows;   /* eval_rows costs what its rows cost */
    bool slot_remembers; /* remember needs a slot evaluated at the state it is given */
};

/* What differs between cells in the tables of the vocabulary around them. */
struct cell_vocabulary {
    /* Names of the parameters in the published code of the cell. Formats get a cluster's number. */
    const char *table, *projection, *out_table, *out_bias, *out_projection;
    const char *cluster_rows, *cluster_bias;
    double table_range; /* half width of a uniform start of the tables, or 0 for a normal one */
    bool cluster_rows_start_at_zero;
};

/* The names of Transformer-XL's published code, for any model. */
const struct cell_vocabulary *cell_transformer_xl_vocabulary(const struct config_model *model);

/* A kind of cell, that of model.cell. */
struct cell_kind {
    struct cell_io (*io)(const struct config_model *model);
    const struct cell_vocabulary *(*vocabulary)(const struct config_model *model);
    /* Declares the parameters of f and the injection. */
    enum status (*declare)(struct params *params, const struct config_model *model,
                           struct error *err);
    /* Builds the cell over declared and committed parameters, which it borrows, and declares its
     * buffers in plan->ws. STATUS_NOMEM. */
    enum status (*create)(struct cell **out, const struct params *params,
                          const struct config_model *model, const struct cell_plan *plan,
                          struct error *err);
};

/* A tensor to be declared, if it is wanted. */
struct cell_wish {
    bool wanted;
    struct tensor *t;
    const char *name;
    enum dtype dtype;
    int ndim;
    int64_t dim[TENSOR_MAX_DIMS];
};

enum { CELL_WISHES = 16 };

/* Declares the wanted ones of a list that ends with a wish without a tensor, or is full. `of`
 * begins their names. */
void cell_declare(const struct cell_plan *plan, const struct cell_wish all[CELL_WISHES],
                  const char *of, struct lifetime life, enum memory_part part);

/* All memories of the cell become empty. */
void cell_reset_memory(struct cell *c);

#define CELL_KIND(NAME, name) extern const struct cell_kind name##_cell_kind;
CELLS(CELL_KIND)
#undef CELL_KIND

const struct cell_kind *cell_kind_of(const struct config_model *model);

#endif
