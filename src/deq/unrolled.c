/* Runs of layers, their states and slots, and plain back-propagation through them. */
#include "deq/unrolled.h"

#include "base/mem.h"

int64_t unrolled_slots(int64_t layers, int64_t recompute, bool train)
{
    if (!train)
        return 1;
    return recompute > 0 && recompute < layers ? recompute : layers;
}

/* Layers whose slots exist at once. */
static int64_t stretch(const struct unrolled *net)
{
    return unrolled_slots(net->plan.layers, net->plan.recompute, net->plan.train);
}

/* States in front of every stretch, which outlive the stretches. */
static int64_t anchors(const struct unrolled *net)
{
    return (net->plan.layers + stretch(net) - 1) / stretch(net);
}

static bool keeps_all(const struct unrolled *net)
{
    return net->plan.untied || (net->plan.train && stretch(net) == net->plan.layers);
}

static int64_t count_states(const struct unrolled *net)
{
    if (keeps_all(net))
        return net->plan.layers + 1;
    int64_t count = net->plan.train ? anchors(net) + stretch(net) : 2;
    return count < 2 ? 2 : count;
}

static struct tensor cut(const struct tensor *t, int64_t batch, int64_t length)
{
    return tensor_prefix(t, 3, batch, length, t->dim[2], 1);
}

/* Where the input of layer l (or, with l = layers, the output) of the last run lies. With
 * recomputation the anchors come first, then the states inside a stretch, then the output. */
static struct tensor state_of(const struct unrolled *net, int64_t l)
{
    int64_t k = stretch(net), slot = l;
    if (!net->differentiable && !net->plan.untied)
        slot = l % 2;
    else if (!keeps_all(net) && l == net->layers)
        slot = net->states - 1;
    else if (!keeps_all(net))
        slot = l % k == 0 ? l / k : anchors(net) + l % k - 1;
    const struct tensor *state = slot == 0 ? net->plan.start : &net->state[slot];
    return cut(state, net->batch, net->length);
}

static enum status plan_states(struct unrolled *net, int64_t w, struct error *err)
{
    const struct unrolled_plan *p = &net->plan;
    struct buffer b = {.name = "layers: state",
                       .dtype = p->ws->be->ops->real,
                       .ndim = 3,
                       .dim = {p->batch, p->length, w},
                       .life = p->life,
                       .part = PART_ACTIVATIONS};
    TRY(mem_alloc((void **)&net->state, (size_t)net->states, sizeof *net->state, err));
    for (int64_t i = 1; i < net->states; i++)
        workspace_declare(p->ws, &net->state[i], &b);
    if (!p->damped)
        return STATUS_OK;
    TRY(mem_alloc((void **)&net->applied, (size_t)p->layers, sizeof *net->applied, err));
    b.name = "layers: f of a state";
    for (int64_t i = 0; i < p->layers; i++)
        workspace_declare(p->ws, &net->applied[i], &b);
    return STATUS_OK;
}

enum status unrolled_create(struct unrolled *net, int64_t w, const struct unrolled_plan *plan,
                            struct error *err)
{
    assert(plan->layers >= 1 && (!plan->damped || plan->recompute == 0));
    *net = (struct unrolled){.plan = *plan};
    net->states = count_states(net);
    enum status status = plan_states(net, w, err);
    if (status != STATUS_OK)
        unrolled_free(net);
    return status;
}

void unrolled_free(struct unrolled *net)
{
    mem_free(net->state);
    mem_free(net->applied);
    *net = (struct unrolled){0};
}

/* What layer l gives before damping. */
static struct tensor applied_of(const struct unrolled *net, int64_t l)
{
    return net->damping == 1.0 ? state_of(net, l + 1)
                               : cut(&net->applied[l], net->batch, net->length);
}

