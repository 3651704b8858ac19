#include "deq/equilibrium.h"

#include "base/mem.h"
#include <math.h>

_Static_assert((int)METHOD_BROYDEN == (int)SOLVE_BROYDEN, "methods are listed alike");
_Static_assert((int)CONFIG_BATCH == (int)SCOPE_BATCH, "scopes are listed alike");
_Static_assert((int)CONFIG_STOP_FIXED == (int)STOP_FIXED, "stop rules are listed alike");

/* The solver's settings as the configuration says them. */
static struct solver_config solver_config_of(const struct config_solver *c, bool reverse)
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

/* The most plain applications of f in a run, 1 at least. */
static int64_t most_layers(const struct config *config, bool train)
{
    int64_t most = config->model.layers > 0 ? config->model.layers : 1;
    if (!train || config->model.layers > 0)
        return most;
    if (config->gradient.method == GRADIENT_PHANTOM || config->gradient.method == GRADIENT_UNROLL)
        most = config->gradient.steps;
    if (config->train.pretrain_steps > 0 && config->train.pretrain_layers > most)
        most = config->train.pretrain_layers;
    return most;
}

static bool is_damped(const struct config *config)
{
    return config->model.layers == 0 && config->gradient.method == GRADIENT_PHANTOM;
}

static int64_t recomputed(const struct config *config)
{
    return is_damped(config) ? 0 : config->gradient.recompute;
}

int equilibrium_tapes(const struct config *config, bool train)
{
    return (int)unrolled_tapes(most_layers(config, train), recomputed(config), train);
}

bool equilibrium_one_vjp(const struct config *config, bool train)
{
    return most_layers(config, train) == 1;
}

bool equilibrium_evals_end(const struct config *config)
{
    return recomputed(config) == 0;
}

bool equilibrium_keeps_all(const struct config *config)
{
    return config->model.layers > 0 || config->gradient.method == GRADIENT_PHANTOM ||
           config->gradient.method == GRADIENT_UNROLL;
}

void equilibrium_free(struct equilibrium *eq)
{
    if (eq == NULL)
        return;
    solver_free(eq->backward); /* it borrows from the forward solver */
    solver_free(eq->forward);
    unrolled_free(&eq->net);
    mem_free(eq);
}

/* Whether positions that have stopped are left out. */
static bool wants_rows(const struct config *config, const struct backend *be)
{
    if (config->solver.forward_rows == CONFIG_ROWS_AUTO)
        return be->batch_invariant && be->precision == PRECISION_FP32;
    return config->solver.forward_rows == CONFIG_ROWS_ACTIVE;
}

static enum status create_solvers(struct equilibrium *eq, const struct config *config,
                                  const struct equilibrium_plan *p, struct error *err)
{
    struct solver_config forward = solver_config_of(&config->solver.forward, false);
    struct solver_plan plan = {.batch = p->batch, .length = p->length, .width = p->width};
    TRY(solver_create(&eq->forward, eq->be, &forward, &plan, err));
    if (p->train && eq->method == GRADIENT_IMPLICIT) {
        struct solver_config backward = solver_config_of(&config->solver.backward, true);
        plan.lender = eq->forward;
        TRY(solver_create(&eq->backward, eq->be, &backward, &plan, err));
    }
    solver_lend(eq->forward, eq->backward, &eq->idle);
    return STATUS_OK;
}

enum status equilibrium_create(struct equilibrium **out, struct backend *be,
                               const struct config *config, const struct equilibrium_plan *p,
                               struct error *err)
{
    enum status status = STATUS_OK;
    struct equilibrium *eq = NULL;
    *out = NULL;
    TRY(mem_alloc((void **)&eq, 1, sizeof *eq, err));
    eq->be = be;
    eq->layers = config->model.layers;
    eq->method = config->gradient.method;
    eq->steps = config->gradient.steps;
    eq->damping = config->gradient.damping;
    eq->return_z = config->model.compat;
    size_t before = be->bytes;
    if (eq->layers == 0)
        TRY_OUT(create_solvers(eq, config, p, err));
    eq->solver_bytes = be->bytes - before;
    *out = eq;
    return STATUS_OK;
out:
    equilibrium_free(eq);
    return status;
}

