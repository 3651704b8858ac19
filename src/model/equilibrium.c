#include "model/equilibrium.h"

#include "base/mem.h"

_Static_assert((int)METHOD_BROYDEN == (int)SOLVE_BROYDEN, "methods are listed alike");
_Static_assert((int)CONFIG_BATCH == (int)SCOPE_BATCH, "scopes are listed alike");
_Static_assert((int)CONFIG_STOP_FIXED == (int)STOP_FIXED, "stop rules are listed alike");

struct solver_config equilibrium_solver_config(const struct config_solver *c, bool reverse)
{
    return (struct solver_config){
        .method = (enum solve_method)c->method,
        .scope = (enum scope)c->scope,
        .decay = c->decay,
        .max_iter = c->max_iter,
        .min_iter = c->min_iter,
        .tol = c->tol,
        .stop = (enum solve_stop)c->stop,
        .history = c->history,
        .damping = c->damping,
        .ridge = c->ridge,
        .ridge_relative = c->ridge_mode == RIDGE_REL,
        .line_search = c->line_search,
        .stall = c->stall,
        .reverse = reverse,
    };
}

int equilibrium_tapes(const struct config *config, bool train)
{
    int64_t tapes = 1;
    if (!train)
        return 1;
    if (config->gradient.method == GRADIENT_PHANTOM || config->gradient.method == GRADIENT_UNROLL)
        tapes = config->gradient.steps;
    if (config->train.pretrain_steps > 0 && config->train.pretrain_layers > tapes)
        tapes = config->train.pretrain_layers;
    return (int)tapes;
}

void equilibrium_free(struct equilibrium *eq)
{
    if (eq == NULL)
        return;
    struct backend *be = eq->cell->be;
    solver_free(eq->backward); /* it borrows from the forward solver */
    solver_free(eq->forward);
    for (int i = 0; i <= eq->tapes && eq->state != NULL; i++)
        op_release(be, &eq->state[i]);
    for (int i = 0; i < eq->tapes && eq->applied != NULL; i++)
        op_release(be, &eq->applied[i]);
    op_release(be, &eq->dstate[0]);
    op_release(be, &eq->dstate[1]);
    mem_free(eq->state);
    mem_free(eq->applied);
    mem_free(eq);
}

static enum status plan_states(struct equilibrium *eq, int64_t batch, int64_t length, bool train,
                               struct error *err)
{
    struct backend *be = eq->cell->be;
    enum dtype real = be->ops->real;
    int64_t w = eq->cell->width;
    TRY(mem_alloc((void **)&eq->state, (size_t)eq->tapes + 1, sizeof *eq->state, err));
    for (int i = 0; i <= eq->tapes; i++)
        TRY(op_alloc(be, &eq->state[i], real, 3, batch, length, w, 1, err));
    if (!train)
        return STATUS_OK;
    for (int i = 0; i < 2; i++)
        TRY(op_alloc(be, &eq->dstate[i], real, 3, batch, length, w, 1, err));
    if (eq->method != GRADIENT_PHANTOM)
        return STATUS_OK;
    TRY(mem_alloc((void **)&eq->applied, (size_t)eq->tapes, sizeof *eq->applied, err));
    for (int i = 0; i < eq->tapes; i++)
        TRY(op_alloc(be, &eq->applied[i], real, 3, batch, length, w, 1, err));
    return STATUS_OK;
}

enum status equilibrium_create(struct equilibrium **out, struct cell *cell,
                               const struct config *config, int64_t batch, int64_t length,
                               bool train, struct error *err)
{
    enum status status = STATUS_OK;
    struct equilibrium *eq = NULL;
    *out = NULL;
    TRY(mem_alloc((void **)&eq, 1, sizeof *eq, err));
    eq->cell = cell;
    eq->method = config->gradient.method;
    eq->steps = config->gradient.steps;
    eq->damping = config->gradient.damping;
    eq->return_z = config->model.compat;
    eq->tapes = equilibrium_tapes(config, train);
    TRY_OUT(plan_states(eq, batch, length, train, err));
    struct solver_config forward = equilibrium_solver_config(&config->solver.forward, false);
    TRY_OUT(solver_create(&eq->forward, cell->be, &forward, batch, length, cell->width, NULL, err));
    if (train && eq->method == GRADIENT_IMPLICIT) {
        struct solver_config backward = equilibrium_solver_config(&config->solver.backward, true);
        TRY_OUT(solver_create(&eq->backward, cell->be, &backward, batch, length, cell->width,
                              eq->forward, err));
    }
    *out = eq;
    return STATUS_OK;
out:
    equilibrium_free(eq);
    return status;
}