static void apply(struct unrolled *net, int64_t l)
{
    struct cell *cell = net->cell;
    struct tensor z = state_of(net, l), next = state_of(net, l + 1), f = applied_of(net, l);
    int slot = net->differentiable ? (int)(l % stretch(net)) : 0;
    if (net->plan.untied)
        cell->ops->eval_layer(cell, l, slot, &z, &f);
    else
        cell->ops->eval(cell, slot, &z, &f);
    if (net->damping == 1.0)
        return;
    op_copy(cell->be, &next, &f);
    op_axpby(cell->be, &next, 1.0 - net->damping, &z, net->damping);
}

void unrolled_run(struct unrolled *net, int64_t batch, int64_t length, int64_t layers,
                  double damping, bool train)
{
    assert(layers >= 1 && (layers <= net->plan.layers || !(train || net->plan.untied)));
    assert(!train || net->plan.train);
    assert(!net->plan.untied || net->cell->ops->eval_layer != NULL);
    net->batch = batch;
    net->length = length;
    net->layers = layers;
    net->damping = damping;
    net->differentiable = train;
    for (int64_t l = 0; l < layers; l++)
        apply(net, l);
    net->z = state_of(net, layers - 1);
    net->h = state_of(net, layers);
}

void unrolled_advance(struct unrolled *net, int64_t batch, int64_t length, const int64_t *counts,
                      int64_t most)
{
    struct tensor z = cut(net->plan.start, batch, length), f = cut(&net->state[1], batch, length);
    assert(!net->plan.untied);
    for (int64_t k = 0; k < most; k++) {
        net->cell->ops->eval(net->cell, 0, &z, &f);
        for (int64_t b = 0; b < batch; b++) {
            struct tensor to = tensor_slice(&z, b, 1), from = tensor_slice(&f, b, 1);
            if (counts[b] > k)
                op_copy(net->cell->be, &to, &from);
        }
    }
}

/* What runs backwards is s = t dz, the gradient at f, with s_{l-1} = (1 - t) s_l + t J^T s_l. */
static void differentiate(struct unrolled *net, int64_t l, const struct tensor *from,
                          const struct tensor *to)
{
    struct cell *cell = net->cell;
    struct tensor z = state_of(net, l), f = applied_of(net, l);
    int slot = (int)(l % stretch(net));
    if (net->plan.untied)
        cell->ops->vjp_layer(cell, l, slot, &z, &f, from, to);
    else
        cell->ops->vjp(cell, slot, &z, &f, from, to, true);
    if (net->damping != 1.0)
        op_axpby(cell->be, to, 1.0 - net->damping, from, net->damping);
}

struct tensor unrolled_gradient(struct unrolled *net, const struct tensor *dh)
{
    int64_t k = stretch(net);
    struct tensor from = cut(net->plan.gradient[0], net->batch, net->length);
    struct tensor to = cut(net->plan.gradient[1], net->batch, net->length);
    assert(net->differentiable);
    if (dh->data != from.data || net->damping != 1.0)
        op_axpby(net->cell->be, &from, net->damping, dh, 0.0);
    for (int64_t start = (net->layers - 1) / k * k; start >= 0; start -= k) {
        int64_t end = start + k < net->layers ? start + k : net->layers;
        for (int64_t l = start; l < end && end < net->layers; l++)
            apply(net, l); /* the last stretch still has its slots */
        for (int64_t l = end - 1; l >= start; l--) {
            differentiate(net, l, &from, &to);
            struct tensor swap = from;
            from = to;
            to = swap;
        }
    }
    return from;
}

void unrolled_remember(struct unrolled *net)
{
    struct cell *cell = net->cell;
    if (!net->plan.untied) {
        int64_t last = net->differentiable ? (net->layers - 1) % stretch(net) : 0;
        cell->ops->remember(cell, (int)last, &net->h);
        return;
    }
    for (int64_t l = 0; l < net->layers; l++) {
        struct tensor z = state_of(net, l);
        cell->ops->remember_layer(cell, l, &z);
    }
}