enum status equilibrium_plan_states(struct equilibrium *eq, const struct config *config,
                                    const struct equilibrium_plan *p, struct error *err)
{
    struct unrolled_plan plan = {.batch = p->batch,
                                 .length = p->length,
                                 .layers = most_layers(config, p->train),
                                 .recompute = recomputed(config),
                                 .untied = config_is_layered(&config->model),
                                 .train = p->train,
                                 .damped = p->train && is_damped(config),
                                 .idle = &eq->idle};
    return unrolled_create(&eq->net, eq->be, p->width, &plan, err);
}

void equilibrium_attach(struct equilibrium *eq, struct cell *cell, const struct config *config)
{
    eq->cell = eq->net.cell = cell;
    if (eq->forward != NULL)
        solver_select_rows(eq->forward, cell->selects_rows && wants_rows(config, cell->be));
}

static enum status apply_cell(void *ctx, const struct tensor *z, const struct tensor *f,
                              const struct tensor *rows, struct error *err)
{
    struct equilibrium *eq = ctx;
    const struct config_list *at = eq->keep_at;
    if (at != NULL && eq->kept_count < at->count && eq->calls == at->value[eq->kept_count]) {
        struct tensor to = tensor_cut(&eq->kept[eq->kept_count++], z);
        op_copy(eq->cell->be, &to, z);
    }
    eq->calls++;
    if (rows != NULL)
        eq->cell->ops->eval_rows(eq->cell, 0, z, f, rows);
    else
        eq->cell->ops->eval(eq->cell, 0, z, f);
    return backend_check(eq->cell->be, err);
}

/* Layers instead of a solve, from 0 or, untied, from e. */
static enum status run_layers(struct equilibrium *eq, const struct tensor *e, int64_t layers,
                              bool train, struct error *err)
{
    struct tensor z = unrolled_state(&eq->net, 0, e->dim[0], e->dim[1]);
    if (eq->net.plan.untied)
        op_copy(eq->cell->be, &z, e);
    else
        op_fill(eq->cell->be, &z, 0.0);
    unrolled_run(&eq->net, e->dim[0], e->dim[1], layers, 1.0, train);
    eq->applied = layers;
    eq->unrolled = train ? layers : 0;
    eq->z = eq->net.z;
    eq->h = eq->net.h;
    return backend_check(eq->cell->be, err);
}

static enum status solve_for_training(struct equilibrium *eq, const struct tensor *z,
                                      const struct tensor *f, struct error *err)
{
    TRY(solver_run(eq->forward, apply_cell, eq, z, NULL, NULL, err));
    if (eq->method == GRADIENT_PHANTOM) {
        unrolled_run(&eq->net, z->dim[0], z->dim[1], eq->steps, eq->damping, true);
        eq->unrolled = eq->steps;
        eq->z = eq->net.z;
        eq->h = eq->net.h;
        return STATUS_OK;
    }
    eq->z = *z;
    eq->h = *f;
    eq->cell->ops->eval(eq->cell, 0, &eq->z, &eq->h);
    return STATUS_OK;
}

static enum status solve_for_output(struct equilibrium *eq, const struct tensor *z,
                                    const struct tensor *f, struct error *err)
{
    TRY(solver_run(eq->forward, apply_cell, eq, z, NULL, eq->return_z ? NULL : f, err));
    eq->z = *z;
    eq->h = eq->return_z ? *z : *f;
    /* the tape holds the last iterate of each position, not its best */
    if (eq->cell->tape_remembers) {
        eq->cell->ops->eval(eq->cell, 0, z, f);
        return backend_check(eq->cell->be, err);
    }
    return STATUS_OK;
}