static struct tensor cut(const struct tensor *t, int64_t batch, int64_t length)
{
    return tensor_prefix(t, 3, batch, length, t->dim[2], 1);
}

static enum status apply_cell(void *ctx, const struct tensor *z, const struct tensor *f,
                              struct error *err)
{
    struct equilibrium *eq = ctx;
    eq->cell->ops->eval(eq->cell, 0, z, f);
    return backend_check(eq->cell->be, err);
}

/* The key of a solve whose map reads the cell and these tensors; see solver_set_map_key. */
static uint64_t solve_key(const struct equilibrium *eq, const struct tensor *const *read, int count)
{
    if (eq->cell->ops->map_key == NULL)
        return 0;
    uint64_t key = eq->cell->ops->map_key(eq->cell);
    for (int i = 0; i < count; i++)
        key = solver_key_add(key, (uint64_t)(uintptr_t)read[i]->data);
    return key;
}

/* Layers from 0 without a gradient to follow: one tape, two states in turn. */
static void apply_layers(struct equilibrium *eq, int64_t batch, int64_t length, int64_t layers)
{
    struct tensor pair[2] = {cut(&eq->state[0], batch, length), cut(&eq->state[1], batch, length)};
    op_fill(eq->cell->be, &pair[0], 0.0);
    for (int64_t i = 0; i < layers; i++)
        eq->cell->ops->eval(eq->cell, 0, &pair[i % 2], &pair[(i + 1) % 2]);
    eq->z = pair[(layers + 1) % 2];
    eq->h = pair[layers % 2];
}

/* `count` applications from state 0, each with its own tape: z_{i+1} = t f(z_i) + (1-t) z_i. */
static void apply_taped(struct equilibrium *eq, int64_t batch, int64_t length, int64_t count,
                        double damping)
{
    assert(count <= eq->tapes);
    eq->unrolled = count;
    eq->unroll_damping = damping;
    for (int i = 0; i < count; i++) {
        struct tensor z = cut(&eq->state[i], batch, length);
        struct tensor next = cut(&eq->state[i + 1], batch, length);
        if (damping == 1.0) {
            eq->cell->ops->eval(eq->cell, i, &z, &next);
            continue;
        }
        struct tensor f = cut(&eq->applied[i], batch, length);
        eq->cell->ops->eval(eq->cell, i, &z, &f);
        op_copy(eq->cell->be, &next, &f);
        op_axpby(eq->cell->be, &next, 1.0 - damping, &z, damping);
    }
    eq->z = cut(&eq->state[count - 1], batch, length);
    eq->h = cut(&eq->state[count], batch, length);
}

static enum status solve_for_training(struct equilibrium *eq, int64_t batch, int64_t length,
                                      struct error *err)
{
    struct tensor z = cut(&eq->state[0], batch, length);
    solver_set_map_key(eq->forward, solve_key(eq, NULL, 0));
    TRY(solver_run(eq->forward, apply_cell, eq, &z, NULL, NULL, err));
    if (eq->method == GRADIENT_PHANTOM) {
        apply_taped(eq, batch, length, eq->steps, eq->damping);
        return STATUS_OK;
    }
    eq->z = z;
    eq->h = cut(&eq->state[1], batch, length);
    eq->cell->ops->eval(eq->cell, 0, &eq->z, &eq->h);
    return STATUS_OK;
}

