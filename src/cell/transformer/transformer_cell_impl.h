/* Shared by the parts of the transformer cell: parameters, building, running. */
#ifndef DEQ_CELL_TRANSFORMER_TRANSFORMER_CELL_IMPL_H
#define DEQ_CELL_TRANSFORMER_TRANSFORMER_CELL_IMPL_H

#include "cell/transformer/transformer_cell.h"

extern const struct cell_ops transformer_cell_ops;

/* Input of block j in tape `tape`, given the cell's own input; output, given its own output. */
struct tensor transformer_cell_block_in(const struct transformer_cell *c, int64_t j, int tape,
                                        const struct tensor *z);
struct tensor transformer_cell_block_out(const struct transformer_cell *c, int64_t j, int tape,
                                         const struct tensor *f);
/* Block j in the current segment, with its part of tape `tape`. */
struct block_call transformer_cell_call(const struct transformer_cell *c, int64_t j, int tape);
/* Where a full vjp of block j for rows of shape z [B,L,D] leaves the gradients of its inputs. */
struct block_grads transformer_cell_grads(const struct transformer_cell *c, int64_t j,
                                          const struct tensor *z);
/* transformer_cell_tangent.c: entries of the table. */
void transformer_cell_jvp(struct cell *base, int tape, const struct tensor *z,
                          const struct tensor *f, const struct tensor *z_t,
                          const struct tensor *f_t);
void transformer_cell_vjp_tangent(struct cell *base, int tape, const struct tensor *z,
                                  const struct tensor *f, const struct tensor *z_t,
                                  const struct tensor *df, const struct tensor *dz_t);

void transformer_cell_free(struct cell *base);

/* The tape of block j in evaluations with `tape`. */
static inline struct block_tape *transformer_cell_tape(const struct transformer_cell *c, int64_t j,
                                                       int tape)
{
    return &c->tapes[c->layered ? tape : tape * c->blocks + j];
}

/* transformer_cell_memory.c. Queries, keys and values of the memory of block b, into its input. */
void transformer_cell_begin_memory(struct transformer_cell *c, struct transformer_cell_block *b,
                                   int64_t tape);
/* The gain of a norm over memory states of block j is a parameter too: its gradient, given that of
 * the memory's queries, keys and values (data NULL: none). */
void transformer_cell_gain_gradient(struct transformer_cell *c, int64_t j, int tape,
                                    const struct tensor *dmem);
/* Appends the segment's injections to their memories, where that has not been done. */
void transformer_cell_remember_injections(struct transformer_cell *c);
void transformer_cell_remember(struct transformer_cell *c, int64_t j, int tape,
                               const struct tensor *state);
int64_t transformer_cell_memory_length(const struct cell *base);
struct memory *transformer_cell_memory(struct cell *base, int index);

/* Blocks with their own parameters: model.blocks, or the layers of an explicit network. */
int64_t transformer_cell_blocks(const struct config_model *m);
enum status transformer_cell_declare(struct params *p, const struct config_model *m,
                                     struct error *err);
/* Block j's weights: parameters, and effective weights where there is weight normalisation. */
enum status transformer_cell_bind(struct transformer_cell *c, const struct params *p,
                                  const struct config_model *m, int64_t j, struct error *err);

#endif