enum status equilibrium_solve(struct equilibrium *eq, const struct tensor *e,
                              const struct tensor *start, int64_t layers, bool train,
                              struct error *err)
{
    eq->unrolled = eq->applied = eq->calls = eq->kept_count = 0;
    if (eq->layers > 0)
        layers = eq->layers;
    else if (layers == 0 && eq->method == GRADIENT_UNROLL && train)
        layers = eq->steps;
    if (layers > 0)
        return run_layers(eq, e, layers, train, err);
    struct tensor z = unrolled_state(&eq->net, 0, e->dim[0], e->dim[1]);
    struct tensor f = unrolled_state(&eq->net, 1, e->dim[0], e->dim[1]);
    if (start->data != NULL)
        op_copy(eq->cell->be, &z, start);
    else
        op_fill(eq->cell->be, &z, 0.0);
    return train ? solve_for_training(eq, &z, &f, err) : solve_for_output(eq, &z, &f, err);
}

/* y -> y J + dH, at the z* and f of tape 0. */
static enum status apply_adjoint(void *ctx, const struct tensor *y, const struct tensor *f,
                                 const struct tensor *rows, struct error *err)
{
    struct equilibrium *eq = ctx;
    assert(rows == NULL);
    eq->cell->ops->vjp(eq->cell, 0, &eq->z, &eq->h, y, f, false);
    op_axpby(eq->cell->be, f, 1.0, &eq->dh, 1.0);
    return backend_check(eq->cell->be, err);
}

struct equilibrium_point equilibrium_last(const struct equilibrium *eq)
{
    int last = eq->unrolled > 0 ? (int)eq->unrolled - 1 : 0;
    struct equilibrium_point p = {last, eq->z, eq->h};
    if (eq->unrolled > 0 && eq->net.damping != 1.0)
        p.f = tensor_cut(&eq->net.applied[last], &p.z);
    return p;
}

enum status equilibrium_gradient(struct equilibrium *eq, const struct tensor *dh,
                                 const struct tensor *de, const struct tensor *also,
                                 struct error *err)
{
    assert(also == NULL || eq->unrolled == 0);
    struct backend *be = eq->cell->be;
    if (eq->cell->ops->end_evals != NULL)
        eq->cell->ops->end_evals(eq->cell);
    if (eq->unrolled > 0) {
        struct tensor dz = unrolled_gradient(&eq->net, dh); /* of 0: nobody's, or of e */
        if (eq->net.plan.untied)
            op_copy(be, de, &dz);
        return backend_check(be, err);
    }
    eq->dh = *dh;
    struct tensor y = tensor_cut(&eq->net.dstate[0], dh);
    struct tensor dz = tensor_cut(&eq->net.dstate[1], dh);
    if (eq->method == GRADIENT_ONE_STEP) {
        op_copy(be, &y, dh);
    } else {
        op_fill(be, &y, 0.0);
        TRY(solver_run(eq->backward, apply_adjoint, eq, &y, dh, NULL, err));
    }
    if (also != NULL)
        op_axpby(be, &y, 1.0, also, 1.0);
    eq->cell->ops->vjp(eq->cell, 0, &eq->z, &eq->h, &y, &dz, true);
    return backend_check(be, err);
}

void equilibrium_remember(struct equilibrium *eq)
{
    if (eq->applied > 0 || eq->unrolled > 0)
        unrolled_remember(&eq->net);
    else
        eq->cell->ops->remember(eq->cell, 0, &eq->h);
}

static void report_applications(struct solve_report *r, int64_t count)
{
    *r = (struct solve_report){.evals = count,
                               .evals_mean = (double)count,
                               .evals_max = count,
                               .paid_mean = (double)count,
                               .rel_mean = NAN,
                               .rel_max = NAN};
}

enum status equilibrium_report(struct equilibrium *eq, struct solve_report *forward,
                               struct solve_report *backward, struct error *err)
{
    if (eq->applied > 0)
        report_applications(forward, eq->applied);
    else
        TRY(solver_report(eq->forward, forward, err));
    if (backward == NULL)
        return STATUS_OK;
    if (eq->applied == 0 && eq->backward != NULL)
        return solver_report(eq->backward, backward, err);
    report_applications(backward, eq->unrolled > 0 ? eq->unrolled : 1);
    return STATUS_OK;
}

enum status equilibrium_set_limits(struct equilibrium *eq, int64_t max_iter, double tol,
                                   enum solve_stop stop, struct error *err)
{
    if (eq->forward == NULL)
        return STATUS_OK;
    return solver_set_limits(eq->forward, max_iter, tol, stop, err);
}