enum status equilibrium_solve(struct equilibrium *eq, int64_t batch, int64_t length, int64_t layers,
                              bool train, struct error *err)
{
    struct tensor z = cut(&eq->state[0], batch, length);
    eq->unrolled = 0;
    if (layers == 0 && eq->method == GRADIENT_UNROLL && train)
        layers = eq->steps;
    if (layers > 0 && !train) {
        apply_layers(eq, batch, length, layers);
        return backend_check(eq->cell->be, err);
    }
    op_fill(eq->cell->be, &z, 0.0);
    if (layers > 0) {
        apply_taped(eq, batch, length, layers, 1.0);
        return backend_check(eq->cell->be, err);
    }
    if (train)
        return solve_for_training(eq, batch, length, err);
    struct tensor f = cut(&eq->state[1], batch, length);
    solver_set_map_key(eq->forward, solve_key(eq, NULL, 0));
    TRY(solver_run(eq->forward, apply_cell, eq, &z, NULL, eq->return_z ? NULL : &f, err));
    eq->z = z;
    eq->h = eq->return_z ? z : f;
    /* the tape holds the last iterate of each position, not its best */
    if (eq->cell->tape_remembers) {
        eq->cell->ops->eval(eq->cell, 0, &z, &f);
        return backend_check(eq->cell->be, err);
    }
    return STATUS_OK;
}

/* y -> y J + dH, at the z* and f of tape 0. */
static enum status apply_adjoint(void *ctx, const struct tensor *y, const struct tensor *f,
                                 struct error *err)
{
    struct equilibrium *eq = ctx;
    eq->cell->ops->vjp(eq->cell, 0, &eq->z, &eq->h, y, f, false);
    op_axpby(eq->cell->be, f, 1.0, &eq->dh, 1.0);
    return backend_check(eq->cell->be, err);
}

/* Plain back-propagation through the taped applications z_{i+1} = t f(z_i) + (1-t) z_i. What runs
 * backwards is s_i = t dz_i, the gradient at f: s_{i-1} = (1-t) s_i + t J^T s_i; what reaches the
 * first state is dropped. */
static void unroll_gradient(struct equilibrium *eq)
{
    struct backend *be = eq->cell->be;
    int64_t batch = eq->dh.dim[0], length = eq->dh.dim[1];
    double t = eq->unroll_damping;
    struct tensor from = cut(&eq->dstate[0], batch, length);
    struct tensor to = cut(&eq->dstate[1], batch, length);
    op_axpby(be, &from, t, &eq->dh, 0.0);
    for (int i = (int)eq->unrolled - 1; i >= 0; i--) {
        struct tensor z = cut(&eq->state[i], batch, length);
        struct tensor f = cut(t == 1.0 ? &eq->state[i + 1] : &eq->applied[i], batch, length);
        eq->cell->ops->vjp(eq->cell, i, &z, &f, &from, &to, true);
        if (t != 1.0)
            op_axpby(be, &to, 1.0 - t, &from, t);
        struct tensor swap = from;
        from = to;
        to = swap;
    }
}

enum status equilibrium_gradient(struct equilibrium *eq, const struct tensor *dh, struct error *err)
{
    struct backend *be = eq->cell->be;
    int64_t batch = dh->dim[0], length = dh->dim[1];
    eq->dh = *dh;
    if (eq->unrolled > 0) {
        unroll_gradient(eq);
        return backend_check(be, err);
    }
    struct tensor y = cut(&eq->dstate[0], batch, length), dz = cut(&eq->dstate[1], batch, length);
    if (eq->method == GRADIENT_ONE_STEP) {
        op_copy(be, &y, dh);
    } else {
        const struct tensor *const read[] = {&eq->z, &eq->h, &eq->dh};
        op_fill(be, &y, 0.0);
        solver_set_map_key(eq->backward, solve_key(eq, read, 3));
        TRY(solver_run(eq->backward, apply_adjoint, eq, &y, dh, NULL, err));
    }
    eq->cell->ops->vjp(eq->cell, 0, &eq->z, &eq->h, &y, &dz, true);
    return backend_check(be, err);
}
