/* The solves of either direction, and what takes their place. */
#include "deq/equilibrium.h"

#include "base/mem.h"
#include <math.h>

/* The most plain applications of f in a run, 1 at least. */
static int64_t most_layers(const struct config *config, bool train)
{
    int64_t most = config->model.layers > 0 ? config->model.layers : 1;
    if (!train || config->model.layers > 0)
        return most;
    if (config->gradient.method == GRADIENT_PHANTOM || config->gradient.method == GRADIENT_UNROLL ||
        config->gradient.method == GRADIENT_TRUNCATED)
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

int equilibrium_slots(const struct config *config, bool train)
{
    return (int)unrolled_slots(most_layers(config, train), recomputed(config), train);
}

/* Layers are also what comes behind the solve of a phantom gradient. */
struct lifetime equilibrium_later_slots(const struct config *config)
{
    return lives_on(is_damped(config) ? PATH_ANY : PATH_LAYERS, PHASE_FORWARD, PHASE_REMEMBER);
}

static bool is_reversible(const struct config *config)
{
    return config->model.layers == 0 && config->gradient.method == GRADIENT_REVERSIBLE;
}

bool equilibrium_recomputes(const struct config *config)
{
    return recomputed(config) > 0 || is_reversible(config);
}

bool equilibrium_keeps_all(const struct config *config)
{
    return config->model.layers > 0 || (config->gradient.method != GRADIENT_IMPLICIT &&
                                        config->gradient.method != GRADIENT_ONE_STEP);
}

void equilibrium_free(struct equilibrium *eq)
{
    if (eq == NULL)
        return;
    for (int i = 0; i < DIRECTION_COUNT; i++)
        solver_free(eq->solver[i]);
    unrolled_free(&eq->net);
    mem_free(eq->before);
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
    struct solver_plan plan = {.batch = p->batch,
                               .length = p->length,
                               .width = p->width,
                               .ws = p->ws,
                               .phase = PHASE_FORWARD};
    TRY(solver_create(&eq->solver[DIRECTION_FORWARD], eq->be, &config->solver.forward, &plan, err));
    if (!p->train || eq->gradient.method != GRADIENT_IMPLICIT)
        return STATUS_OK;
    plan.reverse = true;
    plan.phase = PHASE_BACKWARD;
    return solver_create(&eq->solver[DIRECTION_BACKWARD], eq->be, &config->solver.backward, &plan,
                         err);
}

static void declare_state(const struct equilibrium_plan *p, struct tensor *t, const char *name,
                          struct lifetime life, enum memory_part part)
{
    workspace_declare(p->ws, t,
                      &(struct buffer){.name = name,
                                       .dtype = p->ws->be->ops->real,
                                       .ndim = 3,
                                       .dim = {p->batch, p->length, p->width},
                                       .life = life,
                                       .part = part});
}

static enum status plan_states(struct equilibrium *eq, const struct config *config,
                               const struct equilibrium_plan *p, struct error *err)
{
    /* An evaluation takes f as the solver measured it. */
    enum phase known = p->train ? PHASE_OUTPUT : PHASE_FORWARD;
    enum phase last = p->train ? PHASE_REMEMBER : PHASE_UPDATE;
    declare_state(p, &eq->z, "iterate", lives(PHASE_FORWARD, last), PART_ACTIVATIONS);
    if (eq->layers == 0)
        declare_state(p, &eq->f, "output", lives_on(PATH_SOLVE, known, last), PART_ACTIVATIONS);
    if (p->train) {
        declare_state(p, &eq->y, "adjoint", lives(PHASE_BACKWARD, PHASE_GRADIENTS), PART_WORK);
        declare_state(p, &eq->dz, "gradient of a state", lives(PHASE_GRADIENTS, PHASE_GRADIENTS),
                      PART_WORK);
    }
    const struct reversible_plan reversible = {.ws = p->ws,
                                               .batch = p->batch,
                                               .length = p->length,
                                               .width = p->width,
                                               .relaxation = eq->gradient.damping,
                                               .z = &eq->z,
                                               .gradient = {&eq->y, &eq->dz}};
    if (p->train && is_reversible(config))
        reversible_declare(&eq->rev, &reversible);
    struct lifetime states = equilibrium_later_slots(config);
    states.last = last;
    struct unrolled_plan plan = {.ws = p->ws,
                                 .batch = p->batch,
                                 .length = p->length,
                                 .layers = most_layers(config, p->train),
                                 .recompute = recomputed(config),
                                 .untied = config_is_layered(&config->model),
                                 .train = p->train,
                                 .damped = p->train && is_damped(config),
                                 .life = states,
                                 .start = &eq->z,
                                 .gradient = {&eq->y, &eq->dz}};
    return unrolled_create(&eq->net, p->width, &plan, err);
}

enum status equilibrium_create(struct equilibrium **out, const struct config *config,
                               const struct equilibrium_plan *p, struct error *err)
{
    enum status status = STATUS_OK;
    struct equilibrium *eq = NULL;
    *out = NULL;
    TRY(mem_alloc((void **)&eq, 1, sizeof *eq, err));
    eq->be = p->ws->be;
    eq->ws = p->ws;
    eq->layers = config->model.layers;
    eq->gradient = config->gradient;
    eq->start_noise = config->train.start_noise;
    eq->return_z = config->model.compat;
    TRY_OUT(mem_alloc((void **)&eq->before, (size_t)p->batch, sizeof *eq->before, err));
    if (eq->layers == 0)
        TRY_OUT(create_solvers(eq, config, p, err));
    TRY_OUT(plan_states(eq, config, p, err));
    *out = eq;
    return STATUS_OK;
out:
    equilibrium_free(eq);
    return status;
}

void equilibrium_attach(struct equilibrium *eq, struct cell *cell, const struct config *config)
{
    eq->cell = eq->net.cell = eq->rev.cell = cell;
    equilibrium_select_rows(eq, cell->selects_rows && wants_rows(config, cell->be));
}

void equilibrium_set_monitor(struct equilibrium *eq, equilibrium_monitor monitor, void *ctx)
{
    eq->monitor = monitor;
    eq->monitor_ctx = ctx;
}

enum status equilibrium_set_limits(struct equilibrium *eq, enum solve_direction direction,
                                   int64_t max_iter, double tol, enum solve_stop stop,
                                   struct error *err)
{
    if (eq->solver[direction] == NULL)
        return STATUS_OK;
    return solver_set_limits(eq->solver[direction], max_iter, tol, stop, err);
}

void equilibrium_select_rows(struct equilibrium *eq, bool can)
{
    if (eq->solver[DIRECTION_FORWARD] != NULL)
        solver_select_rows(eq->solver[DIRECTION_FORWARD], can);
}

bool equilibrium_solves(const struct equilibrium *eq, enum solve_direction direction)
{
    return eq->solver[direction] != NULL;
}

static enum status apply_cell(void *ctx, const struct tensor *z, const struct tensor *f,
                              const struct tensor *rows, struct error *err)
{
    struct equilibrium *eq = ctx;
    if (eq->monitor != NULL)
        eq->monitor(eq->monitor_ctx, eq->evaluations, z);
    eq->evaluations++;
    if (rows != NULL)
        eq->cell->ops->eval_rows(eq->cell, 0, z, f, rows);
    else
        eq->cell->ops->eval(eq->cell, 0, z, f);
    return backend_check(eq->cell->be, err);
}

/* The positions of a planned [B,L,W] that e [B,L,E] has. */
static struct tensor cut_to(const struct tensor *planned, const struct tensor *e)
{
    return tensor_prefix(planned, 3, e->dim[0], e->dim[1], planned->dim[2], 1);
}

/* Layers instead of a solve, from 0 or, untied, from e. */
static enum status run_layers(struct equilibrium *eq, const struct tensor *e, int64_t layers,
                              bool train, struct error *err)
{
    struct tensor z = cut_to(&eq->z, e);
    if (eq->net.plan.untied)
        op_copy(eq->cell->be, &z, e);
    else
        op_fill(eq->cell->be, &z, 0.0);
    unrolled_run(&eq->net, e->dim[0], e->dim[1], layers, 1.0, train);
    eq->applied = layers;
    eq->applied_mean = (double)layers;
    eq->unrolled = train ? layers : 0;
    eq->state = eq->net.z;
    eq->output = eq->net.h;
    return backend_check(eq->cell->be, err);
}

void equilibrium_begin(struct equilibrium *eq, const struct masks *masks)
{
    eq->masks = *masks;
}

/* The start of a solve, to which each sequence adds noise of its own in training. */
static void set_start(struct equilibrium *eq, const struct tensor *z, const struct tensor *start)
{
    const struct masks *masks = &eq->masks;
    bool noisy = eq->start_noise > 0 && masks->source == MASKS_DRAWN;
    eq->started = true;
    for (int64_t b = 0; b < z->dim[0] && noisy; b++) {
        struct rng_key key = {masks->seed,
                              rng_stream(RNG_START, masks->draw, (uint64_t)(masks->first + b))};
        struct tensor one = tensor_slice(z, b, 1);
        op_fill_normal(eq->be, &one, eq->start_noise, key);
    }
    if (start->data != NULL)
        op_axpby(eq->be, z, 1.0, start, noisy ? 1.0 : 0.0);
    else if (!noisy)
        op_fill(eq->be, z, 0.0);
}

/* Reversible steps instead of a solve. */
static enum status run_reversible(struct equilibrium *eq, const struct tensor *e,
                                  const struct tensor *start, struct error *err)
{
    struct tensor z = cut_to(&eq->z, e);
    set_start(eq, &z, start);
    reversible_run(&eq->rev, e->dim[0], e->dim[1], eq->gradient.steps);
    eq->reversed = true;
    eq->applied = eq->unrolled = 2 * eq->gradient.steps;
    eq->applied_mean = (double)eq->applied;
    eq->state = eq->output = z;
    return backend_check(eq->be, err);
}

/* Plain applications instead of a solve, the last of which are differentiated. */
static enum status run_truncated(struct equilibrium *eq, const struct tensor *e,
                                 const struct tensor *start, struct error *err)
{
    int64_t batch = e->dim[0], length = e->dim[1], steps = eq->gradient.steps;
    struct tensor z = cut_to(&eq->z, e);
    int64_t most = drawn_counts(&eq->gradient, &eq->masks, batch, eq->before);
    set_start(eq, &z, start);
    unrolled_advance(&eq->net, batch, length, eq->before, most);
    unrolled_run(&eq->net, batch, length, steps, 1.0, true);
    eq->applied = most + steps;
    eq->applied_mean = (double)steps;
    for (int64_t b = 0; b < batch; b++)
        eq->applied_mean += (double)eq->before[b] / (double)batch;
    eq->unrolled = steps;
    eq->state = eq->net.z;
    eq->output = eq->net.h;
    return backend_check(eq->be, err);
}

static enum status solve_for_training(struct equilibrium *eq, const struct tensor *z,
                                      const struct tensor *f, struct error *err)
{
    TRY(solver_run(eq->solver[DIRECTION_FORWARD], apply_cell, eq, z, NULL, NULL, err));
    workspace_enter(eq->ws, PHASE_OUTPUT);
    if (eq->gradient.method == GRADIENT_PHANTOM) {
        unrolled_run(&eq->net, z->dim[0], z->dim[1], eq->gradient.steps, eq->gradient.damping,
                     true);
        eq->unrolled = eq->gradient.steps;
        eq->state = eq->net.z;
        eq->output = eq->net.h;
        return STATUS_OK;
    }
    eq->state = *z;
    eq->output = *f;
    eq->cell->ops->eval(eq->cell, 0, &eq->state, &eq->output);
    return STATUS_OK;
}

static enum status solve_for_output(struct equilibrium *eq, const struct tensor *z,
                                    const struct tensor *f, struct error *err)
{
    TRY(solver_run(eq->solver[DIRECTION_FORWARD], apply_cell, eq, z, NULL, eq->return_z ? NULL : f,
                   err));
    workspace_enter(eq->ws, PHASE_OUTPUT);
    eq->state = *z;
    eq->output = eq->return_z ? *z : *f;
    /* The slot holds the last iterate of each position, not its best. */
    if (eq->cell->slot_remembers)
        eq->cell->ops->eval(eq->cell, 0, z, f);
    return STATUS_OK;
}

static enum status solve(struct equilibrium *eq, const struct tensor *e, const struct tensor *start,
                         bool train, struct error *err)
{
    struct tensor z = cut_to(&eq->z, e), f = cut_to(&eq->f, e);
    set_start(eq, &z, start);
    return train ? solve_for_training(eq, &z, &f, err) : solve_for_output(eq, &z, &f, err);
}

enum status equilibrium_solve(struct equilibrium *eq, const struct tensor *e,
                              const struct tensor *start, int64_t layers, bool train,
                              struct error *err)
{
    eq->unrolled = eq->applied = eq->evaluations = 0;
    eq->started = eq->reversed = false;
    if (eq->layers > 0)
        layers = eq->layers;
    else if (layers == 0 && eq->gradient.method == GRADIENT_UNROLL && train)
        layers = eq->gradient.steps;
    workspace_enter(eq->ws, PHASE_FORWARD);
    if (layers > 0)
        TRY(run_layers(eq, e, layers, train, err));
    else if (train && eq->gradient.method == GRADIENT_REVERSIBLE)
        TRY(run_reversible(eq, e, start, err));
    else if (train && eq->gradient.method == GRADIENT_TRUNCATED)
        TRY(run_truncated(eq, e, start, err));
    else
        TRY(solve(eq, e, start, train, err));
    workspace_enter(eq->ws, PHASE_OUTPUT);
    if (eq->cell->ops->end_evals != NULL)
        eq->cell->ops->end_evals(eq->cell);
    return backend_check(eq->be, err);
}

/* y -> y J + dH, at the z* and f of slot 0. */
static enum status apply_adjoint(void *ctx, const struct tensor *y, const struct tensor *f,
                                 const struct tensor *rows, struct error *err)
{
    struct equilibrium *eq = ctx;
    assert(rows == NULL);
    eq->cell->ops->vjp(eq->cell, 0, &eq->state, &eq->output, y, f, false);
    op_axpby(eq->cell->be, f, 1.0, &eq->dh, 1.0);
    return backend_check(eq->cell->be, err);
}

struct equilibrium_point equilibrium_last(const struct equilibrium *eq)
{
    if (eq->reversed)
        return (struct equilibrium_point){0, eq->rev.y, eq->rev.f};
    int last = eq->unrolled > 0 ? (int)eq->unrolled - 1 : 0;
    struct equilibrium_point p = {last, eq->state, eq->output};
    if (eq->unrolled > 0 && eq->net.damping != 1.0)
        p.f = tensor_cut(&eq->net.applied[last], &p.z);
    return p;
}

struct equilibrium_point equilibrium_evaluate(struct equilibrium *eq, const struct tensor *f)
{
    struct equilibrium_point p = {0, eq->state, tensor_cut(f, &eq->state)};
    eq->cell->ops->eval(eq->cell, p.slot, &p.z, &p.f);
    return p;
}

struct tensor equilibrium_state(const struct equilibrium *eq)
{
    return eq->state;
}

struct tensor equilibrium_output(const struct equilibrium *eq)
{
    return eq->output;
}

bool equilibrium_is_solved(const struct equilibrium *eq)
{
    return eq->applied == 0;
}

bool equilibrium_is_started(const struct equilibrium *eq)
{
    return eq->started;
}

int64_t equilibrium_unrolled(const struct equilibrium *eq)
{
    return eq->unrolled;
}

struct tensor equilibrium_adjoint(const struct equilibrium *eq)
{
    return tensor_cut(&eq->y, &eq->state);
}

enum status equilibrium_solve_adjoint(struct equilibrium *eq, const struct tensor *dh,
                                      struct error *err)
{
    struct tensor y = tensor_cut(&eq->y, dh);
    if (eq->unrolled > 0 || eq->gradient.method == GRADIENT_ONE_STEP) {
        op_copy(eq->be, &y, dh);
        return backend_check(eq->be, err);
    }
    eq->dh = *dh;
    op_fill(eq->be, &y, 0.0);
    return solver_run(eq->solver[DIRECTION_BACKWARD], apply_adjoint, eq, &y, dh, NULL, err);
}

void equilibrium_add_cotangent(struct equilibrium *eq, const struct tensor *r,
                               const struct tensor *unwanted)
{
    if (eq->unrolled > 0) {
        struct equilibrium_point at = equilibrium_last(eq);
        eq->cell->ops->vjp(eq->cell, at.slot, &at.z, &at.f, r, unwanted, true);
        return;
    }
    struct tensor y = tensor_cut(&eq->y, r);
    op_axpby(eq->be, &y, 1.0, r, 1.0);
}

enum status equilibrium_propagate(struct equilibrium *eq, const struct tensor *de,
                                  struct error *err)
{
    struct tensor y = tensor_cut(&eq->y, &eq->state), dz = tensor_cut(&eq->dz, &eq->state);
    if (eq->unrolled == 0) {
        eq->cell->ops->vjp(eq->cell, 0, &eq->state, &eq->output, &y, &dz, true);
        return backend_check(eq->be, err);
    }
    if (eq->reversed) {
        reversible_gradient(&eq->rev);
        if (eq->cell->slot_remembers) /* the slot holds the first step now */
            eq->cell->ops->eval(eq->cell, 0, &eq->output, &dz);
        return backend_check(eq->be, err);
    }
    dz = unrolled_gradient(&eq->net,
                           &y); /* the gradient of the start, which is e if layers are untied */
    if (eq->net.plan.untied)
        op_copy(eq->be, de, &dz);
    return backend_check(eq->be, err);
}

void equilibrium_remember(struct equilibrium *eq)
{
    if (!eq->reversed && (eq->applied > 0 || eq->unrolled > 0))
        unrolled_remember(&eq->net);
    else
        eq->cell->ops->remember(eq->cell, 0, &eq->output);
}

static void report_applications(struct solve_report *r, int64_t count, double mean)
{
    *r = (struct solve_report){.evals = count,
                               .evals_mean = mean,
                               .evals_max = count,
                               .paid_mean = (double)count,
                               .rel_mean = NAN,
                               .rel_max = NAN};
}

enum status equilibrium_report(struct equilibrium *eq, struct solve_report *forward,
                               struct solve_report *backward, struct error *err)
{
    if (eq->applied > 0)
        report_applications(forward, eq->applied, eq->applied_mean);
    else
        TRY(solver_report(eq->solver[DIRECTION_FORWARD], forward, err));
    if (backward == NULL)
        return STATUS_OK;
    if (eq->applied == 0 && eq->solver[DIRECTION_BACKWARD] != NULL)
        return solver_report(eq->solver[DIRECTION_BACKWARD], backward, err);
    int64_t backwards = eq->unrolled > 0 ? eq->unrolled : 1;
    report_applications(backward, backwards, (double)backwards);
    return STATUS_OK;
}

void equilibrium_read_positions(struct equilibrium *eq, int32_t *evals, double *residual)
{
    if (eq->applied == 0) {
        solver_read_rows(eq->solver[DIRECTION_FORWARD], evals, residual);
        return;
    }
    for (int64_t i = 0; i < eq->output.dim[0] * eq->output.dim[1]; i++) {
        evals[i] = (int32_t)eq->applied;
        residual[i] = NAN;
    }
}
